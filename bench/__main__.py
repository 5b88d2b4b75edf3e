"""python -m bench: measure and publish. Figures go into bench/README.md, every sample into bench/results.json.

Builds what is missing first (untimed), then interleaves the arms. Boots get as many rounds as --budget minutes suffice for,
and the page says so where these are fewer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedplate.act.files import write_whole
from bedplate.act.lock import hold_lock
from bedplate.act.paths import find_paths
from bedplate.act.run import find_program, run
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import BedplateError
from bedplate.host.kernel.memory import read_memory
from bedplate.host.root.root import Root
from bedplate.model.machine import BootMode
from bedplate.model.progress import Progress
from bedplate.model.units import render_size
from bench.arms import Bench, Seasoned, prepare
from bench.boot import Sample, measure_round
from bench.builds import measure_builds
from bench.report import publish, render
from bench.rest import Rest, measure_rest
from bench.size import measure_sizes

HERE = Path(__file__).parent
PARTS = ("boot", "memory", "size", "build")
_SCHEMA = 2  # of results.json
# Of one round at rest and of three rounds of builds, under TCG on two CPUs: kept free of the time for boots. Memory at rest
# hardly differs from one run to the next, so a run of all parts takes it once.
_REST_S, _BUILDS_S = 120.0, 220.0
_LATER_ROUNDS = 0.65  # of the time of the first, which also makes the disks for later boots (310 of 506 s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part only; repeatable")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved rounds (3)")
    parser.add_argument("--modes", default="direct,uefi", help="boot modes of --only boot (direct,uefi)")
    parser.add_argument(
        "--budget", type=float, default=26.0, metavar="MINUTES", help="leave out rounds of boots beyond these (26)"
    )
    parser.add_argument("--no-cold", action="store_true", help="leave out the build that downloads everything")
    parser.add_argument("--json", action="store_true", help="print all samples, publish nothing")
    arguments = parser.parse_args()
    parts = tuple(arguments.only or PARTS)
    modes = tuple(BootMode(mode) for mode in arguments.modes.split(","))
    paths = find_paths()
    with hold_lock(paths, "bench"), terminal_progress(paths.logs / "bench.log") as progress:
        bench = prepare(paths, progress)
        results: dict[str, Any] = {"schema": _SCHEMA}
        machine = _machine(bench)
        results["ran"] = {part: {"machine": machine, "notices": []} for part in parts}
        deadline = time.monotonic() + 60 * arguments.budget
        _measure(bench, results, parts, modes, arguments.rounds, deadline, progress, cold=not arguments.no_cold)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return 0
    kept = HERE / "results.json"
    old = json.loads(kept.read_text()) if kept.is_file() and set(parts) != set(PARTS) else {}
    if old.get("schema") != _SCHEMA:
        old = {"ran": {}}
    merged = old | results | {"ran": old["ran"] | results["ran"]}
    write_whole(kept, json.dumps(merged, indent=1) + "\n", sync=True)
    publish(HERE / "README.md", render(merged))
    print(render(results))
    return 1 if any(part["notices"] for part in results["ran"].values()) else 0


def _measure(
    bench: Bench,
    results: dict[str, Any],
    parts: tuple[str, ...],
    modes: tuple[BootMode, ...],
    rounds: int,
    deadline: float,
    progress: Progress,
    *,
    cold: bool,
) -> None:
    """Fill results, part by part. What fails, and rounds that there is no time for, become notices of their part."""
    seasoned: Seasoned = {}
    if "size" in parts:
        results["size"] = [asdict(row) for row in measure_sizes(bench, progress)]
    if "boot" in parts:
        end = deadline - (_BUILDS_S if "build" in parts else 0.0) - (_REST_S if "memory" in parts else 0.0)
        samples: list[Sample] = []
        took_s = 0.0
        with _noticing(results, "boot"):
            for number in range(1, rounds + 1):
                begun = time.monotonic()
                if number > 1 and begun + took_s > end:
                    results["ran"]["boot"]["notices"].append(f"The time sufficed for {number - 1} of {rounds} rounds.")
                    break
                samples += measure_round(bench, number, modes, seasoned, progress)
                results["boot"] = [asdict(row) for row in samples]
                took_s = (time.monotonic() - begun) * (_LATER_ROUNDS if number == 1 else 1.0)
    if "memory" in parts:
        rests: list[Rest] = []
        with _noticing(results, "memory"):
            for number in range(1, rounds + 1 if "boot" not in parts else 2):
                rests += measure_rest(bench, number, seasoned, progress)
                results["memory"] = [asdict(row) for row in rests]
    if "build" in parts:
        with _noticing(results, "build"):
            results["build"] = [asdict(row) for row in measure_builds(bench, rounds, progress, cold=cold)]


@contextmanager
def _noticing(results: dict[str, Any], part: str) -> Iterator[None]:
    """A failure ends this part only, and is published with what was measured before it."""
    try:
        yield
    except BedplateError as error:
        results["ran"][part]["notices"].append(f"Ended by a failure: {error.message}")


def _machine(bench: Bench) -> dict[str, Any]:
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    git = find_program("git")
    commit = run([git, "-C", HERE, "describe", "--always", "--dirty"], timeout_s=30).output.strip() if git else "unknown"
    stock = json.loads(bench.stock.image.manifest.read_text())
    kernel = next(package["version"] for package in stock["packages"] if package["name"].startswith("linux-image-6"))
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "memory": render_size(read_memory(Root()).total_bytes),
        "qemu": run([bench.programs.qemu, "--version"], timeout_s=30).output.splitlines()[0],
        "accel": str(bench.accel),
        "bedplate": bench.ours.image.version,
        "kernel": json.loads(bench.ours.image.manifest.read_text())["kernel"],
        "stock": f"Debian 13, kernel {kernel}, {len(stock['packages'])} packages, same llama.cpp {bench.layer.version}",
        "commit": commit,
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BedplateError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
