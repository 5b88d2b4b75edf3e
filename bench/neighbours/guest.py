"""Boots the guest, lets the measuring program run in it, and tells it what the host under it did meanwhile."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.paths import Paths
from bedplate.errors import BootError
from bedplate.host.root.root import Root
from bedplate.model.progress import Progress
from bedplate.model.units import GIB
from bedplate.prove.gauge.sampler import take_snapshot, usage_between
from bench.inplace import Guest, GuestOptions, running_guest
from bench.inplace.guest import make_data_disk
from bench.neighbours.guest_site import FOREIGN
from bench.neighbours.inside import DONE
from bench.neighbours.models import mapped_model, write_load_file

HERE = Path(__file__).parent
MEMORY_BYTES = GIB
SCRATCH_BYTES = 3 * GIB
# Limits of the disk under engine and neighbours: where every instruction is emulated only a slow disk is slower than its
# reader, as a real one is under a real machine.
SCRATCH_BYTES_PER_S = 120_000_000
SCRATCH_OPERATIONS_PER_S = 1000
_UNIT = "bench-neighbours"
_OVERTIME_S = 900.0


def measure_in_guest(
    paths: Paths, arguments: argparse.Namespace, trace: Path, keep: Path, progress: Progress, words: list[str]
) -> None:
    """Boot, measure, power off; what was measured is copied to keep whenever it grows."""
    (paths.cache / "bench").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="neighbours-", dir=paths.cache / "bench") as temporary:
        directory = Path(temporary)
        content = directory / "content"
        content.mkdir()
        shutil.copyfile(mapped_model(paths, progress), content / "mapped.gguf")
        write_load_file(content / "load.gguf")
        make_data_disk(directory / "data.raw", content)
        shutil.rmtree(content)
        options = GuestOptions(
            memory_bytes=MEMORY_BYTES,
            scratch_bytes=SCRATCH_BYTES,
            scratch_bytes_per_s=SCRATCH_BYTES_PER_S,
            scratch_operations_per_s=SCRATCH_OPERATIONS_PER_S,
            data=directory / "data.raw",
        )
        with running_guest(paths, progress, directory=directory, options=options) as guest:
            guest.wait_serving()
            _install(guest, trace)
            minutes = arguments.minutes or 45.0
            with progress.phase("measure in the guest"), _watching_host(guest):
                _run(guest, words, minutes * 60 + _OVERTIME_S, keep, progress)
            guest.power_off()


def _install(guest: Guest, trace: Path) -> None:
    """Models onto the throttled disk, the measuring program and the trace onto the guest's own."""
    share = guest.share
    shutil.copyfile(trace, share / "trace.csv")
    package = share / "bench"
    shutil.copytree(HERE, package / "neighbours", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text('"""The measuring program."""\n')
    guest.run(
        "mkdir -p /opt/bench && cp -r /share/bench /opt/bench/ && cp /share/trace.csv /opt/bench/ && "
        "cp /data/mapped.gguf /data/load.gguf /scratch/ && umount /data && sync && echo 3 >/proc/sys/vm/drop_caches",
        timeout_s=300,
    )


def _run(guest: Guest, words: list[str], limit_s: float, keep: Path, progress: Progress) -> None:
    """The program as a service of its own, as anything else on that machine."""
    log, kept = guest.share / "log", guest.share / "run.json"
    command = " ".join(
        [
            f"systemd-run --quiet --unit={_UNIT}",
            "-p LimitMEMLOCK=infinity -p StandardOutput=append:/share/log -p StandardError=append:/share/log",
            "-p WorkingDirectory=/opt/bench -p Environment=PYTHONPATH=/opt/bench:/usr/local/lib/bedplate",
            "-p Environment=PYTHONDONTWRITEBYTECODE=1 python3 -m bench.neighbours.inside",
            *words,
            "--trace /opt/bench/trace.csv --keep /share/run.json",
        ]
    )
    guest.run(command, timeout_s=120)
    deadline = time.monotonic() + limit_s
    told, copied = 0, 0.0
    while True:
        time.sleep(5.0)
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        for line in lines[told:]:
            progress.note(line)
        told = len(lines)
        if kept.is_file() and kept.stat().st_mtime != copied:
            copied = kept.stat().st_mtime
            _copy(kept, keep)
        if time.monotonic() > deadline:
            raise BootError(f"the measuring program did not end within {limit_s / 60:.0f} minutes")
        if told and _has_ended(guest):
            break
    _copy(kept, keep)
    if lines[-1] != DONE:
        raise BootError(f"the measuring program failed: {lines[-1]}")


def _has_ended(guest: Guest) -> bool:
    """By its log: to ask in the console's shell would be a load itself. A traceback is written when all is taken back."""
    log = (guest.share / "log").read_text(errors="replace").splitlines()
    return log[-1] == DONE or log[-1].startswith("error: ") or any(line.startswith("Traceback") for line in log)


def _copy(kept: Path, keep: Path) -> None:
    try:
        record = json.loads(kept.read_text())
    except (OSError, ValueError):
        return  # it is being written
    write_whole(keep, json.dumps(record, indent=1) + "\n", sync=True)


@contextmanager
def _watching_host(guest: Guest) -> Iterator[None]:
    """Each second: the share of this host's CPUs that others than the guest's QEMU and we used; the guest cannot see it."""
    stop = threading.Event()
    qemu = guest.machine.qemu
    pids = [qemu.pid] if qemu is not None else []
    path = guest.share / FOREIGN

    def watch() -> None:
        before = take_snapshot(Root(), pids)
        while not stop.wait(1.0):
            after = take_snapshot(Root(), pids)
            share = usage_between(before, after, own=(os.getpid(), *pids)).foreign_share
            before = after
            with path.open("a") as file:
                file.write(json.dumps([round(time.time(), 2), round(share, 4)]) + "\n")

    path.write_text("")
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
