"""The host that builds and boots images, as `up` must judge it before it starts: facts, wishes, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.facts.finding import Finding, Severity


class KvmDevice(StrEnum):
    """What /dev/kvm is to this process, by access(2) for reading and writing."""

    ABSENT = "absent"
    NO_PERMISSION = "no-permission"
    PRESENT = "present"
    """The device opens for us. Whether a guest runs on it, only a trial can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """A pair of UEFI flash images that belong together."""

    code: str
    vars: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where this host's own apt configuration gets Debian from; None where it names none that can be used."""

    main: str | None
    security: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Free disk space for a directory that `up` will write to (statvfs(3)), without what is reserved for root."""

    directory: str
    """The directory that was asked about; it need not exist yet."""
    device: int
    """st_dev of the filesystem that holds it: two directories of one filesystem share its space."""
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildHost:
    """Everything that preflight judges, read once: system, rights, CPUs, memory, disk space, programs, firmware, KVM."""

    distribution: str
    """ID of os-release ("debian"); empty when the host has none."""
    like: tuple[str, ...]
    """ID_LIKE of os-release."""
    release: str
    """VERSION_ID of os-release ("12")."""
    pretty_name: str
    machine: str
    """uname -m."""
    euid: int
    mounts_allowed: bool
    """CAP_SYS_ADMIN is in the effective set: containers often lack it."""
    root_is_mount: bool
    """"/" is a mount point; in a plain chroot it is not, and mount namespaces cannot be set up."""
    cpus: int
    """CPUs that this process may run on."""
    memory_bytes: int
    memory_available_bytes: int
    """MemAvailable: what can be used without swapping."""
    spaces: tuple[Space, ...]
    programs: tuple[tuple[str, str], ...]
    """(program, path) of each that was found."""
    files: tuple[str, ...]
    """Data files that were looked for and are there."""
    firmware: Firmware | None
    """UEFI firmware without SMM; None when no pair was found."""
    secure_firmware: Firmware | None
    """UEFI firmware built for Secure Boot with SMM, and an empty variable store."""
    kvm: KvmDevice
    mirror: Mirror

    def program(self, name: str) -> str | None:
        """Path of a program, or None when it is not installed."""
        return dict(self.programs).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What `up` was asked for, as far as the host must be able to carry it."""

    build: bool
    """The image, the engine or the tools have to be built."""
    guest_memory_bytes: int
    secure_boot: bool
    uefi: bool
    tpm: bool
    mirror: str | None
    """BEDPLATE_MIRROR, which goes before the host's own configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenPort:
    """A TCP port of 127.0.0.1 that another process listens on, and one that nobody does."""

    port: int
    owner: str
    """The process in words: "nginx (pid 12)"."""
    free_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Everything that a build host lacks, and the packages that bring it; the work can start when `fatal` is empty."""

    findings: tuple[Finding, ...]
    """CRITICAL where the work cannot be done without it, INFO where it is only worth knowing."""
    packages: tuple[str, ...]
    """Packages of this distribution that are missing."""
    install: tuple[tuple[str, ...], ...]
    """Commands that install them, in order; empty when nothing is missing or the distribution is unknown."""
    may_install: bool
    """bedplate may run them itself: root on Debian or Ubuntu."""

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """The findings that stop the work."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.CRITICAL)
