"""Which groups the engines are in, whose neighbours the others are, and which of them are the system's own."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from bedplate.model.facts.groups import ControlGroup, Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.system import EngineProcess
from bedplate.plan.rules.conditions import OWN_SLICE

NEIGHBOUR, BACKGROUND = "/neighbour.slice", "/background.slice"
OWN = f"/{OWN_SLICE}"
SHARED_SLICES = ("/user.slice", "/machine.slice")
"""Slices of systemd that hold neighbours: logins and virtual machines."""
_UNITS = (".service", ".scope")

SYSTEM_UNITS = (
    *("init.scope", "systemd-*", "dbus*", "polkit*", "getty@*", "serial-getty@*", "console-getty*", "user@*"),
    *("ssh.service", "ssh@*", "sshd*", "NetworkManager*", "networking*", "wpa_supplicant*", "dhcp*", "iwd*", "connman*"),
    *("rsyslog*", "syslog*", "auditd*", "cron*", "atd*", "chrony*", "ntp*", "haveged*", "rngd*", "acpid*", "irqbalance*"),
    *("containerd*", "docker*", "podman*", "crio*", "kubelet*", "k3s*", "libvirtd*", "virt*", "lxc*", "snapd*"),
    *(
        "nvidia-*",
        "dcgm*",
        "amd*",
        "rocm*",
        "hl-*",
        "opensm*",
        "openibd*",
        "rdma*",
        "lvm2*",
        "multipathd*",
        "iscsi*",
        "mdadm*",
    ),
    *("nfs*", "rpc*", "autofs*", "firewalld*", "nftables*", "fail2ban*", "apparmor*", "cloud-*", "qemu-guest-agent*"),
    *("apt-*", "unattended-upgrades*", "packagekit*", "fwupd*", "udisks2*", "upower*", "bolt*", "tuned*", "power-profiles*"),
    *(
        "bedplate-*",
        "haproxy*",
        "emergency*",
        "rescue*",
        "plymouth*",
        "google-*",
        "amazon-*",
        "walinuxagent*",
        "tailscaled*",
    ),
)
"""Without these a host cannot be reached, or keep its time, disks or accelerators: never lowered, never bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The groups of one unit in which engines run, outermost first; the last one is the unit itself."""

    levels: tuple[str, ...]
    """Paths: "/system.slice", "/system.slice/vllm.service"; () for the root group, which has no weight."""
    engines: tuple[EngineProcess, ...]

    @property
    def unit(self) -> str:
        """Path of the group that is the unit itself, the innermost; "/" for engines in the root group."""
        return self.levels[-1] if self.levels else "/"


def find_chains(facts: HostFacts) -> tuple[Chain, ...]:
    """A chain for each unit that holds an engine, by path. A process of a group below a unit counts to the unit."""
    found: dict[tuple[str, ...], list[EngineProcess]] = {}
    for engine in facts.engines:
        found.setdefault(_levels(engine.cgroup.path), []).append(engine)
    return tuple(Chain(levels=levels, engines=tuple(found[levels])) for levels in sorted(found))


def _levels(path: str) -> tuple[str, ...]:
    levels: list[str] = []
    where = ""
    for part in (part for part in path.split("/") if part):
        if not part.endswith((*_UNITS, ".slice")):
            break
        where = f"{where}/{part}"
        levels.append(where)
        if part.endswith(_UNITS):
            break
    return tuple(levels)


def is_system(group: ControlGroup) -> bool:
    """Whether a unit is the system's own."""
    return any(fnmatchcase(group.unit, pattern) for pattern in SYSTEM_UNITS)


def siblings(groups: Groups, path: str) -> tuple[ControlGroup, ...]:
    """Groups in the same parent, without the one itself."""
    parent = path.rpartition("/")[0]
    return tuple(
        group for group in groups.groups if group.path not in ("/", path) and group.path.rpartition("/")[0] == parent
    )


def engine_levels(chains: tuple[Chain, ...]) -> frozenset[str]:
    """Every group that holds an engine somewhere below it."""
    return frozenset(level for chain in chains for level in chain.levels)


def neighbour_groups(groups: Groups, chains: tuple[Chain, ...]) -> tuple[str, ...]:
    """Groups that hold neighbours and no engine: the two slices of ours, those of systemd that are there, and services in
    system.slice that are not the system's own."""
    held = engine_levels(chains)
    found = [NEIGHBOUR, BACKGROUND, *(path for path in SHARED_SLICES if groups.find(path) is not None)]
    for group in groups.groups:
        in_system = group.path.rpartition("/")[0] == "/system.slice" and group.path.endswith(".service")
        if in_system and not is_system(group):
            found.append(group.path)
    return tuple(path for path in found if path not in held)
