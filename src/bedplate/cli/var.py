"""Manage the recovery key of the encrypted /var, and report why /var does not open.

`blob` runs on any host. It reads a disk that was taken out of a machine, or the disk image of a virtual machine, writes the
encrypted recovery key to a file, and prints how to use it. Only the owner of the recovery certificate's private key can
decrypt it. The other subcommands are for the units of the operating system image.

examples:
  bedplate var blob disk.raw --out blob     extract the encrypted recovery key from a raw image or block device
  bedplate var failed                       report on every console why /var is missing, and follow the image's policy
  bedplate var halted                       report on every console why the boot cannot continue
  bedplate var enrol                        add a recovery key to /var if the image's certificate has none in it yet
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from bedplate.cli.subcommand import add_subcommand
from bedplate.errors import BedplateError, CommandError, NotRunningError, ReadError
from bedplate.host.root.root import Root
from bedplate.model.var import OnVarFailure

HELP = "manage the recovery key of the encrypted /var, and report why /var does not open"
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate var`: blob for people, and three that only units of the image call."""
    verbs = parser.add_subparsers(dest="verb", metavar="blob|failed|halted|enrol", required=True)
    blob = add_subcommand(
        verbs,
        "blob",
        help="extract the encrypted recovery key of a disk",
        examples=("bedplate var blob disk.raw --out blob", "bedplate var blob /dev/sdb --out blob --json"),
    )
    blob.add_argument(
        "disk", type=Path, metavar="DISK", help="raw disk image, block device, or the /var partition of either"
    )
    blob.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write the encrypted key to")
    blob.add_argument(
        "--json",
        action="store_true",
        help="print where /var is, which certificate the key is for, and which copy of the header was read, as JSON",
    )
    add_subcommand(
        verbs,
        "failed",
        help="report on every console why /var is missing (for units)",
        examples=("bedplate var failed",),
    )
    add_subcommand(
        verbs,
        "halted",
        help="report on every console why the boot cannot continue (for units)",
        examples=("bedplate var halted",),
    )
    add_subcommand(
        verbs, "enrol", help="add a recovery key to /var if it has none (for units)", examples=("bedplate var enrol",)
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work. blob raises ReadError for a disk without /var or without a recovery key.

    failed and halted raise BedplateError for commands that systemd refused, after all were tried; enrol raises
    NotRunningError where there is no certificate or /var is not open.
    """
    match arguments.verb:
        case "blob":
            return _blob(arguments)
        case "failed":
            return say_failed(Root())
        case "halted":
            return say_halted(Root())
    return _enrol(Root())


def _blob(arguments: argparse.Namespace) -> int:
    from bedplate.act.files import write_report
    from bedplate.act.recovery import find_blob
    from bedplate.host.system.luks import read_luks_header

    disk: Path = arguments.disk
    try:
        offset, size = _find_var(disk)
        with disk.open("rb") as volume:
            header = read_luks_header(volume, offset=offset, name=f"{disk}, /var")
        blob, certificate = find_blob(header.tokens, name=f"{disk}, /var")
        write_report(arguments.out, blob)
    except OSError as error:
        raise ReadError(f"{error.filename or disk}: {error.strerror}") from error
    if header.problem:
        print(f"note: {disk}, /var: in its header, {header.problem}; the {header.copy} copy was read", file=sys.stderr)
    if arguments.json:
        record = {"schema": 1, "offset_bytes": offset, "size_bytes": size, "certificate": certificate}
        print(json.dumps({**record, "header_copy": header.copy, "header_problem": header.problem}))
        return 0
    out, name = shlex.quote(os.fspath(arguments.out)), shlex.quote(os.fspath(disk))
    print(f"{arguments.out}: the recovery key of {disk}, encrypted to the certificate with the SHA-256")
    print(f"{certificate}\n\nWith its private key:\n")
    print(f"  openssl pkeyutl -decrypt -inkey recovery.key -in {out} -out passphrase \\")
    print("      -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256")
    print(f"  losetup --find --show --read-only --offset {offset} --sizelimit {size} {name}    # prints the device")
    print("  cryptsetup open --readonly --key-file passphrase /dev/loopN var && mount -o ro,noload /dev/mapper/var /mnt")
    return 0


def _find_var(disk: Path) -> tuple[int, int]:
    """(offset, size) in bytes of the encrypted /var on a disk, or of the volume that the file itself is."""
    from bedplate.host.system.luks import is_luks
    from bedplate.image.manifest import read_partitions

    with disk.open("rb") as handle:
        if is_luks(handle):
            return 0, handle.seek(0, os.SEEK_END)
    for partition in read_partitions(disk):
        if partition.type == _VAR_TYPE:
            return partition.offset_bytes, partition.size_bytes
    raise ReadError(f"{disk}: has no partition for /var", hint="Boot the machine once: the first boot makes the partition.")


def say_failed(root: Root) -> int:
    """Say why /var is not there, and follow the policy whatever else fails. Raises BedplateError naming what did."""
    from bedplate.act.consoles import write_consoles
    from bedplate.host.system.var import has_tpm, has_var_partition, read_policy
    from bedplate.plan.var_trouble import explain_var, render_trouble

    policy = read_policy(root)
    try:
        trouble = explain_var(_journal(), has_tpm=has_tpm(root), has_partition=has_var_partition(root))
        line = render_trouble(trouble, policy)
        print(line, file=sys.stderr)  # the journal
        write_consoles(root, line)
    finally:
        _tell_systemd(_STOP_VAR, *_FAILED[policy])
    return 0


def say_halted(root: Root) -> int:
    """Say why the boot cannot go on: the units that failed. Then follow the policy, whatever else fails; gives 0.

    Raises BedplateError naming each command that systemd refused, after all were tried.
    """
    from bedplate.act import systemd
    from bedplate.act.consoles import write_consoles
    from bedplate.host.system.var import read_policy
    from bedplate.plan.var_trouble import render_halt

    policy = read_policy(root)
    try:
        try:
            failed = [unit.name for unit in systemd.list_units("--state=failed")]
        except (CommandError, ValueError, KeyError, TypeError):
            failed = ["(not known)"]
        line = render_halt(failed, policy)
        print(line, file=sys.stderr)
        write_consoles(root, line)
    finally:
        _tell_systemd(*_HALTED[policy])
    return 0


def _tell_systemd(*commands: tuple[str, ...]) -> None:
    """Give each command, the later ones also where an earlier one failed; then raise BedplateError naming all that did."""
    from bedplate.act import systemd

    do = {"start": systemd.start, "stop": systemd.stop}
    failures = []
    for verb, *units in commands:
        try:
            do[verb](units, wait=False)
        except CommandError as error:
            failures.append(f"{' '.join((verb, *units))}: {error.message}")
    if failures:
        raise BedplateError("; ".join(failures))


def _enrol(root: Root) -> int:
    from bedplate.act.recovery import ensure_recovery_key
    from bedplate.host.system.var import find_var_volume, read_recovery_certificate

    certificate = read_recovery_certificate(root)
    volume = find_var_volume(root)
    if certificate is None or volume is None:
        raise NotRunningError("no recovery key was made: the image has no recovery certificate, or /var is not open")
    made = ensure_recovery_key(volume, certificate)
    says = "made a recovery key" if made else "already has a recovery key"
    print(f"{volume}: {says} for the certificate {certificate.fingerprint}")
    return 0


def _journal() -> list[str]:
    """What the programs that open /var have said in this boot; empty when the journal does not answer."""
    from bedplate.act.run import run

    words = [word for writer in _WRITERS for word in (writer, "+")][:-1]
    try:
        done = run(["journalctl", "-b", "-o", "cat", "-n", "200", "--no-pager", *words], timeout_s=300.0, split=True)
    except CommandError:
        return []
    return done.output.splitlines()
