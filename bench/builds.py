"""How long builds take: from nothing, from cached packages, after a change of bedplate's own Python, and without a change.

In a copy of the checkout with a cache and a state of its own: the working tree and everybody's images stay as they are. Each
build is the command that a user gives, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import bedplate
from bedplate.act.run import run
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.recipe import recipes_directory
from bedplate.model.progress import Progress
from bench.arms import Bench, bench_directory

COLD, CACHED, ENGINE = "cold", "cached packages", "engine layer"
PYTHON, NOTHING, DECISION = "changed Python", "nothing changed", "decision of up"
_BUILD = ("-m", "bedplate.cli.main", "image", "build", "--json")
_ENGINE = """
import sys
from bedplate.act.paths import find_paths
from bedplate.report.progress import PlainProgress
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.engine import build_engine
build_engine(find_paths(), PlainProgress(sys.stderr), force=True, mirror=find_mirror())
"""
# What `up` looks at before it decides to build nothing (flows/up.py): the image, the engine, the model.
_DECIDE = """
import hashlib
from pathlib import Path
import bedplate
from bedplate.act.paths import find_paths
from bedplate.image.build import find_current
from bedplate.image.engine import find_engine
paths = find_paths()
with (Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf").open("rb") as file:
    hashlib.file_digest(file, "sha256")
raise SystemExit(find_current(paths) is None or find_engine(paths) is None)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    round: int
    what: str
    wall_s: float
    cpu_s: float


def measure_builds(bench: Bench, rounds: int, progress: Progress, *, cold: bool) -> list[Build]:
    """One build from nothing (downloads included; left out unless cold), one from cached packages, the others each round.

    The tools tree is made in the cold build only.
    """
    place = bench_directory(bench.paths) / "builds"
    shutil.rmtree(place, ignore_errors=True)
    copy, cache, state = place / "checkout", place / "cache", place / "state"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(bedplate.__file__).parent, copy / "src/bedplate", ignore=ignore)
    shutil.copytree(recipes_directory(), copy / "image", symlinks=True, ignore=ignore)
    env = {
        "PYTHONPATH": os.fspath(copy / "src"),
        "BEDPLATE_CACHE_DIR": os.fspath(cache),
        "BEDPLATE_STATE_DIR": os.fspath(state),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if mirror := find_mirror():
        env["BEDPLATE_MIRROR"] = mirror
    builds: list[Build] = []

    def time_one(what: str, number: int, argv: tuple[str, ...]) -> None:
        with progress.phase(f"build: {what}"):
            done = run([sys.executable, *argv], timeout_s=1500, env=env, cwd=copy, log=place / "build.log")
        builds.append(Build(round=number, what=what, wall_s=round(done.elapsed_s, 2), cpu_s=round(done.cpu_s, 2)))

    try:
        if cold:
            time_one(COLD, 1, _BUILD)
            shutil.rmtree(cache / "work")
            shutil.rmtree(state / "images")
        else:
            cache.mkdir(parents=True)
            run(["cp", "-a", "--reflink=auto", bench.paths.tools, bench.paths.packages, cache], timeout_s=300)
            shutil.copytree(bench.paths.state / "locks", state / "locks")
        time_one(CACHED, 1, _BUILD)
        time_one(ENGINE, 1, ("-c", _ENGINE))
        for number in range(1, rounds + 1):
            with (copy / "src/bedplate/errors.py").open("a") as file:
                file.write(f"# round {number}\n")
            time_one(PYTHON, number, _BUILD)
            time_one(NOTHING, number, _BUILD)
            time_one(DECISION, number, ("-c", _DECIDE))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return builds
