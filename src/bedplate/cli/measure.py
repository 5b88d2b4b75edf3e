"""Measure how fast a disk is. `bedplate tune` computes io.cost and the dirty limits from the result.

The command writes one scratch file into the directory and removes it at the end. It runs nine loads of fio with direct I/O,
then four more that compare the disk with and without the io.cost that `tune` would set: a minute and a half in all. If
io.cost slows an undisturbed load by more than 10 %, `tune` does not use it. The loads slow down other users of the disk. If
other programs keep the disk busy, the command stops and records nothing. An interrupted run removes its scratch file; the
next run removes the file of a run that was killed.

examples:
  bedplate measure /var/lib/bedplate/models      measure the disk that holds this directory
  bedplate measure /srv --size 4G --seconds 15   measure longer, for devices with a large cache
  bedplate measure /srv --dry-run --json         print the record, and do not save it

The record is saved in /var/lib/bedplate/disks, and is used as long as this device is present. To undo, remove the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bedplate.cli.talk import Talk
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import UsageError
from bedplate.flows.measure import measure
from bedplate.model.units import parse_size
from bedplate.report.device_speed import render_device_speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate measure`; --size is parsed by `main`, since its message names the option."""
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="directory on the disk to measure")
    parser.add_argument("--size", metavar="SIZE", default="1G", help="size of the scratch file (default: 1G)")
    parser.add_argument("--seconds", metavar="N", type=int, default=5, help="duration of each load in seconds (default: 5)")
    parser.add_argument("--dry-run", action="store_true", help="print the result, and do not save a record")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Print what the disk can do, and keep that for `bedplate tune` unless --dry-run; the exit status is 0.

    Raises UsageError for a directory or numbers that cannot be measured, PreflightError without root where a record is kept,
    BedplateError for a disk that was busy or a record that cannot be written.
    """
    try:
        size = parse_size(arguments.size)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error
    with terminal_progress() as progress:
        outcome = measure(
            arguments.directory, progress, scratch_bytes=size, load_s=arguments.seconds, keep=not arguments.dry_run
        )
    if outcome.file is not None:
        Talk().note(f"wrote {outcome.file}; bedplate tune plan uses it from now on")
    print(outcome.record if arguments.json else render_device_speed(outcome.speed), end="")
    return 0
