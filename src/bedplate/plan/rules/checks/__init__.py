"""Rules of a machine that are written as functions, one module for each subject.

A check is one function from facts to observations and to what it could not judge: what stands between a machine and its
accelerators. The row of catalog/findings.toml with the observation's id adds what it costs on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bedplate.model.audit import FindingRow
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts
from bedplate.plan.rules.checks import (
    accelerators,
    acs,
    cores,
    driver,
    engine_log,
    limits,
    links,
    placement,
    power,
    stack_driver,
    stack_kernel,
    stack_packages,
    stack_python,
    states,
    storage,
    system,
    tools,
)
from bedplate.plan.rules.machine import JudgedMachine
from bedplate.plan.rules.observation import make_findings
from bedplate.plan.rules.rule import Result

CheckFunction = Callable[[HostFacts], Iterable[Result]]

CHECKS: tuple[CheckFunction, ...] = (
    accelerators.check_engine_on_cpu,
    accelerators.check_fabric,
    accelerators.check_ecc,
    accelerators.check_mig,
    accelerators.check_persistence,
    accelerators.check_nvlink,
    states.check_lost,
    states.check_rows,
    states.check_recovery,
    states.check_divided,
    states.check_partitions,
    states.check_survivability,
    states.check_heat_before,
    states.check_listed,
    states.check_link_errors,
    states.check_given_away,
    tools.check_tool_failures,
    tools.check_cuda,
    tools.check_variables,
    tools.check_apart,
    tools.check_releases,
    tools.check_rdma_ports,
    tools.check_node_memory,
    tools.check_own_quota,
    engine_log.check_engine_notes,
    engine_log.check_engine_options,
    driver.check_no_driver,
    driver.check_refused,
    driver.check_flavour,
    driver.check_versions,
    driver.check_next_kernel,
    links.check_width,
    links.check_speed,
    links.check_virtual,
    links.check_bar,
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
    system.check_front,
    system.check_autogroup,
    system.check_readers,
    system.check_engines_seen,
    stack_packages.check_packages_read,
    stack_packages.check_unfinished,
    stack_packages.check_kernel_held,
    stack_packages.check_driver_mixed,
    stack_packages.check_source_gone,
    stack_kernel.check_dkms,
    stack_kernel.check_boot_files,
    stack_kernel.check_library,
    stack_driver.check_second_cuda,
    stack_driver.check_cdi,
    stack_python.check_deep,
)
"""What doctor judges. The checks of the stack among them read only what costs a few hundredths of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRule:
    """A check as a rule of the engine, with the rows that its findings are explained by."""

    check: CheckFunction
    rows: Mapping[str, FindingRow]

    def judge(self, subject: JudgedMachine) -> Iterable[Result]:
        """Observations, and what could not be judged; nothing where all is well."""
        return self.check(subject.facts)

    def report(self, subject: JudgedMachine, results: Sequence[Result]) -> Iterator[Finding]:
        """A finding for each observation. Raises KeyError for one without a row: a mistake of the program."""
        return make_findings(results, self.rows)


def make_check_rules(rows: Iterable[FindingRow]) -> tuple[CheckRule, ...]:
    """A rule for each of CHECKS; rows are those of catalog/findings.toml."""
    return make_rules(CHECKS, rows)


def make_rules(checks: Iterable[CheckFunction], rows: Iterable[FindingRow]) -> tuple[CheckRule, ...]:
    """A rule for each of some checks, whose findings the rows of catalog/findings.toml explain."""
    by_id = {row.id: row for row in rows}
    return tuple(CheckRule(check=check, rows=by_id) for check in checks)
