"""Measure a disk: the six coefficients of the linear model of blk-iocost, and the latency of an unloaded device.

The loads are those of the kernel's tools/cgroup/iocost_coef_gen.py: direct I/O with fio on a scratch file; 128 KiB
sequential for the bandwidth, 4 KiB sequential and random for the operations a second. Nothing but the scratch file is
written. A disk that somebody else uses at the same time measures slower than it is, so each load is checked for other I/O.
In the end io.cost is tried as it would be planned: reads as a loader makes them, with it and without, in turn. Where the
model is wrong for this disk, that shows what it would take from an engine.

A disk that stops answering leaves whoever touches it in uninterruptible sleep, so this process looks at no name on it and
makes and removes no file: programs with a time limit do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.lock import wait_lock
from bedplate.act.run import Completed, find_program, run
from bedplate.errors import BedplateError, CommandError, CommandTimeout, PreflightError, ReadError
from bedplate.host.kernel.disk import Disk, read_disk
from bedplate.host.root.root import Root
from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.progress import Progress
from bedplate.model.units import GIB, MIB, render_size
from bedplate.plan import io_weights
from bedplate.plan.tune.disks import plan_cost
from bedplate.prove.lab.asked_files import ANSWER_S, read_directory, remove_abandoned
from bedplate.prove.lab.fio import parse_fio_jobs
from bedplate.prove.lab.switch import PlanSwitch, one_experiment

SCRATCH_BYTES = 1 * GIB
LOAD_S = 5  # seconds a load; iocost_coef_gen.py takes 120, what differs on virtual disks and NVMe is within the spread
_SCRATCH = ".bedplate-disk-speed"
_FILL_S = 600.0
_MOST_FOREIGN = 0.05  # of the bytes of a load; above it the disk was not ours alone
_TURNS = 2  # without io.cost and with it
_MODEL, _QOS = "/sys/fs/cgroup/io.cost.model", "/sys/fs/cgroup/io.cost.qos"
_SECTOR = 512  # bytes; of /sys/block/*/stat, whatever the device's own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    name: str
    mode: str
    block: str
    depth: int


_REPORT = ("--time_based", "--output-format=json")
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


# As loaders read: synchronous, deep by threads, each its part of the file.
_LOADERS = 4
_AS_LOADED = ("--rw=read", "--bs=4M", "--ioengine=psync", f"--numjobs={_LOADERS}", "--group_reporting")


@dataclass(frozen=True, slots=True, kw_only=True)
class FioResult:
    """What one load reached; `p95_us` is of completion latency, the slower of reads and writes, 0 where fio gives none."""

    bytes_per_s: int
    iops: int
    p95_us: int
    bytes_moved: int


def measure_disk(
    directory: Path, progress: Progress, *, scratch_bytes: int = SCRATCH_BYTES, load_s: int = LOAD_S
) -> DeviceSpeed:
    """Speed of the disk that carries a directory; the scratch file in it is removed at any end.

    Raises UsageError for what is no directory, PreflightError without fio or room on the disk, ReadError where the directory
    is on no single disk, BedplateError where the disk was busy with something else, does not answer, or has io.cost switched
    on, through which everything would be measured, BusyError beside another experiment. A scratch file that cannot be
    removed is named in a note.
    """
    if os.geteuid() != 0:
        return _measure(directory, progress, scratch_bytes, load_s)
    with one_experiment("measure"):
        return _measure(directory, progress, scratch_bytes, load_s)


@contextmanager
def _scratch_file(directory: Path, disk: Disk, progress: Progress) -> Iterator[Path]:
    """An empty file, locked as long as this process lives, and removed at the end. Raises PreflightError where the directory
    cannot be written, BedplateError where the disk does not answer."""
    scratch = directory / f"{_SCRATCH}.{os.getpid()}"
    try:
        run(["touch", "--", scratch], timeout_s=ANSWER_S)
    except CommandTimeout as error:
        raise _silent(disk, f"{scratch} could not be made within {ANSWER_S:.0f} s") from error
    except CommandError as error:
        raise PreflightError(
            f"{directory}: the scratch file cannot be made in it: {error.tail.rpartition(': ')[2]}",
            hint="Name a directory on the same disk in which you may write.",
        ) from error
    try:
        with scratch.open("rb") as file:
            wait_lock(file.fileno())
            yield scratch
    finally:
        try:
            run(["rm", "-f", "--", scratch], timeout_s=ANSWER_S)
        except CommandError as error:
            progress.note(
                f"{scratch}: could not be removed; remove it when the disk answers, or let the next measurement do it"
            )
            if isinstance(error, CommandTimeout):
                raise _silent(disk, f"{scratch} could not be removed within {ANSWER_S:.0f} s") from error
            raise


def _silent(disk: Disk, what: str) -> BedplateError:
    return BedplateError(
        f"{disk.name} ({disk.number}): does not answer: {what}",
        hint=f"Look for errors of {disk.name} in the kernel log: journalctl -k | grep {disk.name}",
    )


def _measure(directory: Path, progress: Progress, scratch_bytes: int, load_s: int) -> DeviceSpeed:
    fio = find_program("fio")
    if fio is None:
        raise PreflightError("fio is not installed; it generates the loads", hint="Install it: apt-get install fio")
    asked = read_directory(directory)
    disk = read_disk(Root(), asked.device)
    results: list[FioResult] = []
    with _scratch_file(directory, disk, progress) as scratch:
        remove_abandoned(directory, f"{_SCRATCH}.*", but=scratch)
        _check_room(directory, read_directory(directory).free_bytes, scratch_bytes)
        _check_undivided(disk.number)
        with progress.phase(f"scratch file of {render_size(scratch_bytes)} on {disk.name}"):
            fill = [*_fio(fio, scratch, scratch_bytes), "--name=fill", "--rw=write", "--bs=1M", "--iodepth=8"]
            _run_fio(fill, "the scratch file", disk, timeout_s=_FILL_S)
        for load in _LOADS:
            with progress.phase(load.name):
                results.append(_run_load(fio, scratch, scratch_bytes, load, load_s, disk, progress))
        with progress.phase("reads as a model loader makes them"):
            part = scratch_bytes // _LOADERS
            parts = [f"--size={part}", f"--offset_increment={part}", f"--runtime={load_s}"]
            as_loaded = [*_fio(fio, scratch, scratch_bytes), "--name=load", *_AS_LOADED, *parts, *_REPORT]
            loaded = _timed(as_loaded, "reads of a model loader", load_s, disk, progress)
        speed = _speed(disk, [max(results[0], loaded, key=lambda speed: speed.bytes_per_s), *results[1:]])
        with progress.phase("io.cost as `tune` would set it"):
            kept_pct = _try_cost(speed, disk, as_loaded, load_s, progress)
    return replace(speed, kept_pct=kept_pct)


def _speed(disk: Disk, results: Sequence[FioResult]) -> DeviceSpeed:
    """Of the results of _LOADS, in their order."""
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
        kept_pct=None,
        kernel=os.uname().release,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def parse_fio(text: str) -> FioResult:
    """What one job of `fio --output-format=json` did; reads and writes together. Raises ReadError for another text."""
    try:
        job = parse_fio_jobs(text)[0]
        sides = [side for side in (job["read"], job["write"]) if side["total_ios"] > 0]
        if not sides:
            raise ReadError("fio did nothing: no I/O in its report")
        return FioResult(
            bytes_per_s=sum(int(side["bw_bytes"]) for side in sides),
            iops=sum(int(side["iops"]) for side in sides),
            p95_us=max(int(side["clat_ns"].get("percentile", {}).get("95.000000", 0)) // 1000 for side in sides),
            bytes_moved=sum(int(side["io_bytes"]) for side in sides),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"fio: its report is not what --output-format=json writes: {text[:80]!r}") from error


def parse_disk_stat(text: str) -> int:
    """Bytes read and written since the disk came, of /sys/block/NAME/stat (Documentation/block/stat.rst).

    Raises ReadError for another text.
    """
    fields = text.split()
    if len(fields) < 7 or not all(field.isdigit() for field in fields[:7]):
        raise ReadError(f"/sys/block/*/stat: expected numbers, got {text[:60]!r}")
    return (int(fields[2]) + int(fields[6])) * _SECTOR


def _run_load(fio: str, scratch: Path, size: int, load: _Load, load_s: int, disk: Disk, progress: Progress) -> FioResult:
    shape = [f"--rw={load.mode}", f"--bs={load.block}", f"--iodepth={load.depth}", f"--runtime={load_s}"]
    return _timed([*_fio(fio, scratch, size), "--name=load", *shape, *_REPORT], load.name, load_s, disk, progress)


def _try_cost(speed: DeviceSpeed, disk: Disk, argv: Sequence[str], load_s: int, progress: Progress) -> int | None:
    """Percent of a load's rate that is left when io.cost is as planned; None where it cannot be tried here."""
    root = Root()
    if not (os.access(root.at(_QOS), os.W_OK) and os.access(root.at(_MODEL), os.W_OK)):
        progress.note("not tried: no io.cost on this host (CONFIG_BLK_CGROUP_IOCOST, cgroup v2), or not root")
        return None
    if not systemd.can_make_scopes():
        progress.note("not tried: it needs a group with an I/O weight, and systemd is not running")
        return None
    weighed = systemd.scope_argv(argv, slice_name="inference.slice", properties=(f"IOWeight={io_weights.ENGINE}",))
    rates: dict[bool, int] = {False: 0, True: 0}
    with closing(PlanSwitch(plan_cost(speed, model=_read(root, _MODEL), qos=_read(root, _QOS)))) as switch:
        for turn in range(_TURNS):
            for divided in (False, True) if turn % 2 == 0 else (True, False):
                switch.turn(on=divided)
                name = f"loads {'with' if divided else 'without'} io.cost"
                rates[divided] += _timed(weighed, name, load_s, disk, progress).bytes_per_s
    kept_pct = 100 * rates[True] // max(rates[False], 1)
    progress.note(f"a load without any neighbour keeps {kept_pct} % under io.cost")
    return kept_pct


