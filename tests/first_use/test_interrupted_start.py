"""Ctrl-C while `bedplate` still loads its modules: each test sends the signal at the import of one of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# The import of this module sends the signal, then goes on.
START = """
import os, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {signum})
sys.meta_path.insert(0, Interrupt())
sys.argv = ["bedplate", "model", "--help"]
from {first} import {entry}
{entry}()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
@pytest.mark.parametrize("module", ["argparse", "bedplate.errors", "bedplate.cli.main", "bedplate.cli.model"])
def test_it_ends_with_130_and_one_line(module: str, signum: signal.Signals) -> None:
    script = START.format(module=module, signum=int(signum), first="bedplate.cli.start", entry="start")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2


def test_the_installed_command_begins_there() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"bedplate": "bedplate.cli.start:start"}
