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
import os
from dataclasses import asdict
from pathlib import Path

from bedplate.cli.result import print_result
from bedplate.cli.subcommand import add_subcommand, run_subcommand
from bedplate.cli.talk import Talk
from bedplate.flows import var
from bedplate.report.recovery_key import render_recovery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate var`: blob for people, and three that only units of the image call."""
    verbs = parser.add_subparsers(dest="verb", metavar="blob|failed|halted|enrol", required=True)
    blob = add_subcommand(
        verbs,
        "blob",
        run=_blob,
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
        run=_failed,
        help="report on every console why /var is missing (for units)",
        examples=("bedplate var failed",),
    )
    add_subcommand(
        verbs,
        "halted",
        run=_halted,
        help="report on every console why the boot cannot continue (for units)",
        examples=("bedplate var halted",),
    )
    add_subcommand(
        verbs,
        "enrol",
        run=_enrol,
        help="add a recovery key to /var if it has none (for units)",
        examples=("bedplate var enrol",),
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work. blob raises ReadError for a disk without /var or without a recovery key.

    failed and halted raise BedplateError for commands that systemd refused, after all were tried; enrol raises
    NotRunningError where there is no certificate or /var is not open.
    """
    return run_subcommand(arguments)


def _blob(arguments: argparse.Namespace) -> int:
    disk: Path = arguments.disk
    found = var.extract_key(disk, arguments.out)
    if found.header_problem:
        Talk().note(f"note: {disk}, /var: in its header, {found.header_problem}; the {found.header_copy} copy was read")
    text = render_recovery(
        disk=os.fspath(disk),
        out=os.fspath(arguments.out),
        certificate=found.certificate,
        offset_bytes=found.offset_bytes,
        size_bytes=found.size_bytes,
    )
    return print_result(arguments, {"schema": 1, **asdict(found)}, text, indent=None)


def _failed(_: argparse.Namespace) -> int:
    var.say_failed(Talk())
    return 0


def _halted(_: argparse.Namespace) -> int:
    var.say_halted(Talk())
    return 0


def _enrol(_: argparse.Namespace) -> int:
    enrolled = var.enrol()
    says = "made a recovery key" if enrolled.made else "already has a recovery key"
    print(f"{enrolled.volume}: {says} for the certificate {enrolled.fingerprint}")
    return 0
