"""python -m bench.doctor [RECORDING ...]: how long `bedplate doctor` takes and how much memory; a process for each run.

Prints a table in Markdown; with --json every sample. Figures count the interpreter's start. The page's goals: 0.5 s and
80 MB for the recording of a server with eight GPUs, 1 s on a live machine, 0.15 s for `bedplate --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bedplate.host.cpuinfo import read_cpuinfo
from bedplate.host.root import Root

_ROUNDS = 7
_BEDPLATE = [sys.executable, "-m", "bedplate.cli.main"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    what: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Largest resident set."""
    status: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="*", type=Path, metavar="RECORDING")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"runs of each, interleaved ({_ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print all samples")
    arguments = parser.parse_args()
    commands = {"bedplate --help": ["--help"], "doctor, this machine": ["doctor"]}
    commands |= {f"doctor --from {path.name}": ["doctor", "--from", str(path)] for path in arguments.recordings}
    samples = [measure(what, words) for _ in range(arguments.rounds) for what, words in commands.items()]
    if arguments.json:
        print(json.dumps([asdict(one) for one in samples], indent=1))
    else:
        print("\n".join(render(samples)))
    return 0


def measure(what: str, words: Sequence[str]) -> Sample:
    """One run, with the kernel's own account of that one process."""
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    begun = time.perf_counter()
    child = os.posix_spawn(sys.executable, [*_BEDPLATE, *words], os.environ, file_actions=silent)
    _, status, usage = os.wait4(child, 0)
    return Sample(
        what=what,
        wall_s=time.perf_counter() - begun,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        status=os.waitstatus_to_exitcode(status),
    )


def render(samples: Sequence[Sample]) -> list[str]:
    """The table, and the machine that it was measured on."""
    lines = ["| | runs | s | CPU s | peak, MB | status |", "|---|---|---|---|---|---|"]
    for what in dict.fromkeys(one.what for one in samples):
        those = [one for one in samples if one.what == what]
        peak = max(one.peak_bytes for one in those) / 1e6
        statuses = ", ".join(str(status) for status in sorted({one.status for one in those}))
        wall, cpu = ([one.wall_s for one in those], [one.cpu_s for one in those])
        lines.append(f"| {what} | {len(those)} | {_spread(wall)} | {_spread(cpu)} | {peak:.0f} | {statuses} |")
    cpu_name = read_cpuinfo(Root()).model_name.value
    lines += [
        "",
        f"`{' '.join(['python -m bench.doctor', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d', time.gmtime())};",
        f"{cpu_name}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.",
    ]
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
