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
from bedplate.model.units import MIB, render_size

_LEAST_SCRATCH_BYTES = 16 * MIB
_MOST_LOAD_S = 600


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
    if scratch_bytes < _LEAST_SCRATCH_BYTES:
        raise UsageError(f"--size: got {render_size(scratch_bytes)}, expected 16M or more")
    if not 1 <= load_s <= _MOST_LOAD_S:
        raise UsageError(f"--seconds: got {load_s}, expected 1 to {_MOST_LOAD_S}")
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
