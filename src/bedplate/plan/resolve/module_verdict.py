"""Whether the catalogue has a yes for a kernel module and a kernel: what a build of a driver layer asks before it starts.

It is the rule of the resolver (docs/decisions/0080-one-lock-for-the-stack.md) for one pair: a row that says no forbids it,
and without a row that says yes it is unknown, which is no yes.
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.stack import CheckedBy, ModuleBuild, StackCatalogue, StackRelease

KERNEL = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleVerdict:
    """builds: None where no row speaks of the pair. `because` is a clause; `row` the id of the row that decided, or ""."""

    builds: bool | None
    because: str
    row: str = ""
    checked: CheckedBy | None = None
    evidence: tuple[str, ...] = ()


def judge_module(catalogue: StackCatalogue, driver: StackRelease, kernel: StackRelease) -> ModuleVerdict:
    """What the rows say of building the modules of `driver` for `kernel`. A no counts more than a yes."""
    rows = [row for row in catalogue.modules if row.module[0].component == driver.component]
    fitting = [row for row in rows if all(part.holds_for(driver.values(part.name)) for part in row.module)]
    here = [row for row in fitting if row.kernel.holds_for(kernel.values(row.kernel.name))]
    for row in here:
        if not row.builds:
            return _verdict(row, row.because)
    if here:
        return _verdict(here[0], f"row {here[0].id}")
    seen = " | ".join(dict.fromkeys(row.kernel.bounds for row in fitting if row.builds))
    pair = f"{driver.component} {driver.version} ({driver.variant or driver.source})"
    where = f"was seen to build for {seen} alone" if seen else "was seen to build for no kernel"
    return ModuleVerdict(builds=None, because=f"{pair} {where}, and not for {kernel.component} {kernel.version}")


def _verdict(row: ModuleBuild, because: str) -> ModuleVerdict:
    return ModuleVerdict(builds=row.builds, because=because, row=row.id, checked=row.checked, evidence=row.evidence)
