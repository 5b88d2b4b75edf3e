"""What tests of knobs share: the catalog, readings of files, and one row judged or told."""

from __future__ import annotations

from tests.unit.facts_factory import (
    make_cgroup,
)

from bedplate.catalog.knobs import read_knobs
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.knob import RowResult
from bedplate.plan.rules.rows.knobs import audit_knobs, judge_knobs

KNOBS = read_knobs()
CPUFREQ = "/sys/devices/system/cpu/cpufreq"
IN_SLICE = make_cgroup(path="/inference.slice/vllm.service")


def files(**texts: str | Unknown) -> tuple[Reading[str], ...]:
    """Readings of sysctls, vm_swappiness="60"; None of a name that begins with "_"."""
    return readings({f"/proc/sys/{name.replace('_', '/', 1)}": text for name, text in texts.items()})


def readings(texts: dict[str, str | Unknown]) -> tuple[Reading[str], ...]:
    return tuple(missing(text, path) if isinstance(text, Unknown) else known(text, path) for path, text in texts.items())


def judge(facts: HostFacts, id: str) -> RowResult:
    return next(knob for knob in judge_knobs(facts, KNOBS) if knob.knob == id)


def find(facts: HostFacts, id: str) -> Finding | None:
    return next((finding for finding in audit_knobs(facts, KNOBS) if finding.id == f"knob.{id}"), None)


def found(facts: HostFacts, id: str) -> Finding:
    finding = find(facts, id)
    assert finding is not None, judge(facts, id)
    return finding
