"""python -m bench.resolve [--rounds N] [--json]: how long `bedplate stack resolve` takes, the interpreter's start included.

A process for each run; rounds are interleaved. Measured are a whole stack (kernel, driver, CUDA, PyTorch, vLLM), the same
beside a present lock, llama.cpp without an accelerator, and a wish that is not possible: its explanation needs many solves.
Where uv is installed, a row locks the Python packages too (`--python-locks`), and another is uv alone with the same vLLM;
a run before the first round fills uv's cache. Prints a table in Markdown. The goal is 2 s for each, on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bedplate.errors import PreflightError
from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.root.root import Root
from bedplate.image.python_lock import find_uv
from bench.doctor import Command, measure_rounds, render_table

_ROUNDS = 7
_RESOLVE = (sys.executable, "-m", "bedplate.cli.main", "stack", "resolve")
_WHOLE = ("--engine", "vllm", "--accelerator", "8x h100")
_IMPOSSIBLE = ("--engine", "vllm >=0.33", "--accelerator", "8x h100", "--require", "kernel >=7")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.resolve", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"runs of each, interleaved ({_ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print all samples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bedplate-bench-") as directory:
        lock = Path(directory) / "stack.lock"
        subprocess.run([*_RESOLVE, *_WHOLE, "--output", lock], stdout=subprocess.DEVNULL, check=True)
        commands = list(plan_resolve_commands(lock, Path(directory) / "python"))
        samples = measure_rounds(commands, arguments.rounds)
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
        return 0
    cpu_name = read_cpuinfo(Root()).model_name.value
    print("\n".join(render_table([command.what for command in commands], samples)))
    print(f"\n`{' '.join(['python -m bench.resolve', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d', time.gmtime())};")
    print(f"{cpu_name}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.")
    return 0


def plan_resolve_commands(lock: Path, python_locks: Path) -> Iterator[Command]:
    yield Command(what="vllm on 8 H100, whole stack", argv=(*_RESOLVE, *_WHOLE))
    yield Command(what="the same beside its present lock", argv=(*_RESOLVE, *_WHOLE, "--lock", str(lock)))
    yield Command(what="llama.cpp on CPUs", argv=(*_RESOLVE, "--engine", "llama-cpp", "--accelerator", "none"))
    yield Command(what="vllm >=0.33 and kernel >=7: not possible", argv=(*_RESOLVE, *_IMPOSSIBLE))
    try:
        uv = str(find_uv())
    except PreflightError:
        return
    yield Command(what="whole stack, and uv's locks", argv=(*_RESOLVE, *_WHOLE, "--python-locks", str(python_locks)))
    wanted = python_locks.with_suffix(".in")
    chosen = {component["id"]: component["version"] for component in tomllib.loads(lock.read_text())["component"]}
    wanted.write_text(f"vllm=={chosen['vllm']}\n")
    options = ("--quiet", "--generate-hashes", "--python-version=3.13", "--python-platform=x86_64-manylinux_2_40")
    yield Command(what="uv alone, the same vLLM", argv=(uv, "pip", "compile", *options, str(wanted)))


if __name__ == "__main__":
    sys.exit(main())
