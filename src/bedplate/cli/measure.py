"""Measure how fast a disk really is: what `bedplate tune` computes io.cost and the dirty limits from.

It writes one scratch file into the directory and removes it at the end; nine loads of fio with direct I/O, then four more by
which io.cost is tried as tune would set it, with it and without; a minute and a half in all. Where it would take more than a
tenth of a load that nothing disturbs, tune leaves it. Whoever uses the disk meanwhile is slowed down, and is noticed: a disk
that was busy is not measured. Interrupted it leaves nothing behind; what a killed one left, the next one takes back.

examples:
  bedplate measure /var/lib/bedplate/models      the disk that carries this directory
  bedplate measure /srv --size 4G --seconds 15   slower and steadier, for large caches in the device
  bedplate measure /srv --dry-run --json         print the record, keep nothing

The record is kept in /var/lib/bedplate/disks, and is used as long as this device is there. Undo: remove the file.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bedplate.errors import BedplateError, UsageError

HELP = "how fast a disk really is; tune computes io.cost and the dirty limits from it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--size", metavar="SIZE", default="1G", help="of the scratch file (default: 1G)")
    parser.add_argument("--seconds", metavar="N", type=int, default=5, help="of each load (default: 5)")
    parser.add_argument("--dry-run", action="store_true", help="keep no record")
    parser.add_argument("--json", action="store_true", help="the record as JSON")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress
    from bedplate.host.device_speeds import DIRECTORY, render_device_speed
    from bedplate.model.units import MIB, parse_size
    from bedplate.prove.disk import measure_disk

    try:
        size = parse_size(arguments.size)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error
    if size < 16 * MIB:
        raise UsageError(f"--size: {arguments.size} is too small, expected 16M or more")
    if not 1 <= arguments.seconds <= 600:
        raise UsageError(f"--seconds: {arguments.seconds} is not between 1 and 600")
    if not arguments.directory.is_dir():
        raise UsageError(f"{arguments.directory}: is no directory", hint="Name a directory on the disk.")
    if not arguments.dry_run and os.geteuid() != 0:
        raise UsageError(f"keeping the record in {DIRECTORY} needs root", hint="Run it as root, or with --dry-run.")
    with terminal_progress() as progress:
        speed = measure_disk(arguments.directory, progress, scratch_bytes=size, load_s=arguments.seconds)
    text = render_device_speed(speed)
    if not arguments.dry_run:
        file = Path(DIRECTORY) / f"{speed.device}.json"
        _write(file, text)
        print(f"wrote {file}; bedplate tune plan uses it from now on", file=sys.stderr)
    print(text if arguments.json else _table(text), end="")
    return 0


def _table(text: str) -> str:
    import json

    from bedplate.plan.tune.disks import LEAST_KEPT_PCT

    record = json.loads(text)
    rows = [
        ("disk", f"{record['device']} ({record['number']}) {record['model']}".strip()),
        ("reads", f"{record['read_bytes_per_s'] / 1e6:.0f} MB/s, {record['read_seq_iops']} sequential and"),
        ("", f"{record['read_rand_iops']} random operations a second, p95 {record['read_p95_us']} us one at a time"),
        ("writes", f"{record['write_bytes_per_s'] / 1e6:.0f} MB/s, {record['write_seq_iops']} sequential and"),
        ("", f"{record['write_rand_iops']} random operations a second, p95 {record['write_p95_us']} us one at a time"),
    ]
    kept = record["kept_pct"]
    told = "not tried here" if kept is None else f"leaves {kept} % of a load that nothing disturbs"
    rows.append(("io.cost", told + (f": tune plans it from {LEAST_KEPT_PCT} on" if kept is not None else "")))
    return "".join(f"{name:<8}{value}\n" for name, value in rows)


def _write(file: Path, text: str) -> None:
    from bedplate.act.tuning.durable import write_whole

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as error:
        raise BedplateError(f"{file}: cannot be written: {error.strerror or error}") from error
