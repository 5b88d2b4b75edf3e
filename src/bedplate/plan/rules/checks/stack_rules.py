"""The rules of `bedplate stack check`: those of doctor about what is installed, and those that need more than facts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bedplate.model.audit import FindingRow
from bedplate.model.stack import StackCatalogue, StackRecord
from bedplate.plan.rules.checks import (
    CHECKS,
    CheckFunction,
    CheckRule,
    driver,
    make_rules,
    stack_kernel,
    stack_lock,
    stack_packages,
    stack_python,
    stack_rows,
    system,
)

STACK_CHECKS: tuple[CheckFunction, ...] = (
    driver.check_refused,
    driver.check_flavour,
    driver.check_versions,
    driver.check_next_kernel,
    system.check_upgrades,
    system.check_readers,
    *(
        check
        for check in CHECKS
        if check.__module__.rpartition(".")[2].startswith("stack_") and check is not stack_python.check_deep
    ),
    stack_packages.check_stack_read,
    stack_kernel.check_module_files,
    stack_kernel.check_firmware,
    stack_python.check_environments_read,
    stack_python.check_torch,
    stack_python.check_leftovers,
    stack_python.check_interpreters,
)
"""What `stack check` judges, without what the rows of the catalogue and a lock add."""


def make_stack_rules(
    rows: Iterable[FindingRow], catalogue: StackCatalogue, record: StackRecord | None
) -> tuple[CheckRule, ...]:
    """A rule for each of STACK_CHECKS, for each that the catalogue's rows make, and with a lock for what it says."""
    checks: list[CheckFunction] = [
        *STACK_CHECKS,
        partial(stack_rows.check_driver_floor, catalogue=catalogue),
        partial(stack_rows.check_known_bad, catalogue=catalogue),
        partial(stack_rows.check_engine_code, catalogue=catalogue, record=record),
    ]
    if record is not None:
        checks += [
            partial(stack_lock.check_lock_host, record=record),
            partial(stack_lock.check_lock_layers, record=record, catalogue=catalogue),
            partial(stack_lock.check_lock_sources, record=record, catalogue=catalogue),
        ]
    return make_rules(checks, rows)
