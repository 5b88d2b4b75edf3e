"""Rules of a build host: what it needs before it builds and boots images. Pure.

Programs and files are rows (NEEDS); the rest are checks. Sizes were measured on Debian 12 with the development image
(docs/how-to/hosts.md says how).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bedplate.model.buildhost import BuildHost, KvmDevice, TakenPort, Wishes
from bedplate.model.facts.finding import Evidence, Finding, Severity
from bedplate.model.units import GIB, MIB, render_size
from bedplate.plan.rules.observation import Observation, make_finding
from bedplate.plan.rules.rule import Result

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FEDORA_KEYRING = "/usr/share/keyrings/debian-archive-keyring.pgp"
MISSING = "host.missing"
"""Id of the findings about programs and files that are not there."""

BUILD_FREE_BYTES = 6 * GIB  # tools tree 0.5, packages 0.4, work tree of a build 2, image and artefacts 1, and room
BOOT_FREE_BYTES = 1 * GIB  # the overlay of a machine, its logs, the disk of models
QEMU_OVERHEAD_BYTES = 384 * MIB  # emulator, translated code and swtpm beside the guest's own memory
BUILD_MEMORY_BYTES = 1 * GIB  # mkfs.erofs and the package manager
GUEST_SMALLEST_BYTES = 768 * MIB
GUEST_IDLE_BYTES = 260 * MIB  # MemTotal - MemAvailable of an idle guest: 247 MB measured, and the front

BUILD, BOOT, TPM = "build", "boot", "tpm"


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
_FIRMWARE = Need(what="OVMF", why="is the machine's UEFI", when=BOOT, packages=_everywhere("ovmf", "edk2-ovmf"))

PROGRAMS = tuple(need.what for need in NEEDS if not need.what.startswith("/"))
FILES = (KEYRING, FEDORA_KEYRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """The subject of these rules: a host, and what it is asked to build and boot."""

    host: BuildHost
    wishes: Wishes
    taken_port: TakenPort | None = None
    """The port that was asked for, where another process listens on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedRule:
    """A check of a build host as a rule of the engine."""

    check: Callable[[BuildRequest], Iterable[Result]]

    def judge(self, subject: BuildRequest) -> Iterable[Result]:
        """What the host lacks; nothing where it has what is asked for."""
        return self.check(subject)

    def report(self, subject: BuildRequest, results: Sequence[Result]) -> Iterator[Finding]:
        """A finding for each; CRITICAL where required, INFO where it is only worth knowing."""
        return (make_finding(result) for result in results if isinstance(result, Observation))


def missing_needs(request: BuildRequest) -> tuple[Need, ...]:
    """Programs and files that this request needs and the host does not have, in the order of NEEDS."""
    host, wishes = request.host, request.wishes
    missing = tuple(need for need in NEEDS if _is_wanted(need.when, wishes) and not _has(host, need))
    if (wishes.secure_boot and host.secure_firmware is None) or (wishes.uefi and host.firmware is None):
        missing = (*missing, _FIRMWARE)
    return missing


def missing_packages(request: BuildRequest) -> tuple[str, ...]:
    """Packages of this distribution that bring what is missing, sorted; () where its family is not known."""
    family = family_of(request.host)
    return tuple(sorted({dict(need.packages)[family] for need in missing_needs(request)})) if family else ()


def family_of(host: BuildHost) -> str:
    """The distribution whose package names this host uses, "debian" or "fedora"; "" for all others."""
    for name in (host.distribution, *host.like):
        if name in ("debian", "ubuntu"):
            return "debian"
        if name in ("fedora", "rhel"):
            return "fedora"
    return ""


