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
import sys
from dataclasses import asdict
from pathlib import Path

from bedplate.cli.subcommand import add_subcommand
from bedplate.cli.talk import Talk
from bedplate.report.recovery_key import render_recovery


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
            from bedplate.flows.var import say_failed

            say_failed(Talk())
        case "halted":
            from bedplate.flows.var import say_halted

            say_halted(Talk())
        case _:
            return _enrol()
    return 0


def _blob(arguments: argparse.Namespace) -> int:
    from bedplate.flows.var import extract_key

    disk: Path = arguments.disk
    found = extract_key(disk, arguments.out)
    if found.header_problem:
        print(
            f"note: {disk}, /var: in its header, {found.header_problem}; the {found.header_copy} copy was read",
            file=sys.stderr,
        )
    if arguments.json:
        print(json.dumps({"schema": 1, **asdict(found)}))
        return 0
    text = render_recovery(
        disk=os.fspath(disk),
        out=os.fspath(arguments.out),
        certificate=found.certificate,
        offset_bytes=found.offset_bytes,
        size_bytes=found.size_bytes,
    )
    print(text, end="")
    return 0


def _enrol() -> int:
    from bedplate.flows.var import enrol

    enrolled = enrol()
    says = "made a recovery key" if enrolled.made else "already has a recovery key"
    print(f"{enrolled.volume}: {says} for the certificate {enrolled.fingerprint}")
    return 0
