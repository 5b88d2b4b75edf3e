"""Measure how fast a disk really is, and keep the record from which the plan of a host computes io.cost and dirty limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.errors import BedplateError, PreflightError, UsageError
from bedplate.host.system.device_speeds import DIRECTORY, render_device_speed
from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.progress import Progress
from bedplate.model.units import MIB

LEAST_SCRATCH_BYTES = 16 * MIB
MOST_LOAD_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOutcome:
    """The speed of a disk, from which plans compute io.cost and dirty limits, and the file that keeps it."""

    speed: DeviceSpeed
    file: Path | None
    """Where the record is kept; None when it is not."""
    record: str
    """What the file has in it: JSON."""


def measure(directory: Path, progress: Progress, *, scratch_bytes: int, load_s: int, keep: bool = True) -> MeasureOutcome:
    """The disk that carries a directory. scratch_bytes: size of the file that is written; load_s: seconds of each load.

    Raises UsageError for what cannot be measured, PreflightError without root where a record is kept, BedplateError for
    a disk that was busy or a record that cannot be written.
    """
    if scratch_bytes < LEAST_SCRATCH_BYTES or not 1 <= load_s <= MOST_LOAD_S:
        raise UsageError(f"{scratch_bytes} bytes, {load_s} s: expected 16 MiB or more, and 1 to {MOST_LOAD_S} s")
    if keep and os.geteuid() != 0:
        raise PreflightError(f"saving the record in {DIRECTORY} needs root", hint="Run it as root, or with --dry-run.")
    from bedplate.prove.lab.disk import measure_disk  # the image is built without it

    speed = measure_disk(directory, progress, scratch_bytes=scratch_bytes, load_s=load_s)
    record = render_device_speed(speed)
    if not keep:
        return MeasureOutcome(speed=speed, file=None, record=record)
    file = Path(DIRECTORY) / f"{speed.device}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, record, sync=True)
    except OSError as error:
        raise BedplateError(f"{file}: cannot be written: {error.strerror or error}") from error
    return MeasureOutcome(speed=speed, file=file, record=record)
