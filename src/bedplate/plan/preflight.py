"""What a host needs before it builds and boots images, and what is missing: facts and wishes -> all findings at once. Pure.

Sizes were measured on Debian 12 with the development image (docs/how-to/hosts.md says how).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.errors import ModelRefused
from bedplate.model.buildhost import BuildHost, KvmDevice, Preflight, PreflightFinding, Wishes
from bedplate.model.launch import ModelRef, Placement
from bedplate.model.serving_host import MemoryBudget
from bedplate.model.units import GIB, MIB, render_size
from bedplate.plan.limits import plan_limits

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FEDORA_KEYRING = "/usr/share/keyrings/debian-archive-keyring.pgp"

BUILD_FREE_BYTES = 6 * GIB  # tools tree 0.5, packages 0.4, work tree of a build 2, image and artefacts 1, and room
BOOT_FREE_BYTES = 1 * GIB  # the overlay of a machine, its logs, the disk of models
QEMU_OVERHEAD_BYTES = 384 * MIB  # emulator, translated code and swtpm beside the guest's own memory
BUILD_MEMORY_BYTES = 1 * GIB  # mkfs.erofs and the package manager
GUEST_SMALLEST_BYTES = 768 * MIB
_GUEST_IDLE_BYTES = 260 * MIB  # MemTotal - MemAvailable of an idle guest: 247 MB measured, and the front
_GUEST_KERNEL_SHARE = 0.05  # of the memory that the kernel keeps before MemTotal

BUILD, BOOT, TPM, UEFI = "build", "boot", "tpm", "uefi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A program or file, when it is needed, and the package that brings it, by family of distributions."""

    what: str
    why: str
    when: str
    packages: tuple[tuple[str, str], ...]


def _everywhere(debian: str, fedora: str) -> tuple[tuple[str, str], ...]:
    return (("debian", debian), ("fedora", fedora))


NEEDS = (
    Need(
        what="qemu-system-x86_64",
        why="runs the machine",
        when=BOOT,
        packages=_everywhere("qemu-system-x86", "qemu-system-x86-core"),
    ),
    Need(what="qemu-img", why="makes the machine's disk", when=BOOT, packages=_everywhere("qemu-utils", "qemu-img")),
    Need(what="swtpm", why="is the machine's TPM", when=TPM, packages=_everywhere("swtpm", "swtpm")),
    Need(what="swtpm_setup", why="makes the TPM's state", when=TPM, packages=_everywhere("swtpm-tools", "swtpm-tools")),
    Need(
        what="mmdebstrap", why="makes the tree of build tools", when=BUILD, packages=_everywhere("mmdebstrap", "mmdebstrap")
    ),
    Need(
        what=KEYRING,
        why="verifies Debian's archive",
        when=BUILD,
        packages=_everywhere("debian-archive-keyring", "debian-keyring"),
    ),
)
_FIRMWARE = Need(what="OVMF", why="is the machine's UEFI", when=UEFI, packages=_everywhere("ovmf", "edk2-ovmf"))

PROGRAMS = tuple(need.what for need in NEEDS if not need.what.startswith("/"))
FILES = (KEYRING, FEDORA_KEYRING)


def plan_preflight(host: BuildHost, wishes: Wishes) -> Preflight:
    """Everything that stands in the way, at once; `findings == ()` when nothing does."""
    missing = tuple(need for need in NEEDS if _is_wanted(need.when, wishes) and not _has(host, need))
    if (wishes.secure_boot and host.secure_firmware is None) or (wishes.uefi and host.firmware is None):
        missing = (*missing, _FIRMWARE)
    packages = _packages(host, missing)
    install = install_commands(host, packages)
    fix = f"Run: {render_commands(host, install)}" if install else "Install it with this system's package manager."
    findings = [
        PreflightFinding(what=need.what, got="not found", needed=f"a program or file that {need.why}", fix=fix, fatal=True)
        for need in missing
    ]
    findings += _judge_machine(host)
    findings += _judge_root(host, wishes)
    findings += _judge_namespaces(host, wishes)
    findings += _judge_space(host, wishes)
    findings += _judge_memory(host, wishes)
    findings += _judge_kvm(host)
    findings += _judge_mirror(host, wishes)
    return Preflight(
        findings=tuple(findings),
        packages=packages,
        install=install,
        may_install=bool(install) and host.euid == 0 and _family(host) == "debian",
    )


