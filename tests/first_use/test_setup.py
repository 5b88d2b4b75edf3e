"""scripts/setup.sh stopped at each of its steps: the next run makes the environment whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/setup.sh"

# Stands for python3 and, copied, for the environment's own: venv and pip in the steps in which they change files. At the
# step that $STOP_AT names, it sends $SIGNAL to its process group, as a terminal does on Ctrl-C. As the real pip does, it
# takes a package that is half there for installed.
STUB = r"""#!/bin/sh
here=$(dirname "$(dirname "$0")")
step() {
    count=$(($(cat "$STEPS") + 1))
    echo $count > "$STEPS"
    [ $count != "$STOP_AT" ] || { kill -$SIGNAL 0; sleep 60; }
}
[ "$1" = -m ] || exit 0
case $2 in
venv)
    step; rm -rf "$4"; mkdir -p "$4/bin"
    step; cp "$0" "$4/bin/python"
    step; echo half > "$4/pip"
    step; echo whole > "$4/pip"
    step ;;
pip)
    [ -e "$here/pip" ] || { echo "No module named pip" >&2; exit 1; }
    case " $* " in
    *" --version "*) exit 0 ;;
    *" -r "*)
        wanted=$(cat requirements/host.lock)
        case $(cat "$here/package" 2>/dev/null) in half | "$wanted") exit 0 ;; esac
        step; echo half > "$here/package"
        step; echo "$wanted" > "$here/package"
        step ;;
    *) step; echo yes > "$here/bedplate"; step ;;
    esac ;;
esac
"""


class Checkout:
    def __init__(self, root: Path) -> None:
        self.root, self.venv, self.steps = root, root / ".venv", root / "steps"
        (root / "scripts").mkdir(parents=True)
        (root / "requirements").mkdir()
        shutil.copy(SCRIPT, root / "scripts/setup.sh")
        (root / "requirements/host.lock").write_text("1")
        (root / "python").write_text(STUB)
        (root / "python").chmod(0o755)

    def start(self, programs: Path | None = None) -> subprocess.Popen[str]:
        """A setup that runs beside this test; programs: a directory before PATH."""
        self.steps.write_text("0")
        path = f"{programs}:{os.environ['PATH']}" if programs is not None else os.environ["PATH"]
        environment = {"PATH": path, "PYTHON": str(self.root / "python"), "STEPS": str(self.steps), "STOP_AT": "0"}
        return subprocess.Popen(
            ["sh", "scripts/setup.sh", ".venv", "host"],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def setup(self, *, stop_at: int = 0, signum: signal.Signals = signal.SIGKILL) -> subprocess.CompletedProcess[str]:
        self.steps.write_text("0")
        environment = {"PATH": os.environ["PATH"], "PYTHON": str(self.root / "python"), "STEPS": str(self.steps)}
        environment |= {"STOP_AT": str(stop_at), "SIGNAL": signum.name.removeprefix("SIG")}
        return subprocess.run(
            ["sh", "scripts/setup.sh", ".venv", "host"],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=120,
        )

    def check_whole(self, version: str) -> None:
        state = {name: (self.venv / name).read_text().strip() for name in ("pip", "package", "bedplate")}
        assert state == {"pip": "whole", "package": version, "bedplate": "yes"}
        assert (self.venv / ".setup").exists() and not (self.root / ".venv.unfinished").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("what", ["first", "update"])
def test_a_setup_that_was_stopped_is_healed_by_the_next(tmp_path: Path, what: str, signum: signal.Signals) -> None:
    stop_at, version = 0, "1" if what == "first" else "2"
    while True:
        stop_at += 1
        checkout = Checkout(tmp_path / f"{stop_at}")
        if what == "update":
            assert checkout.setup().returncode == 0
            checkout.check_whole("1")
            (checkout.root / "requirements/host.lock").write_text("2")
        stopped = checkout.setup(stop_at=stop_at, signum=signum)
        if stopped.returncode == 0:
            break
        assert not (checkout.venv / ".setup").exists(), f"step {stop_at}: make would not run it again"
        healed = checkout.setup()
        assert healed.returncode == 0, f"step {stop_at}: {healed.stderr}"
        checkout.check_whole(version)
    checkout.check_whole(version)
    assert stop_at > (9 if what == "first" else 4), "too few steps were tried"


def test_an_environment_of_somebody_else_is_kept(tmp_path: Path) -> None:
    """Only what a setup left unfinished, or what has no pip, is cleared."""
    checkout = Checkout(tmp_path / "checkout")
    checkout.setup()
    (checkout.venv / "kept").write_text("")
    (checkout.venv / ".setup").unlink()
    assert checkout.setup().returncode == 0
    assert (checkout.venv / "kept").exists()


def test_an_environment_without_pip_is_made_again(tmp_path: Path) -> None:
    """What a stopped setup of before this rule left."""
    checkout = Checkout(tmp_path / "checkout")
    (checkout.venv / "bin").mkdir(parents=True)
    shutil.copy(checkout.root / "python", checkout.venv / "bin/python")
    assert checkout.setup().returncode == 0
    checkout.check_whole("1")


def test_two_setups_of_one_checkout_take_turns(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    with (checkout.root / ".venv.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = checkout.start()
        assert second.stderr is not None
        assert "another setup of this checkout runs" in second.stderr.readline()
        assert not checkout.venv.exists()
    assert second.wait(120) == 0, second.stderr.read()
    second.stderr.close()
    checkout.check_whole("1")
    assert (checkout.root / ".venv.lock").exists()


# As on NFS, where a lock is one of fcntl(2) and needs a descriptor that is open for writing. {locks}: whether there are any.
FLOCK = """#!/bin/sh
flags=$(sed -n 's/^flags:[[:space:]]*//p' /proc/self/fdinfo/9)
case $flags in *0) echo "flock: 9: Bad file descriptor" >&2; exit 71 ;; esac
[ {locks} = yes ] || {{ echo "flock: 9: No locks available" >&2; exit 71; }}
exec {flock} "$@"
"""


@pytest.mark.parametrize("locks", ["yes", "no"])
def test_a_checkout_on_nfs_is_set_up(tmp_path: Path, locks: str) -> None:
    checkout = Checkout(tmp_path / "checkout")
    program = tmp_path / "bin/flock"
    program.parent.mkdir()
    program.write_text(FLOCK.format(locks=locks, flock=shutil.which("flock")))
    program.chmod(0o755)
    process = checkout.start(program.parent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    checkout.check_whole("1")
    assert "Bad file descriptor" not in said
    assert (".venv.lock cannot be locked on this file system" in said) is (locks == "no")
    assert "waiting" not in said


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts/setup.sh"
    done = subprocess.run(["sh", script, tmp_path / "absent/venv", "host"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "venv.lock cannot be written" in done.stderr) == (3, True), done.stderr
