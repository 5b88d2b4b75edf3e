"""Whether a host can build and boot what is asked for: all that it lacks at once, and which models fit the guest. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.errors import ModelRefused
from bedplate.model.buildhost import BuildHost, Preflight, TakenPort, Wishes
from bedplate.model.facts.finding import Finding
from bedplate.model.launch import ModelRef, Placement
from bedplate.model.serving_host import MemoryBudget
from bedplate.model.units import render_size
from bedplate.plan.limits import plan_limits
from bedplate.plan.rules.needs import (
    GUEST_IDLE_BYTES,
    NEED_RULES,
    BuildRequest,
    family_of,
    install_commands,
    missing_packages,
)
from bedplate.plan.rules.rule import judge_rules

_GUEST_KERNEL_SHARE = 0.05  # of the memory that the kernel keeps before MemTotal


def plan_preflight(host: BuildHost, wishes: Wishes, *, taken_port: TakenPort | None = None) -> Preflight:
    """Everything that stands in the way, at once; `findings == ()` when nothing does.

    taken_port: the port that was asked for, where another process listens on it.
    """
    request = BuildRequest(host=host, wishes=wishes, taken_port=taken_port)
    packages = missing_packages(request)
    install = install_commands(host, packages)
    return Preflight(
        findings=judge_rules(NEED_RULES, request).findings,
        packages=packages,
        install=install,
        may_install=bool(install) and host.euid == 0 and family_of(host) == "debian",
    )


def render_finding(finding: Finding) -> str:
    """One line: what, got, expected, what to do."""
    return f"{finding.title}. {finding.fix[0]}"


def check_models_fit(models: Sequence[ModelRef], *, guest_memory_bytes: int, cpus: int) -> None:
    """Raise ModelRefused with the arithmetic when the models cannot all be served in a guest of this size.

    The same rule as the guest's own, on what the guest will have: its memory less what the idle system holds.
    """
    total = int(guest_memory_bytes * (1 - _GUEST_KERNEL_SHARE))
    memory = MemoryBudget(total_bytes=total, available_bytes=max(0, total - GUEST_IDLE_BYTES), engines_bytes=0)
    promised = 0
    for model in models:
        try:
            limits = plan_limits(model, Placement(cpus=tuple(range(cpus))), memory, promised_bytes=promised)
        except ModelRefused as error:
            raise ModelRefused(
                f"a machine of {render_size(guest_memory_bytes)} cannot serve {error.message}",
                hint="Give the machine more memory (bedplate up --memory 4G), or serve a smaller or more quantised model.",
            ) from error
        promised += limits.memory_bytes
