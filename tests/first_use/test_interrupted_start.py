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


# Writes which modules were looked for while Ctrl-C would still end in a traceback.
UNCOVERED = """
import _signal, sys
class Note:
    names = []
    def find_spec(self, name, path, target=None):
        if _signal.getsignal(2) is _signal.default_int_handler:
            self.names.append(name)
for name in ("__future__", "bedplate", "enum", "signal", "types"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Note())
sys.argv = ["bedplate", "--version"]
from bedplate.cli.start import start
try:
    start()
finally:
    print(*Note.names, file=sys.stderr)
"""


def test_no_module_but_its_own_packages_is_loaded_before_signals_are_handled() -> None:
    """A file that is looked for takes a part of a millisecond, and `signal` brings a dozen modules with it."""
    done = subprocess.run([sys.executable, "-c", UNCOVERED], capture_output=True, text=True, timeout=120)
    assert done.stderr.split() == ["bedplate", "bedplate.cli", "bedplate.cli.start"]


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
