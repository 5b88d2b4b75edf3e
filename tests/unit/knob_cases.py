"""What tests of knobs share: the catalog, readings of files, and rows judged and told by the engine of all rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tests.unit.facts_factory import (
    make_cgroup,
)

from bedplate.catalog.knobs import read_knobs
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.knob import Knob
from bedplate.plan.rules.machine import JudgedMachine, make_machine
from bedplate.plan.rules.rows.knobs import make_knob_rules
from bedplate.plan.rules.rule import Outcome, Result, Rule, judge_rules

KNOBS = read_knobs()
CPUFREQ = "/sys/devices/system/cpu/cpufreq"
IN_SLICE = make_cgroup(path="/inference.slice/vllm.service")


def files(**texts: str | Unknown) -> tuple[Reading[str], ...]:
    """Readings of sysctls, vm_swappiness="60"; None of a name that begins with "_"."""
    return readings({f"/proc/sys/{name.replace('_', '/', 1)}": text for name, text in texts.items()})


def readings(texts: dict[str, str | Unknown]) -> tuple[Reading[str], ...]:
    return tuple(missing(text, path) if isinstance(text, Unknown) else known(text, path) for path, text in texts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRules:
    """Rules of another family that do not hold, and whose findings are of no interest."""

    ids: Collection[str]

    def judge(self, subject: JudgedMachine) -> Iterable[Result]:
        return [Result(id=id, outcome=Outcome.DOES_NOT_HOLD, because="it failed") for id in self.ids]

    def report(self, subject: JudgedMachine, results: Sequence[Result]) -> Iterable[Finding]:
        return ()


def judge_knobs(facts: HostFacts, knobs: Iterable[Knob]) -> tuple[Result, ...]:
    """Each row as a whole, in the order of the rows."""
    machine = make_machine(facts)
    return tuple(rule.judge_whole(machine) for rule in make_knob_rules(knobs))


def audit_knobs(facts: HostFacts, knobs: Iterable[Knob], *, failed: Collection[str] = ()) -> tuple[Finding, ...]:
    """Findings of the rows, most expected effect first, where other rules have failed too."""
    rules: tuple[Rule[JudgedMachine], ...] = (FailedRules(ids=failed), *make_knob_rules(knobs))
    findings = judge_rules(rules, make_machine(facts)).findings
    return tuple(sorted(findings, key=lambda finding: (-finding.rank, finding.id)))


def judge(facts: HostFacts, id: str) -> Result:
    return next(result for result in judge_knobs(facts, KNOBS) if result.id == f"knob.{id}")


def find(facts: HostFacts, id: str) -> Finding | None:
    return next((finding for finding in audit_knobs(facts, KNOBS) if finding.id == f"knob.{id}"), None)


def found(facts: HostFacts, id: str) -> Finding:
    finding = find(facts, id)
    assert finding is not None, judge(facts, id)
    return finding