def _check_undivided(number: str) -> None:
    lines = _read(Root(), _QOS).splitlines()
    if any(line.split()[0] == number and "enable=1" in line.split() for line in lines if line.strip()):
        raise BedplateError(
            f"{number}: io.cost is on, so the result would show io.cost instead of the disk",
            hint=f"Switch it off: bedplate tune undo, or echo '{number} enable=0' > {_QOS}",
        )


def _timed(argv: Sequence[str], name: str, load_s: int, disk: Disk, progress: Progress) -> FioResult:
    """Run fio; its result, where the disk was ours alone meanwhile."""
    before = _moved(disk.name)
    result = parse_fio(_run_fio(argv, name, disk, timeout_s=load_s + 60).output)
    foreign = _moved(disk.name) - before - result.bytes_moved
    if foreign > max(result.bytes_moved * _MOST_FOREIGN, 4 * MIB):
        raise BedplateError(
            f"{disk.name}: {render_size(foreign)} of other I/O beside {render_size(result.bytes_moved)} of {name}",
            hint="Measure when nothing else uses the disk.",
        )
    progress.note(f"{name}: {render_size(result.bytes_per_s)}/s, {result.iops} operations/s, p95 {result.p95_us} us")
    return result


def _run_fio(argv: Sequence[str], name: str, disk: Disk, *, timeout_s: float) -> Completed:
    try:
        return run(argv, timeout_s=timeout_s, split=True)
    except CommandTimeout as error:
        raise _silent(disk, f"fio ({name}) did not end within {timeout_s:.0f} s") from error


def _fio(fio: str, scratch: Path, size: int) -> list[str]:
    return [fio, f"--filename={scratch}", f"--size={size}", "--direct=1", "--ioengine=libaio", "--randrepeat=0", "--thread"]


def _moved(disk: str) -> int:
    return parse_disk_stat(_read(Root(), f"/sys/block/{disk}/stat"))


def _read(root: Root, path: str) -> str:
    return root.read(path).value or ""


def _check_room(directory: Path, free_bytes: int, scratch_bytes: int) -> None:
    if free_bytes < scratch_bytes * 2:
        raise PreflightError(
            f"{directory}: {render_size(free_bytes)} free,"
            f" expected {render_size(scratch_bytes * 2)}: twice the size of the scratch file",
            hint="Give a smaller --size, or a directory with more space.",
        )
