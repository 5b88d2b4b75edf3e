"""python -m bench.fit [MODEL ...]: how long `bedplate fit` takes, the interpreter's start included, and how much memory.

A process for each run; rounds are interleaved. Measured are a model of the catalog on named accelerators, on each of the
catalog and on this machine, the model that ships, and files that are given. The goal is 0.3 s for each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import bedplate
from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.root.root import Root
from bench.doctor import Command, measure_rounds, render_table

_ROUNDS = 7
_FIT = (sys.executable, "-m", "bedplate.cli.main", "fit")
_SHIPPED = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fit", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="further files, or models of the catalog")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"runs of each, interleaved ({_ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print all samples")
    arguments = parser.parse_args()
    commands = list(plan_fit_commands(arguments.models))
    samples = measure_rounds(commands, arguments.rounds)
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
        return 0
    cpu_name = read_cpuinfo(Root()).model_name.value
    print("\n".join(render_table([command.what for command in commands], samples)))
    print(f"\n`{' '.join(['python -m bench.fit', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d', time.gmtime())};")
    print(f"{cpu_name}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.")
    return 0


def plan_fit_commands(models: Sequence[str]) -> Iterator[Command]:
    yield Command(what="fit llama-3.1-70b --on 8xh100", argv=(*_FIT, "llama-3.1-70b", "--on", "8xh100"))
    yield Command(what="fit llama-3.1-70b --on any", argv=(*_FIT, "llama-3.1-70b", "--on", "any"))
    yield Command(what="fit known-answer.gguf, this machine", argv=(*_FIT, str(_SHIPPED)))
    for model in models:
        yield Command(what=f"fit {Path(model).name}, this machine", argv=(*_FIT, model))


if __name__ == "__main__":
    sys.exit(main())
