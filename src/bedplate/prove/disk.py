"""Measure a disk: the six coefficients of the linear model of blk-iocost, and the latency of an unloaded device.

The loads are those of the kernel's tools/cgroup/iocost_coef_gen.py: direct I/O with fio on a scratch file; 128 KiB
sequential for the bandwidth, 4 KiB sequential and random for the operations a second. Nothing but the scratch file is
written. A disk that somebody else uses at the same time measures slower than it is, so each load is checked for other I/O.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.run import find_program, run
from bedplate.errors import BedplateError, PreflightError, ReadError
from bedplate.host.disk import read_disk
from bedplate.host.root import Root
from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.progress import Progress
from bedplate.model.units import GIB, MIB, render_size

SCRATCH_BYTES = 1 * GIB
LOAD_S = 5  # seconds a load; iocost_coef_gen.py takes 120, what differs on virtual disks and NVMe is within the spread
_SCRATCH = ".bedplate-disk-speed"
_MOST_FOREIGN = 0.05  # of the bytes of a load; above it the disk was not ours alone
_SECTOR = 512  # bytes; of /sys/block/*/stat, whatever the device's own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    name: str
    mode: str
    block: str
    depth: int
    jobs: int = 1


_LOADS = (
    _Load(name="sequential reads, 128 KiB", mode="read", block="128k", depth=32),
    _Load(name="sequential reads, 4 KiB", mode="read", block="4k", depth=64),
    _Load(name="random reads, 4 KiB", mode="randread", block="4k", depth=64),
    _Load(name="sequential writes, 128 KiB", mode="write", block="128k", depth=32),
    _Load(name="sequential writes, 4 KiB", mode="write", block="4k", depth=64),
    _Load(name="random writes, 4 KiB", mode="randwrite", block="4k", depth=64),
    _Load(name="random reads one at a time", mode="randread", block="4k", depth=1),
    _Load(name="random writes one at a time", mode="randwrite", block="4k", depth=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FioResult:
    bytes_per_s: int
    iops: int
    p95_us: int
    bytes_moved: int


def measure_disk(
    directory: Path, progress: Progress, *, scratch_bytes: int = SCRATCH_BYTES, load_s: int = LOAD_S
) -> DeviceSpeed:
    """Speed of the disk that carries a directory; the scratch file in it is removed at any end.

    Raises PreflightError without fio, ReadError where the directory is on no single disk, BedplateError where the disk has
    too little room or was busy with something else.
    """
    fio = find_program("fio")
    if fio is None:
        raise PreflightError("fio is not installed; it makes the loads", hint="Install it: apt-get install fio")
    number = directory.stat().st_dev
    disk = read_disk(Root(), f"{os.major(number)}:{os.minor(number)}")
    _check_room(directory, scratch_bytes)
    scratch = directory / f"{_SCRATCH}.{os.getpid()}"
    results: list[FioResult] = []
    try:
        with progress.phase(f"scratch file of {render_size(scratch_bytes)} on {disk.name}"):
            run([*_fio(fio, scratch, scratch_bytes), "--name=fill", "--rw=write", "--bs=1M", "--iodepth=8"], timeout_s=600)
        for load in _LOADS:
            with progress.phase(load.name):
                results.append(_run_load(fio, scratch, scratch_bytes, load, load_s, disk.name, progress))
    finally:
        with suppress(FileNotFoundError):
            scratch.unlink()
    return DeviceSpeed(
        device=disk.name,
        number=disk.number,
        model=disk.model,
        read_bytes_per_s=results[0].bytes_per_s,
        read_seq_iops=results[1].iops,
        read_rand_iops=results[2].iops,
        write_bytes_per_s=results[3].bytes_per_s,
        write_seq_iops=results[4].iops,
        write_rand_iops=results[5].iops,
        read_p95_us=results[6].p95_us,
        write_p95_us=results[7].p95_us,
        kernel=os.uname().release,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def parse_fio(text: str) -> FioResult:
    """What one job of `fio --output-format=json` did; reads and writes together. Raises ReadError for another text."""
    start = text.find("{")  # notes of fio about the job stand before it
    try:
        job: dict[str, Any] = json.loads(text[start:])["jobs"][0]
        sides = [side for side in (job["read"], job["write"]) if side["total_ios"] > 0]
        if not sides:
            raise ReadError("fio did nothing: no I/O in its report")
        return FioResult(
            bytes_per_s=sum(int(side["bw_bytes"]) for side in sides),
            iops=sum(int(side["iops"]) for side in sides),
            p95_us=max(int(side["clat_ns"].get("percentile", {}).get("95.000000", 0)) // 1000 for side in sides),
            bytes_moved=sum(int(side["io_bytes"]) for side in sides),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ReadError(f"fio: its report is not what --output-format=json writes: {text[:80]!r}") from error


def parse_disk_stat(text: str) -> int:
    """Bytes read and written since the disk came, of /sys/block/NAME/stat (Documentation/block/stat.rst)."""
    fields = text.split()
    if len(fields) < 7 or not all(field.isdigit() for field in fields[:7]):
        raise ReadError(f"/sys/block/*/stat: expected numbers, got {text[:60]!r}")
    return (int(fields[2]) + int(fields[6])) * _SECTOR


def _run_load(fio: str, scratch: Path, size: int, load: _Load, load_s: int, disk: str, progress: Progress) -> FioResult:
    before = _moved(disk)
    done = run(
        [
            *_fio(fio, scratch, size),
            "--name=load",
            f"--rw={load.mode}",
            f"--bs={load.block}",
            f"--iodepth={load.depth}",
            "--time_based",
            f"--runtime={load_s}",
            "--output-format=json",
        ],
        timeout_s=load_s + 60,
        split=True,
    )
    result = parse_fio(done.output)
    foreign = _moved(disk) - before - result.bytes_moved
    if foreign > max(result.bytes_moved * _MOST_FOREIGN, 4 * MIB):
        raise BedplateError(
            f"{disk}: {render_size(foreign)} of other I/O beside {render_size(result.bytes_moved)} of {load.name}",
            hint="Measure when nothing else uses the disk.",
        )
    progress.note(f"{load.name}: {render_size(result.bytes_per_s)}/s, {result.iops} operations/s, p95 {result.p95_us} us")
    return result


def _fio(fio: str, scratch: Path, size: int) -> list[str]:
    return [fio, f"--filename={scratch}", f"--size={size}", "--direct=1", "--ioengine=libaio", "--randrepeat=0", "--thread"]


def _moved(disk: str) -> int:
    return parse_disk_stat(Root().read(f"/sys/block/{disk}/stat").value or "")


def _check_room(directory: Path, scratch_bytes: int) -> None:
    free = os.statvfs(directory)
    room = free.f_bavail * free.f_frsize
    if room < scratch_bytes * 2:
        raise BedplateError(
            f"{directory}: {render_size(room)} free,"
            f" expected {render_size(scratch_bytes * 2)}: the scratch file and as much left over",
            hint="Give a smaller --size, or a directory with more room.",
        )
