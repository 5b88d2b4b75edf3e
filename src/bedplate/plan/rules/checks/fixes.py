"""Commands that several fixes share: a property of an engine's service, a neighbour that is confined, a GPU that is reset.

What a fix stops it starts again, and it says before what it interrupts. Nothing here is advice for hardware that the user
of a virtual machine cannot touch.
"""

from __future__ import annotations

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.plan.rules.terms import DRAIN_FOR_REBOOT, Deployment, deployments, is_nvswitch, is_virtual, name_of

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
        f"# The restart interrupts {unit}: drain it first.",
        f"mkdir -p {directory} && printf '[Service]\\n{setting}\\n' > {directory}/80-{_name(setting)}.conf",
        f"systemctl daemon-reload && systemctl restart {unit}",
    )


def undo_drop_in(facts: HostFacts, group: Deployment, setting: str) -> tuple[str, ...]:
    """Commands that take back what `drop_in` of the same setting wrote; a comment where it gave none to write."""
    unit = unit_of(facts, group)
    if unit is None:
        return ("# Take the setting out where it was put, and start the engine again.",)
    return (
        f"# The restart interrupts {unit}: drain it first.",
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


def reset_fix(facts: HostFacts, accelerator: Accelerator | None) -> tuple[str, ...]:
    """How an accelerator is reset: what holds it is looked for and stopped, and started again; None: one without a name.

    A virtual machine is rebooted instead, which resets what is passed through to it. With NVSwitches, NVIDIA's driver
    resets all GPUs together. Sources: nvidia-smi(1), --gpu-reset; the Fabric Manager User Guide; amd-smi reset.
    """
    if is_virtual(facts):
        return (
            "# This interrupts every engine of this virtual machine: drain them. Its reboot resets a passed-through device.",
            "reboot",
            "# If the fault comes back, move the work to another machine, and report this one to the provider.",
        )
    what = "the device" if accelerator is None else name_of(accelerator)
    if accelerator is not None and accelerator.vendor == "amd":
        return (
            f"# This interrupts every program that uses {what}: drain its engines first.",
            f"amd-smi reset --gpureset --gpu {accelerator.index}",
        )
    if accelerator is not None and accelerator.vendor != "nvidia":
        return (f"# Drain the engines of {what}, and reset it with the tool of its vendor, or reboot.",)
    together = any(is_nvswitch(device) for device in facts.pci)
    which = "" if together else f" -i {'N' if accelerator is None else what}"
    users = "all GPUs, which are reset together because of the NVSwitches" if together else what
    services = "nvidia-persistenced nvidia-dcgm"
    return (
        f"# This interrupts every program that uses {users}: drain its engines first.{held_by(facts)}",
        f"systemctl stop {services}",
        "fuser -v /dev/nvidia*  # the reset is refused while a process is listed",
        f"nvidia-smi --gpu-reset{which}",
        f"systemctl start {services}",
    )


def held_by(facts: HostFacts) -> str:
    """ " They are held by vllm (pid 4711).": which engines hold NVIDIA's devices open; "" where none was seen."""
    names = [group.name for group in deployments(facts) if any(file.startswith("/dev/nvidia") for file in group.devices)]
    return f" They are held by {', '.join(names[:4])}." if names else ""


def reboot_fix(*steps: str) -> tuple[str, ...]:
    """Steps that a reboot ends, with what it interrupts."""
    return (*steps, DRAIN_FOR_REBOOT, "reboot")


def _name(setting: str) -> str:
    return "bedplate-" + setting.partition("=")[0].lower()
