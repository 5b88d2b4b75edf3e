"""What makes it wrong to apply a plan here at all: it can be read, and not applied."""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.tuning import Change, Means, Refusal

CO_OWNERS = {
    "tuned": ("it writes the values of its profile at every start and profile switch", "systemctl disable --now tuned"),
    "tuned-ppd": ("it switches tuned's profiles with the power source", "systemctl disable --now tuned-ppd tuned"),
    "power-profiles-daemon": (
        "it sets the governor and the energy preference by its own profile",
        "systemctl disable --now power-profiles-daemon",
    ),
    "auto-cpufreq": ("it sets governors by load", "systemctl disable --now auto-cpufreq"),
    "bpftune": ("it changes sysctls while it runs", "systemctl disable --now bpftune"),
    "uresourced": ("it sets weights and protections of user sessions", "systemctl disable --now uresourced"),
    "ananicy": ("it moves processes between weights by name", "systemctl disable --now ananicy"),
    "ananicy-cpp": ("it moves processes between weights by name", "systemctl disable --now ananicy-cpp"),
    "kubelet": (
        "its CPU, memory and topology managers own the groups below kubepods.slice and overwrite them",
        "Set requests and the static CPU manager policy of the pods; bedplate plans for hosts without a kubelet.",
    ),
}
"""Program -> (what it does, what to do about it)."""

_GROUPS, _MANAGER = "control groups", "service manager"
UNIT_NEEDS = (_GROUPS, _MANAGER)
"""What refusals are about that speak against properties of units alone: a file of the kernel needs neither."""


def find_refusals(facts: HostFacts, groups: Groups, changes: tuple[Change, ...]) -> tuple[Refusal, ...]:
    """All of them, those about the machine first."""
    return (*_machine(facts, groups), *_owners(facts, changes))


def _machine(facts: HostFacts, groups: Groups) -> Iterator[Refusal]:
    recorded = facts.os.init.unknown is Unknown.NOT_RECORDED
    if recorded:
        yield Refusal(
            what="recording",
            because="it has no processes, so it does not show which programs run, or whether systemd runs",
            hint="Plan on the machine itself, or record it with bedplate record.",
        )
    container = facts.os.container.value
    if container is not None and container != "none":
        yield Refusal(
            what=f"container ({container})",
            because="kernel settings and groups belong to the host",
            hint="Run bedplate tune on the host.",
        )
    if groups.version != 2:
        words = {1: "the controllers are on control groups of version 1 (or hybrid)", 0: "no control groups are mounted"}
        yield Refusal(
            what=_GROUPS,
            because=f"{words.get(groups.version, 'unknown')}, but the limits of the plan exist only in version 2",
            hint="Boot with systemd.unified_cgroup_hierarchy=1.",
        )
    if not recorded and not facts.os.systemd:
        yield Refusal(
            what=_MANAGER,
            because=f"process 1 is {facts.os.init.value or 'not known'}, not systemd, which slices and drop-ins need",
            hint="Read the plan and carry it out by hand, or use the bedplate image.",
        )


def _owners(facts: HostFacts, changes: tuple[Change, ...]) -> Iterator[Refusal]:
    """A program that sets what the plan sets; one that only sets clocks is in the way of clocks alone."""
    clocks = any("cpufreq" in change.setting.name for change in changes)
    for name in facts.os.co_owners:
        if name not in CO_OWNERS or (name in ("power-profiles-daemon", "auto-cpufreq") and not clocks):
            continue
        because, what = CO_OWNERS[name]
        hint = what if what.endswith(".") else f"Stop it to let bedplate tune this host: {what}"
        yield Refusal(
            what=name,
            because=f"it runs, and {because}: two programs that manage one setting undo each other's changes",
            hint=hint,
        )
    if "numad" in facts.os.co_owners and any(
        change.setting.means is Means.UNIT and change.setting.key == "AllowedMemoryNodes" for change in changes
    ):
        yield Refusal(
            what="numad",
            because="it runs, and moves processes between nodes",
            hint="Stop it to let bedplate bind engines: systemctl disable --now numad",
        )
