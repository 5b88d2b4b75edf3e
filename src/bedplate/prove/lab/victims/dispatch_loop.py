"""A process that loses what a GPU host loses: a serial thread must do host work for each step of an imaginary accelerator.

Each step the accelerator is busy for `accelerator_s`; then one thread wakes, hands work to others through futexes, does its
own part, waits for them, and launches the next step. What it is late is accelerator time lost. It reproduces the mechanism
of launch-bound serving (EngineCore, detokenizers, one worker a rank), and needs no GPU, no model and no library.

Run as a program by prove/lab/victims/emulator.py. It ends with its parent, at SIGTERM, and after --seconds at the latest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bedplate.prove.lab.victims.ring import StepRing

_BLOCK = bytes(4096)  # hashlib gives the interpreter lock free for more than 2047 bytes
_TRIES = 7


def python_work(rounds: int) -> int:
    """Work that the interpreter does itself, as schedulers and detokenizers of engines do."""
    total = 0
    for number in range(rounds):
        total = (total * 31 + number) & 0xFFFFFFFF
    return total


def hash_work(blocks: int) -> bytes:
    """Work outside the interpreter's lock, as native code of engines does."""
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(_BLOCK)
    return digest.digest()


def calibrate(work: Callable[[int], object], seconds: float) -> int:
    """How many rounds of a work take so long on this CPU: by the thread's own CPU time, so that neighbours do not count."""
    rounds = 64
    while True:
        best = min(_cpu_time(work, rounds) for _ in range(_TRIES))
        if best > 0.002:
            return max(1, round(rounds * seconds / best))
        rounds *= 2


def _cpu_time(work: Callable[[int], object], rounds: int) -> float:
    before = time.thread_time()
    work(rounds)
    return time.thread_time() - before


class Worker:
    """A thread that sleeps on a futex until it is given work."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def wake(self) -> None:
        """Hand over one piece of work (futex wake); the caller goes on at once."""
        self._go.release()

    def wait(self) -> None:
        """Block until one piece of work that was handed over is done."""
        self._done.acquire()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            hash_work(self._blocks)
            self._done.release()


def feed(ring: StepRing, *, period_s: float, work_s: float, workers: int, until_s: float) -> None:
    """The loop. A step takes period_s when nothing is late; work_s of it is the host's."""
    rounds = calibrate(python_work, work_s / 2)
    blocks = calibrate(hash_work, work_s / 2)
    others = [Worker(blocks) for _ in range(workers)]
    accelerator_s = period_s - work_s
    parent = os.getppid()
    ring.begin(period_s)
    done_at = time.monotonic()
    while done_at < until_s and os.getppid() == parent:
        time.sleep(max(0.0, done_at - time.monotonic()))  # the accelerator computes
        for process in others:
            process.wake()
        hash_work(blocks)
        python_work(rounds)
        for process in others:
            process.wait()
        launched = time.monotonic()
        ring.add(launched)
        done_at = launched + accelerator_s


def main(argv: list[str]) -> int:
    """Feed steps into the ring until the time is over or the parent is gone; the exit status is 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ring", type=Path, required=True)
    parser.add_argument("--period-ms", type=float, default=10.0)
    parser.add_argument("--work-ms", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600.0)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ring = StepRing(arguments.ring, create=False)
    feed(
        ring,
        period_s=arguments.period_ms / 1000,
        work_s=arguments.work_ms / 1000,
        workers=arguments.workers,
        until_s=time.monotonic() + arguments.seconds,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