def install_commands(host: BuildHost, packages: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The commands that install packages on this distribution; () when there are none or it is not known."""
    if not packages:
        return ()
    if family_of(host) == "debian":
        return (
            ("apt-get", "update"),
            ("apt-get", "install", "--yes", "--no-install-recommends", *packages),
        )
    if family_of(host) == "fedora":
        return (("dnf", "install", "--assumeyes", *packages),)
    return ()


def render_commands(host: BuildHost, commands: Sequence[Sequence[str]]) -> str:
    """Commands as one line to paste, with sudo unless this is root."""
    sudo = "" if host.euid == 0 else "sudo "
    return " && ".join(f"{sudo}{' '.join(command)}" for command in commands)


def _is_wanted(when: str, wishes: Wishes) -> bool:
    return {BOOT: True, BUILD: wishes.build, TPM: wishes.tpm}[when]


def _has(host: BuildHost, need: Need) -> bool:
    if need.what == KEYRING:
        return any(name in host.files for name in FILES)
    return need.what in host.files or host.program(need.what) is not None


def _lacks(id: str, what: str, *, got: str, needed: str, fix: str, fatal: bool = True) -> Observation:
    return Observation(
        id=id,
        because=f"{what}: {got}; expected {needed}",
        where=(what,),
        evidence=(Evidence(fact=got, source=what),),
        severity=Severity.CRITICAL if fatal else Severity.INFO,
        fix=(fix,),
        effect="required" if fatal else "the work can be done without it",
    )


def _check_programs(request: BuildRequest) -> Iterator[Result]:
    install = install_commands(request.host, missing_packages(request))
    fix = f"Run: {render_commands(request.host, install)}" if install else "Install it with this system's package manager."
    for need in missing_needs(request):
        yield _lacks(MISSING, need.what, got="not found", needed=f"a program or file that {need.why}", fix=fix)


def _check_architecture(request: BuildRequest) -> Iterator[Result]:
    if request.host.machine != "x86_64":
        yield _lacks(
            "host.architecture",
            "architecture",
            got=request.host.machine,
            needed="x86_64: the image and its engines are built for it",
            fix="Use an x86_64 host; arm64 images are not made yet.",
        )


def _check_user(request: BuildRequest) -> Iterator[Result]:
    if request.host.euid != 0 and request.wishes.build:
        yield _lacks(
            "host.user",
            "user",
            got=f"uid {request.host.euid}",
            needed="root, to unpack packages with their owners into the image",
            fix="Run: sudo make up",
        )


def _check_namespaces(request: BuildRequest) -> Iterator[Result]:
    host = request.host
    if not request.wishes.build or host.euid != 0:
        return
    needed = "mount namespaces: the build tools run in a tree of their own"
    if not host.mounts_allowed:
        yield _lacks(
            "host.namespaces",
            "capabilities",
            got="root without CAP_SYS_ADMIN, as in an unprivileged container",
            needed=needed,
            fix="Run it in a privileged container (--privileged), a virtual machine, or on the host.",
        )
    elif not host.root_is_mount:
        yield _lacks(
            "host.namespaces",
            "/",
            got="no mount point, as in a plain chroot",
            needed=needed,
            fix="Before chroot, run: mount --bind DIR DIR; or use systemd-nspawn -D DIR.",
        )


def _check_space(request: BuildRequest) -> Iterator[Result]:
    needed = BUILD_FREE_BYTES if request.wishes.build else BOOT_FREE_BYTES
    seen: set[int] = set()
    for space in request.host.spaces:
        if space.device not in seen and space.free_bytes < needed:
            yield _lacks(
                "host.disk-space",
                f"disk space at {space.directory}",
                got=f"{render_size(space.free_bytes)} free",
                needed=render_size(needed),
                fix="Free some, or set BEDPLATE_CACHE_DIR and BEDPLATE_STATE_DIR to a larger disk.",
            )
        seen.add(space.device)


def _check_memory(request: BuildRequest) -> Iterator[Result]:
    host, wishes = request.host, request.wishes
    if wishes.guest_memory_bytes < GUEST_SMALLEST_BYTES:
        yield _lacks(
            "host.guest-memory",
            "memory of the machine",
            got=render_size(wishes.guest_memory_bytes),
            needed=f"{render_size(GUEST_SMALLEST_BYTES)}: the system alone holds {render_size(GUEST_IDLE_BYTES)}",
            fix="Give it more: bedplate up --memory 2G",
        )
        return
    guest = wishes.guest_memory_bytes + QEMU_OVERHEAD_BYTES
    needed = max(guest, BUILD_MEMORY_BYTES if wishes.build else 0)
    if host.memory_available_bytes < needed:
        yield _lacks(
            "host.memory",
            "memory",
            got=f"{render_size(host.memory_available_bytes)} available",
            needed=f"{render_size(needed)} ({render_size(wishes.guest_memory_bytes)} for the machine"
            f" + {render_size(QEMU_OVERHEAD_BYTES)} for QEMU and the TPM)",
            fix="Stop a program, or give the machine less memory: bedplate up --memory 1G",
        )


def _check_kvm(request: BuildRequest) -> Iterator[Result]:
    if request.host.kvm is KvmDevice.PRESENT:
        return  # whether guests run on it, the trial says
    if request.host.kvm is KvmDevice.ABSENT:
        fix = "Turn on virtualisation in the firmware, or nested virtualisation on the host of this machine."
        got = "no /dev/kvm"
    else:
        fix = "Run: sudo usermod -aG kvm $USER, then log in again."
        got = "this user may not open /dev/kvm"
    yield _lacks("host.kvm", "KVM", got=got, needed="only for speed: boots take minutes without it", fix=fix, fatal=False)


def _check_mirror(request: BuildRequest) -> Iterator[Result]:
    if request.wishes.build and request.wishes.mirror is None and request.host.mirror.main is None:
        yield _lacks(
            "host.mirror",
            "Debian mirror",
            got="none in this host's apt configuration",
            needed="nothing: mmdebstrap's own default is used",
            fix="To choose a mirror, set BEDPLATE_MIRROR.",
            fatal=False,
        )


def _check_port(request: BuildRequest) -> Iterator[Result]:
    taken = request.taken_port
    if taken is not None:
        yield _lacks(
            "host.port",
            f"port {taken.port} of 127.0.0.1",
            got=f"in use by {taken.owner}",
            needed="a free port for the endpoint",
            fix=f"Stop that process, or use another port: bedplate up --port {taken.free_port}",
        )


NEED_RULES = tuple(
    NeedRule(check=check)
    for check in (
        _check_programs,
        _check_architecture,
        _check_user,
        _check_namespaces,
        _check_space,
        _check_memory,
        _check_kvm,
        _check_mirror,
        _check_port,
    )
)
"""In the order in which a person reads what they find."""
