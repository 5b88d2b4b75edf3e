"""The engine of all rules: what is reported once, what counts as not judged, and that a new family needs no change of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from tests.unit.facts_factory import make_facts

from bedplate.catalog.findings import read_findings
from bedplate.catalog.knobs import read_knobs
from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.reading import known
from bedplate.model.knob import Check
from bedplate.model.knob_value import Compare, Parse
from bedplate.plan.rules.machine import JudgedMachine, make_machine
from bedplate.plan.rules.rows.judge import judge_checks
from bedplate.plan.rules.rows.knobs import make_knob_rules
from bedplate.plan.rules.rule import ConditionResult, Outcome, Result, find_unmet, judge_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """A subject of a family that the engine has never heard of: names and versions of a stack."""

    versions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastVersion:
    """A rule of that family: a package is at least of a version."""

    package: str
    least: int
    told_by: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"stack.{self.package}-{self.least}"

    def judge(self, subject: Versions) -> Iterable[Result]:
        version = subject.versions.get(self.package)
        if version is None:
            yield Result(id=self.id, outcome=Outcome.UNKNOWN, because=f"the version of {self.package} is not known")
        elif version < self.least:
            because = f"{self.package} is {version}"
            yield Result(id=self.id, outcome=Outcome.DOES_NOT_HOLD, because=because, told_by=self.told_by)
        else:
            yield Result(id=self.id, outcome=Outcome.HOLDS, because=f"{self.package} is {version}")

    def report(self, subject: Versions, results: Sequence[Result]) -> Iterable[Finding]:
        for result in results:
            if result.outcome is Outcome.DOES_NOT_HOLD:
                yield Finding(
                    id=self.id,
                    severity=Severity.LOW,
                    title=result.because,
                    where=(self.package,),
                    evidence=result.evidence,
                    effect="no evidence",
                    fix=(f"# Install {self.package} {self.least}.",),
                    undo=("# Install the old one.",),
                    confidence=Confidence.CERTAIN,
                    rank=1.0,
                )


OLD = Versions(versions={"driver": 4})


def ids(rules: Iterable[LeastVersion], subject: Versions) -> list[str]:
    return [finding.id for finding in judge_rules(rules, subject).findings]


def test_a_family_of_its_own_is_judged_and_reported_in_the_order_of_its_rules() -> None:
    rules = (
        LeastVersion(package="driver", least=6),
        LeastVersion(package="driver", least=5),
        LeastVersion(package="driver", least=4),
    )
    assert ids(rules, OLD) == ["stack.driver-6", "stack.driver-5"]
    assert [result.outcome for result in judge_rules(rules, OLD).results] == [
        Outcome.DOES_NOT_HOLD,
        Outcome.DOES_NOT_HOLD,
        Outcome.HOLDS,
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A row of a family that judges machines by the same checks and conditions as knobs."""

    id: str
    check: tuple[Check, ...]
    when: tuple[str, ...]

    def judge(self, subject: JudgedMachine) -> Iterable[Result]:
        return judge_checks(self.id, self.check, subject.facts, subject.files, when=self.when)

    def report(self, subject: JudgedMachine, results: Sequence[Result]) -> Iterable[Finding]:
        return ()


@pytest.mark.parametrize(
    ("text", "when", "expected"),
    [
        ("1", (), Outcome.HOLDS),
        ("0", (), Outcome.DOES_NOT_HOLD),
        ("0", ("is_vm",), Outcome.DOES_NOT_APPLY),
    ],
)
def test_rows_of_another_family_share_checks_and_conditions(text: str, when: tuple[str, ...], expected: Outcome) -> None:
    path = "/proc/sys/kernel/kptr_restrict"
    check = Check(paths=(path,), parse=Parse.NUMBER, compare=Compare.AT_LEAST, want=("1",))
    control = Control(id="control.kptr", check=(check,), when=when)
    (result,) = judge_rules((control,), make_machine(make_facts(knobs=(known(text, path),)))).results
    assert (result.id, result.outcome) == ("control.kptr", expected)


def test_what_is_not_known_is_no_finding_and_is_told_as_not_judged() -> None:
    concluded = judge_rules((LeastVersion(package="cuda", least=13),), OLD)
    assert concluded.findings == ()
    assert [result.because for result in concluded.not_judged] == ["the version of cuda is not known"]


def test_a_failure_that_another_rule_tells_better_is_reported_once_whatever_the_order() -> None:
    better = LeastVersion(package="driver", least=6)
    worse = LeastVersion(package="driver", least=5, told_by=(better.id,))
    for rules in itertools.permutations((better, worse)):
        assert ids(rules, OLD) == [better.id]
        failed = [result for result in judge_rules(rules, OLD).results if result.outcome is Outcome.DOES_NOT_HOLD]
        assert len(failed) == 2  # both are known; one is reported


def test_a_rule_that_holds_tells_nothing() -> None:
    better = LeastVersion(package="driver", least=3)
    worse = LeastVersion(package="driver", least=5, told_by=(better.id, "stack.not-judged-here"))
    assert ids((better, worse), OLD) == [worse.id]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((), None),
        ((True, True), None),
        ((True, None), Outcome.UNKNOWN),
        ((None, False), Outcome.DOES_NOT_APPLY),  # one no decides, whatever else is not known
    ],
)
def test_conditions_keep_a_rule_from_being_judged(answers: tuple[bool | None, ...], expected: Outcome | None) -> None:
    unmet = find_unmet(ConditionResult(holds=holds, because=str(holds)) for holds in answers)
    assert (unmet[0] if unmet is not None else None) is expected


def test_no_rule_of_a_machine_is_told_by_itself_or_in_a_circle() -> None:
    """Two rules that each leave the report to the other would both be silent."""
    told_by = {
        rule.id: {
            *(id for check in rule.knob.check for id in check.told_by),
            *((f"knob.{rule.right_form.id}",) if rule.right_form is not None else ()),
        }
        for rule in make_knob_rules(read_knobs())
    }
    checks = {row.id for row in read_findings()}  # functions name no other rule
    for id, others in told_by.items():
        assert id not in others
        for other in others - checks:
            assert told_by[other] <= checks, f"{id} is told by {other}, and that by another row"
