"""Commands that set a property of an engine's service, where there is one: by the unit that its cgroup names."""

from __future__ import annotations

from bedplate.model.facts.host import HostFacts
from bedplate.plan.rules.terms import Deployment

_NOT_A_SERVICE = ("docker-", "libpod-", "crio-", "cri-containerd-", "session-", "user@", "init.scope", "run-")


def unit_of(facts: HostFacts, group: Deployment) -> str | None:
    """The service that an engine is, "vllm.service"; None without systemd, in a container's scope or a person's session."""
    if not facts.os.systemd:
        return None
    last = group.path.rstrip("/").rpartition("/")[2]
    return last if last.endswith(".service") and not last.startswith(_NOT_A_SERVICE) else None


def set_property(facts: HostFacts, group: Deployment, properties: str, elsewhere: str) -> tuple[str, ...]:
    """Properties of a cgroup, "CPUQuota= CPUWeight=10000", changed while it runs; `elsewhere` says it for containers."""
    unit = unit_of(facts, group)
    if unit is None:
        return (f"# {elsewhere}", f"# As a service of systemd: {properties}")
    return (f"systemctl set-property {unit} {properties}",)


def drop_in(facts: HostFacts, group: Deployment, setting: str, elsewhere: str) -> tuple[str, ...]:
    """A setting of a service that needs a restart, "LimitNOFILE=1048576"."""
    unit = unit_of(facts, group)
    if unit is None:
        return (f"# {elsewhere}", f"# As a service of systemd: {setting}")
    directory = f"/etc/systemd/system/{unit}.d"
    return (
        f"mkdir -p {directory} && printf '[Service]\\n{setting}\\n' > {directory}/80-{_name(setting)}.conf",
        f"systemctl daemon-reload && systemctl restart {unit}",
    )


def undo_drop_in(facts: HostFacts, group: Deployment, setting: str) -> tuple[str, ...]:
    """Commands that take back what `drop_in` of the same setting wrote; a comment where it gave none to write."""
    unit = unit_of(facts, group)
    if unit is None:
        return ("# Take the setting out where it was put, and start the engine again.",)
    return (
        f"rm /etc/systemd/system/{unit}.d/80-{_name(setting)}.conf",
        f"systemctl daemon-reload && systemctl restart {unit}",
    )


def confine(facts: HostFacts) -> tuple[str, ...]:
    """How a neighbour gets only what the engine leaves."""
    if facts.os.systemd:
        return ("systemctl set-property NEIGHBOUR.service CPUWeight=idle",)
    if facts.cgroup.version == 1:
        return (
            "mkdir /sys/fs/cgroup/cpu/neighbours && echo 2 > /sys/fs/cgroup/cpu/neighbours/cpu.shares",
            "echo PID > /sys/fs/cgroup/cpu/neighbours/cgroup.procs",
        )
    return (
        "echo +cpu > /sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/neighbours",
        "echo 1 > /sys/fs/cgroup/neighbours/cpu.idle && echo PID > /sys/fs/cgroup/neighbours/cgroup.procs",
    )


def undo_confine(facts: HostFacts) -> tuple[str, ...]:
    """Commands that take back what `confine` says, in the same three ways: by systemd, cgroup v1 or cgroup v2."""
    if facts.os.systemd:
        return ("systemctl set-property NEIGHBOUR.service CPUWeight=",)
    where = "/sys/fs/cgroup/cpu" if facts.cgroup.version == 1 else "/sys/fs/cgroup"
    return (f"echo PID > {where}/cgroup.procs && rmdir {where}/neighbours",)


def _name(setting: str) -> str:
    return "bedplate-" + setting.partition("=")[0].lower()
