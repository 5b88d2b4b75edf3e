"""The encrypted /var: take its recovery key out of a disk, make one, and say why /var does not open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedplate.act import consoles, systemd
from bedplate.act.files import write_report
from bedplate.act.recovery import ensure_recovery_key, find_blob
from bedplate.act.run import run
from bedplate.errors import BedplateError, CommandError, NotRunningError, ReadError
from bedplate.host.root.root import Root
from bedplate.host.system.luks import is_luks, read_luks_header
from bedplate.host.system.var import (
    find_var_volume,
    has_tpm,
    has_var_partition,
    read_policy,
    read_recovery_certificate,
)
from bedplate.model.progress import Progress
from bedplate.model.var import OnVarFailure
from bedplate.plan.var_trouble import explain_var, render_halt, render_trouble

# By the name that a program gives itself: journald looks the unit up, and for one that has ended it comes too late.
_WRITERS = ("SYSLOG_IDENTIFIER=systemd-repart", "SYSLOG_IDENTIFIER=systemd-cryptsetup", "SYSLOG_IDENTIFIER=mount")
# Where partitioning failed, the units behind it would wait for a partition that does not come.
_STOP_VAR = ("stop", "var.mount", "systemd-cryptsetup@varcrypt.service")
_REBOOT = ("start", "bedplate-reboot.timer")
_FAILED: dict[OnVarFailure, tuple[tuple[str, ...], ...]] = {
    OnVarFailure.SERVE: (),
    OnVarFailure.REBOOT: (_REBOOT,),
    OnVarFailure.WAIT: (("stop", "bedplate-haproxy.service", "inference.slice"),),
}
_HALTED: dict[OnVarFailure, tuple[tuple[str, ...], ...]] = {
    OnVarFailure.SERVE: (_REBOOT,),
    OnVarFailure.REBOOT: (_REBOOT,),
    OnVarFailure.WAIT: (),
}
_VAR_TYPE = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"  # Discoverable Partitions Specification: variable data


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedKey:
    """Where the encrypted recovery key of a disk was, and how the volume is opened with it."""

    offset_bytes: int
    """Of the encrypted volume on the disk."""
    size_bytes: int
    certificate: str
    """SHA-256 of the certificate to which the key is encrypted, in hexadecimal."""
    header_copy: str
    """Which of the two copies of the LUKS2 header was read."""
    header_problem: str
    """What is wrong with the other one; "" when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A recovery key of an open /var."""

    volume: Path
    fingerprint: str
    """SHA-256 of its certificate, in hexadecimal."""
    made: bool
    """Now; otherwise it was there."""


def extract_key(disk: Path, out: Path) -> ExtractedKey:
    """Write the encrypted recovery key of a raw disk image, a block device or its /var partition into a file.

    Raises ReadError for a disk without /var or without a recovery key, and for files that cannot be read or written.
    """
    try:
        offset, size = _find_var(disk)
        with disk.open("rb") as volume:
            header = read_luks_header(volume, offset=offset, name=f"{disk}, /var")
        blob, certificate = find_blob(header.tokens, name=f"{disk}, /var")
        write_report(out, blob)
    except OSError as error:
        raise ReadError(f"{error.filename or disk}: {error.strerror}") from error
    return ExtractedKey(
        certificate=certificate,
        offset_bytes=offset,
        size_bytes=size,
        header_copy=header.copy,
        header_problem=header.problem,
    )


def _find_var(disk: Path) -> tuple[int, int]:
    """(offset, size) in bytes of the encrypted /var on a disk, or of the volume that the file itself is."""
    from bedplate.image.manifest import read_partitions  # the image is built without it

    with disk.open("rb") as handle:
        if is_luks(handle):
            return 0, handle.seek(0, os.SEEK_END)
    for partition in read_partitions(disk):
        if partition.type == _VAR_TYPE:
            return partition.offset_bytes, partition.size_bytes
    raise ReadError(f"{disk}: has no partition for /var", hint="Boot the machine once: the first boot makes the partition.")


def say_failed(progress: Progress, *, root: Root | None = None) -> None:
    """Say why /var is not there, and follow the policy whatever else fails. Raises BedplateError naming what did."""
    root = root or Root()
    policy = read_policy(root)
    try:
        trouble = explain_var(_journal(), has_tpm=has_tpm(root), has_partition=has_var_partition(root))
        line = render_trouble(trouble, policy)
        progress.note(line)
        consoles.write_consoles(root, line)
    finally:
        _tell_systemd(_STOP_VAR, *_FAILED[policy])


def say_halted(progress: Progress, *, root: Root | None = None) -> None:
    """Say why the boot cannot go on: the units that failed. Then follow the policy, whatever else fails.

    Raises BedplateError naming each command that systemd refused, after all were tried.
    """
    root = root or Root()
    policy = read_policy(root)
    try:
        try:
            failed = [unit.name for unit in systemd.list_units("--state=failed")]
        except (CommandError, ValueError, KeyError, TypeError):
            failed = ["(not known)"]
        line = render_halt(failed, policy)
        progress.note(line)
        consoles.write_consoles(root, line)
    finally:
        _tell_systemd(*_HALTED[policy])


def _tell_systemd(*commands: tuple[str, ...]) -> None:
    """Give each command, the later ones also where an earlier one failed; then raise BedplateError naming all that did."""
    do = {"start": systemd.start, "stop": systemd.stop}
    failures = []
    for verb, *units in commands:
        try:
            do[verb](units, wait=False)
        except CommandError as error:
            failures.append(f"{' '.join((verb, *units))}: {error.message}")
    if failures:
        raise BedplateError("; ".join(failures))


def enrol(*, root: Root | None = None) -> Enrolled:
    """Give /var a recovery key for the image's certificate, unless it has one. Raises NotRunningError where there is no
    certificate or /var is not open."""
    root = root or Root()
    certificate = read_recovery_certificate(root)
    volume = find_var_volume(root)
    if certificate is None or volume is None:
        raise NotRunningError("no recovery key was added: the image has no recovery certificate, or /var is not open")
    made = ensure_recovery_key(volume, certificate)
    return Enrolled(volume=volume, fingerprint=certificate.fingerprint, made=made)


def _journal() -> list[str]:
    """What the programs that open /var have said in this boot; empty when the journal does not answer."""
    words = [word for writer in _WRITERS for word in (writer, "+")][:-1]
    try:
        done = run(["journalctl", "-b", "-o", "cat", "-n", "200", "--no-pager", *words], timeout_s=300.0, split=True)
    except CommandError:
        return []
    return done.output.splitlines()
