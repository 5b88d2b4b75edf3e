"""python -m bench.doctor [--compare] [RECORDING ...]: how long `bedplate doctor` takes and how much memory.

A process for each run, from fork to end, the interpreter's start included; rounds are interleaved. The runs have byte code,
as pip and the image make it; one row shows what it costs to run without, as from a checkout that nobody may write to: Python
compiles two hundred files at each start then. Measured are this machine, the recordings given, and a server that
bench/server.py makes (208 CPUs, 8 GPUs, 400 PCI devices), as a directory and as .tar.gz. --compare times `lstopo` beside
`bedplate inspect` and `bedplate doctor` on this machine and on every tree of /proc and /sys among the recordings (unpacked,
since lstopo reads no archive), and `tuned-adm` on this machine; what is not installed is left out, and said (Debian:
hwloc-nox, tuned).

Prints tables in Markdown; with --json every sample. The page's goals: 0.5 s and 80 MB for the recording of a server with
eight GPUs, 1 s for the made server and on a live machine, 0.15 s for `bedplate --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.root.root import Root

_ROUNDS = 7
_BEDPLATE = (sys.executable, "-m", "bedplate.cli.main")
_LSTOPO, _TUNED = "lstopo-no-graphics", "tuned-adm"
_MADE = "server-208-cpus-8-gpus-400-pci"
_TUNED_ASKS = ("recommend", "verify")
_WORDS_S = 60  # time limit of the run that is for a program's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    what: str
    argv: tuple[str, ...]
    compared: bool = False
    """A row of the second table."""
    has_byte_code: bool = True


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
    parser.add_argument("--compare", action="store_true", help="time lstopo and tuned-adm, too")
    parser.add_argument("--json", action="store_true", help="print all samples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bedplate-bench-") as directory:
        made, packed = make_recordings(Path(directory))
        commands = [*plan_doctor([*arguments.recordings, made, packed])]
        if arguments.compare:
            trees = dict(find_trees(arguments.recordings, Path(directory)))
            commands += plan_comparison(trees | {made.name: made})
        samples = measure_rounds(commands, arguments.rounds)
        words = [say(command) for command in commands if command.argv[0].endswith(_TUNED)]
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
    else:
        print("\n".join(render(commands, samples, words)))
    return 0


def make_recordings(top: Path) -> tuple[Path, Path]:
    """The made server as a directory and as an archive of it. Another process makes it: see `own_peak`."""
    made, packed = top / _MADE, top / f"{_MADE}.tar.gz"
    subprocess.run([sys.executable, "-m", "bench.server", made], check=True)
    subprocess.run(["tar", "-czf", packed, "-C", top, made.name], check=True)
    return made, packed


def find_trees(recordings: Iterable[Path], scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and tree of each recording that has /sys/devices/system/cpu; what tar knows is unpacked."""
    for number, recording in enumerate(recordings):
        top = recording
        if recording.is_file():
            top = scratch / f"unpacked-{number}"
            top.mkdir()
            unpack: list[str | Path] = ["tar", "-xf", recording, "--no-same-owner", "-C", top]
            subprocess.run(unpack, stderr=subprocess.DEVNULL, check=False)  # fails for the text of lspci, rightly
        for tree in (top, *sorted(top.iterdir())):
            if (tree / "sys/devices/system/cpu").is_dir():
                yield recording.name, tree
                break


def plan_doctor(recordings: Sequence[Path]) -> Iterator[Command]:
    yield Command(what="bedplate --help", argv=(*_BEDPLATE, "--help"))
    yield Command(what="doctor, this machine", argv=(*_BEDPLATE, "doctor"))
    yield Command(what="doctor, this machine, without byte code", argv=(*_BEDPLATE, "doctor"), has_byte_code=False)
    for path in recordings:
        kind = "/" if path.is_dir() else ""
        yield Command(what=f"doctor --from {path.name}{kind}", argv=(*_BEDPLATE, "doctor", "--from", str(path)))


