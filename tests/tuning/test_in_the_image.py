"""The package as the image has it, without what it leaves out: the verbs that the machine itself runs work there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bedplate
from bedplate.image.build import is_left_out


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package in it, for PYTHONPATH."""
    source = Path(bedplate.__file__).parent
    target = tmp_path_factory.mktemp("image")
    for path in source.rglob("*.*"):
        inside = path.relative_to(source)
        if path.is_file() and not is_left_out(inside):
            (target / "bedplate" / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / "bedplate" / inside)
    return target


@pytest.mark.parametrize(
    ("words", "statuses"),
    [
        (["tune", "plan", "--json"], (0, 1)),
        (["tune", "log", "--json"], (0, 1)),
        (["doctor", "--json"], (0, 1)),
        (["inspect", "--json"], (0,)),
        (["serve", "show", "--json", "--root", "."], (0, 1)),
        (["explain", "vm.swappiness"], (0,)),
        (["model", "list", "--json"], (0,)),
    ],
)
def test_a_verb_that_the_machine_runs_needs_nothing_that_was_left_out(
    package: Path, tmp_path: Path, words: list[str], statuses: tuple[int, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bedplate.cli.main", *words],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(package), "BEDPLATE_STATE_DIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "not part of the operating system image" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.returncode in statuses, done.stderr
