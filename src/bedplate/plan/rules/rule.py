"""The engine of all rules: what a rule is, what it returns, and how two rules do not report the same thing.

A rule judges a subject (a machine, a build host) and returns a Result for each thing that it is about. Where another rule
tells the same with more detail, the result names that rule, and judge_rules leaves the result out of the findings. The
engine knows no rule and no subject: a new family of rules changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from bedplate.model.facts.finding import Evidence, Finding

SubjectT = TypeVar("SubjectT")
SubjectT_contra = TypeVar("SubjectT_contra", contravariant=True)


class Outcome(StrEnum):
    """What judging came to.

    HOLDS and DOES_NOT_HOLD need something that was read, or is known to be absent; all else is one of the others.
    """

    HOLDS = "holds"
    DOES_NOT_HOLD = "does-not-hold"
    REPORTED = "reported"
    """Read, with nothing to compare it with."""
    DOES_NOT_APPLY = "does-not-apply"
    UNKNOWN = "unknown"
    NOT_EVALUABLE = "not-evaluable"
    """Facts cannot decide it, on any machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a rule concluded about one thing. The families add fields in subclasses; the engine reads only these."""

    id: str
    """Stable id of the rule, and of its findings: "cores.too-few", "knob.cpu.smt". A function may return several ids."""
    outcome: Outcome
    because: str
    """One sentence: what is wrong, with the names and numbers of the subject, or why nothing could be concluded."""
    where: tuple[str, ...] = ()
    """What it is about: PCI addresses, "pid 4711", a path, "machine"; () for the rule as a whole."""
    evidence: tuple[Evidence, ...] = ()
    """What was read; () when nothing was."""
    told_by: tuple[str, ...] = ()
    """Ids of rules that tell it with more detail: where one of them does not hold, this is in no finding."""
    denied: bool = False
    """Whether a user with more rights would know."""


class Rule(Protocol[SubjectT_contra]):
    """Something that should hold of a subject, and how its failure is reported."""

    def judge(self, subject: SubjectT_contra) -> Iterable[Result]:
        """A result for each thing that the rule is about; may be empty. Raises nothing for facts that are not known."""

    def report(self, subject: SubjectT_contra, results: Sequence[Result]) -> Iterable[Finding]:
        """Findings made of its own results of the same subject: those that no other rule tells better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """All that a set of rules says of one subject, in the order of the rules."""

    results: tuple[Result, ...]
    """Also those that other rules tell better, and those that hold."""
    reports: tuple[tuple[Finding, ...], ...]
    """The findings of each rule."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all rules."""
        return tuple(finding for findings in self.reports for finding in findings)

    @property
    def not_judged(self) -> tuple[Result, ...]:
        """Results that came to nothing, because a fact is not known or no fact could decide."""
        return tuple(result for result in self.results if result.outcome in (Outcome.UNKNOWN, Outcome.NOT_EVALUABLE))


def judge_rules(rules: Iterable[Rule[SubjectT]], subject: SubjectT) -> Conclusion:
    """Judge every rule, then report each failure once.

    A result is left out where a rule that its `told_by` names does not hold, even if that rule itself makes no finding. So
    the order of the rules does not decide which of two is heard.
    """
    judged = [(rule, tuple(rule.judge(subject))) for rule in rules]
    results = tuple(result for _, those in judged for result in those)
    failed = frozenset(result.id for result in results if result.outcome is Outcome.DOES_NOT_HOLD)
    reports = tuple(
        tuple(rule.report(subject, tuple(result for result in those if failed.isdisjoint(result.told_by))))
        for rule, those in judged
    )
    return Conclusion(results=results, reports=reports)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """Whether a condition of a rule is met, and why; `holds` is None when the facts that it needs are not known."""

    holds: bool | None
    because: str


def find_unmet(answers: Iterable[ConditionResult]) -> tuple[Outcome, str] | None:
    """Why conditions keep a rule from being judged; None when all are met. One "no" decides, whatever else is not known."""
    listed = list(answers)
    for holds_not, outcome in ((False, Outcome.DOES_NOT_APPLY), (None, Outcome.UNKNOWN)):
        for answer in listed:
            if answer.holds is holds_not:
                return outcome, answer.because
    return None