def plan_comparison(trees: dict[str, Path]) -> Iterator[Command]:
    """The same machine asked by each program, one after the other."""
    lstopo, tuned = shutil.which(_LSTOPO), shutil.which(_TUNED)
    for name, tree in (("this machine", None), *trees.items()):
        source = () if tree is None else ("--from", str(tree))
        if lstopo is not None:
            options = () if tree is None else ("-i", str(tree))
            yield Command(what=f"{name}: lstopo --of console", argv=(lstopo, *options, "--of", "console"), compared=True)
        for verb in ("inspect", "doctor"):
            yield Command(what=f"{name}: bedplate {verb}", argv=(*_BEDPLATE, verb, *source), compared=True)
        for ask in _TUNED_ASKS if tree is None and tuned is not None else ():
            yield Command(what=f"{name}: tuned-adm {ask}", argv=(str(tuned), ask), compared=True)


def measure_rounds(commands: Sequence[Command], rounds: int) -> list[Sample]:
    """Interleaved runs of the commands, behind one of each that makes the byte code and is not counted."""
    with tempfile.TemporaryDirectory(prefix="bedplate-bench-") as byte_code:
        for command in commands:
            measure(command, byte_code)
        return [measure(command, byte_code) for _ in range(rounds) for command in commands]


def measure(command: Command, byte_code: str) -> Sample:
    """One run, with the kernel's own account of that one process and of those it waited for.

    byte_code is the directory that Python keeps compiled files in, whatever the caller's environment says of it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if command.has_byte_code:
        environment["PYTHONPYCACHEPREFIX"] = byte_code
    else:
        environment |= {"PYTHONPYCACHEPREFIX": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    begun = time.perf_counter()
    child = os.posix_spawn(command.argv[0], command.argv, environment, file_actions=silent)
    _, status, usage = os.wait4(child, 0)
    return Sample(
        what=command.what,
        wall_s=time.perf_counter() - begun,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        status=os.waitstatus_to_exitcode(status),
    )


def say(command: Command) -> str:
    """What a program answered: a run is not worth its time when the answer is that there is none."""
    done = subprocess.run(
        command.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_WORDS_S,
        check=False,
    )
    return f"`{Path(command.argv[0]).name} {command.argv[1]}` said: {' / '.join(done.stdout.split(chr(10))).strip(' /')}"


def own_peak() -> int:
    """Bytes that this process has held at most: the kernel counts them to every child, so less than that is not seen."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def render(commands: Sequence[Command], samples: Sequence[Sample], words: Sequence[str]) -> list[str]:
    """The tables, and the machine that they were measured on."""
    lines = render_table([command.what for command in commands if not command.compared], samples)
    compared = [command.what for command in commands if command.compared]
    if compared:
        absent = [name for name in (_LSTOPO, _TUNED) if shutil.which(name) is None]
        lines += ["", *render_table(compared, samples)]
        lines += [
            line for sentence in (*words, *(f"{name} is not installed." for name in absent)) for line in ("", sentence)
        ]
    cpu_name = read_cpuinfo(Root()).model_name.value
    return [
        *lines,
        "",
        f"`{' '.join(['python -m bench.doctor', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d', time.gmtime())};",
        f"{cpu_name}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.",
    ]


def render_table(names: Iterable[str], samples: Sequence[Sample]) -> list[str]:
    lines = ["| | runs | s | CPU s | peak, MB | status |", "|---|---|---|---|---|---|"]
    for what in names:
        those = [sample for sample in samples if sample.what == what]
        peak = max(sample.peak_bytes for sample in those)
        shown = f"{'at most ' if peak <= own_peak() else ''}{peak / 1e6:.0f}"
        statuses = ", ".join(str(status) for status in sorted({sample.status for sample in those}))
        wall, cpu = ([sample.wall_s for sample in those], [sample.cpu_s for sample in those])
        lines.append(f"| {what} | {len(those)} | {_spread(wall)} | {_spread(cpu)} | {shown} | {statuses} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