def install_commands(host: BuildHost, packages: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The commands that install packages on this distribution; () when there are none or it is not known."""
    if not packages:
        return ()
    if _family(host) == "debian":
        return (
            ("apt-get", "update"),
            ("apt-get", "install", "--yes", "--no-install-recommends", *packages),
        )
    if _family(host) == "fedora":
        return (("dnf", "install", "--assumeyes", *packages),)
    return ()


def render_commands(host: BuildHost, commands: Sequence[Sequence[str]]) -> str:
    """Commands as one line to paste, with sudo unless this is root."""
    sudo = "" if host.euid == 0 else "sudo "
    return " && ".join(f"{sudo}{' '.join(command)}" for command in commands)


def judge_port(port: int, *, owner: str, free_port: int) -> PreflightFinding:
    """The finding for a port that somebody else listens on."""
    return PreflightFinding(
        what=f"port {port} of 127.0.0.1",
        got=f"in use by {owner}",
        needed="a free port for the endpoint",
        fix=f"Stop that process, or use another port: bedplate up --port {free_port}",
        fatal=True,
    )


def render_finding(finding: PreflightFinding) -> str:
    """One line: what, got, expected, what to do."""
    return f"{finding.what}: {finding.got}; expected {finding.needed}. {finding.fix}"


def check_models_fit(models: Sequence[ModelRef], *, guest_memory_bytes: int, cpus: int) -> None:
    """Raise ModelRefused with the arithmetic when the models cannot all be served in a guest of this size.

    The same rule as the guest's own, on what the guest will have: its memory less what the idle system holds.
    """
    total = int(guest_memory_bytes * (1 - _GUEST_KERNEL_SHARE))
    memory = MemoryBudget(total_bytes=total, available_bytes=max(0, total - _GUEST_IDLE_BYTES), engines_bytes=0)
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


def _judge_machine(host: BuildHost) -> list[PreflightFinding]:
    if host.machine == "x86_64":
        return []
    return [
        PreflightFinding(
            what="architecture",
            got=host.machine,
            needed="x86_64: the image and its engines are built for it",
            fix="Use an x86_64 host; arm64 images are not made yet.",
            fatal=True,
        )
    ]


def _judge_root(host: BuildHost, wishes: Wishes) -> list[PreflightFinding]:
    if host.euid == 0 or not wishes.build:
        return []
    return [
        PreflightFinding(
            what="user",
            got=f"uid {host.euid}",
            needed="root, to unpack packages with their owners into the image",
            fix="Run: sudo make up",
            fatal=True,
        )
    ]


def _judge_namespaces(host: BuildHost, wishes: Wishes) -> list[PreflightFinding]:
    if not wishes.build or host.euid != 0:
        return []
    needed = "mount namespaces: the build tools run in a tree of their own"
    if not host.mounts_allowed:
        return [
            PreflightFinding(
                what="capabilities",
                got="root without CAP_SYS_ADMIN, as in an unprivileged container",
                needed=needed,
                fix="Run it in a privileged container (--privileged), a virtual machine, or on the host.",
                fatal=True,
            )
        ]
    if host.root_is_mount:
        return []
    return [
        PreflightFinding(
            what="/",
            got="no mount point, as in a plain chroot",
            needed=needed,
            fix="Before chroot, run: mount --bind DIR DIR; or use systemd-nspawn -D DIR.",
            fatal=True,
        )
    ]


def _judge_space(host: BuildHost, wishes: Wishes) -> list[PreflightFinding]:
    needed = BUILD_FREE_BYTES if wishes.build else BOOT_FREE_BYTES
    findings: list[PreflightFinding] = []
    seen: set[int] = set()
    for space in host.spaces:
        if space.device not in seen and space.free_bytes < needed:
            findings.append(
                PreflightFinding(
                    what=f"disk space at {space.directory}",
                    got=f"{render_size(space.free_bytes)} free",
                    needed=render_size(needed),
                    fix="Free some, or set BEDPLATE_CACHE_DIR and BEDPLATE_STATE_DIR to a larger disk.",
                    fatal=True,
                )
            )
        seen.add(space.device)
    return findings


def _judge_memory(host: BuildHost, wishes: Wishes) -> list[PreflightFinding]:
    if wishes.guest_memory_bytes < GUEST_SMALLEST_BYTES:
        return [
            PreflightFinding(
                what="memory of the machine",
                got=render_size(wishes.guest_memory_bytes),
                needed=f"{render_size(GUEST_SMALLEST_BYTES)}: the system alone holds {render_size(_GUEST_IDLE_BYTES)}",
                fix="Give it more: bedplate up --memory 2G",
                fatal=True,
            )
        ]
    guest = wishes.guest_memory_bytes + QEMU_OVERHEAD_BYTES
    needed = max(guest, BUILD_MEMORY_BYTES if wishes.build else 0)
    if host.memory_available_bytes >= needed:
        return []
    return [
        PreflightFinding(
            what="memory",
            got=f"{render_size(host.memory_available_bytes)} available",
            needed=f"{render_size(needed)} ({render_size(wishes.guest_memory_bytes)} for the machine"
            f" + {render_size(QEMU_OVERHEAD_BYTES)} for QEMU and the TPM)",
            fix="End something, or give the machine less: bedplate up --memory 1G",
            fatal=True,
        )
    ]


def _judge_kvm(host: BuildHost) -> list[PreflightFinding]:
    if host.kvm is KvmDevice.PRESENT:
        return []  # whether guests run on it, the trial says
    if host.kvm is KvmDevice.ABSENT:
        fix = "Turn on virtualisation in the firmware, or nested virtualisation on the host of this machine."
        got = "no /dev/kvm"
    else:
        fix = "Run: sudo usermod -aG kvm $USER, then log in again."
        got = "this user may not open /dev/kvm"
    return [
        PreflightFinding(what="KVM", got=got, needed="only for speed: boots take minutes without it", fix=fix, fatal=False)
    ]


def _judge_mirror(host: BuildHost, wishes: Wishes) -> list[PreflightFinding]:
    if not wishes.build or wishes.mirror is not None or host.mirror.main is not None:
        return []
    return [
        PreflightFinding(
            what="Debian mirror",
            got="none in this host's apt configuration",
            needed="nothing: mmdebstrap's own default is used",
            fix="To choose a mirror, set BEDPLATE_MIRROR.",
            fatal=False,
        )
    ]


def _is_wanted(when: str, wishes: Wishes) -> bool:
    return {BOOT: True, BUILD: wishes.build, TPM: wishes.tpm}[when]


def _has(host: BuildHost, need: Need) -> bool:
    if need.what == KEYRING:
        return any(name in host.files for name in FILES)
    return need.what in host.files or host.program(need.what) is not None


def _family(host: BuildHost) -> str:
    for name in (host.distribution, *host.like):
        if name in ("debian", "ubuntu"):
            return "debian"
        if name in ("fedora", "rhel"):
            return "fedora"
    return ""


def _packages(host: BuildHost, missing: Sequence[Need]) -> tuple[str, ...]:
    family = _family(host)
    return tuple(sorted({dict(need.packages)[family] for need in missing})) if family else ()
