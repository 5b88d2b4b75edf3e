"""What stands between a machine and its accelerators: every check, the catalog's knobs, and what a person set aside. Pure.

A check is one function from facts to observations and to what it could not judge. Unknown facts never make an observation.
The row of catalog/findings.toml adds what an observation costs; the list is sorted by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from bedplate.model.audit import Audit, FindingRow, NotJudged, SuppressedFinding, Suppression
from bedplate.model.facts.finding import Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob, Outcome
from bedplate.plan.rules.checks import accelerators, acs, cores, driver, limits, links, placement, power, storage, system
from bedplate.plan.rules.checks.observation import Check, Observation, make_finding
from bedplate.plan.rules.order import in_order
from bedplate.plan.rules.rows.knobs import audit_knobs, judge_knobs
from bedplate.plan.rules.terms import processes_seen

CHECKS: tuple[Check, ...] = (
    accelerators.check_engine_on_cpu,
    accelerators.check_fabric,
    accelerators.check_ecc,
    accelerators.check_mig,
    accelerators.check_persistence,
    accelerators.check_nvlink,
    driver.check_no_driver,
    driver.check_refused,
    driver.check_flavour,
    driver.check_versions,
    driver.check_next_kernel,
    links.check_width,
    links.check_speed,
    links.check_virtual,
    acs.check_acs,
    acs.check_iommu,
    cores.check_cores,
    cores.check_threads,
    cores.check_waiting,
    cores.check_quota,
    placement.check_threads_remote,
    placement.check_memory_remote,
    placement.check_node_hidden,
    placement.check_nodes_known,
    placement.check_exact_pins,
    placement.check_isolated,
    limits.check_nofile,
    limits.check_memlock,
    limits.check_shm,
    limits.check_oom,
    limits.check_memory_limit,
    limits.check_swapped,
    limits.check_swap_policy,
    storage.check_store,
    power.check_governor,
    power.check_throttled,
    power.check_power_limit,
    system.check_upgrades,
    system.check_clocksource,
    system.check_psi,
    system.check_autogroup,
    system.check_readers,
)


def audit(
    facts: HostFacts,
    knobs: Sequence[Knob],
    rows: Iterable[FindingRow],
    suppressions: Sequence[Suppression],
    *,
    today: str,
) -> Audit:
    """All findings of a machine, ranked, and what could not be judged. `today` is a date, "2026-11-24".

    The same for the same facts in any order. Raises KeyError when a check's finding has no row: a mistake of the program.
    """
    facts = in_order(facts)
    row_of = {row.id: row for row in rows}
    said = [result for check in CHECKS for result in check(facts)]
    findings = [make_finding(result, row_of[result.id]) for result in said if isinstance(result, Observation)]
    findings += audit_knobs(facts, knobs, told={finding.id for finding in findings})
    not_judged = {result for result in said if isinstance(result, NotJudged)}
    not_judged |= {
        NotJudged(id=f"knob.{result.knob}", why=result.because)
        for result in judge_knobs(facts, knobs)
        if result.outcome in (Outcome.UNKNOWN, Outcome.NOT_EVALUABLE)
    }
    if not processes_seen(facts):
        not_judged.add(NotJudged(id="engines", why="the recording holds no processes: engines could not be checked"))
    ranked = sorted(set(findings), key=lambda finding: (-finding.rank, finding.id, finding.where))
    shown, suppressed, notes = _suppress(
        ranked, suppressions, known={*row_of, *(f"knob.{knob.id}" for knob in knobs)}, today=today
    )
    return Audit(
        findings=tuple(shown),
        suppressed=tuple(suppressed),
        not_judged=tuple(sorted(not_judged, key=lambda entry: (entry.id, entry.why))),
        counts=tuple((severity, sum(finding.severity is severity for finding in shown)) for severity in Severity),
        notes=tuple(notes),
    )


def _suppress(
    findings: Sequence[Finding], suppressions: Sequence[Suppression], *, known: set[str], today: str
) -> tuple[list[Finding], list[SuppressedFinding], list[str]]:
    """(shown, set aside, what to know of the suppressions). ISO dates compare as texts do."""
    running = [suppression for suppression in suppressions if suppression.until is None or suppression.until >= today]
    used: set[Suppression] = set()
    shown: list[Finding] = []
    aside: list[SuppressedFinding] = []
    for finding in findings:
        by = next((suppression for suppression in running if _covers(suppression, finding)), None)
        if by is None:
            shown.append(finding)
        else:
            aside.append(SuppressedFinding(finding=finding, reason=by.reason, until=by.until))
            used |= {suppression for suppression in running if _covers(suppression, finding)}
    notes = []
    for suppression in suppressions:
        what = suppression.id if suppression.where == "*" else f"{suppression.id} at {suppression.where}"
        if suppression.id not in known:
            notes.append(f"suppression of {what}: no such finding exists")
        elif suppression not in running:
            notes.append(f"suppression of {what}: expired after {suppression.until}")
        elif suppression not in used:
            notes.append(f"suppression of {what}: it covers no finding")
    return shown, aside, notes


def _covers(suppression: Suppression, finding: Finding) -> bool:
    """A finding about several places is covered only as a whole."""
    return suppression.id == finding.id and all(fnmatchcase(place, suppression.where) for place in finding.where)
