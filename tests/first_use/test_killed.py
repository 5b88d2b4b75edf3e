"""kill -9 of bedplate while a program of its runs: neither the program nor what that started goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.act import guardian
from bedplate.act.process import ProcessIdentity, is_alive, read_process
from bedplate.act.run import run
from bedplate.errors import CommandTimeout

# Starts a grandchild, tells both ids, and both sleep; {prelude} may make them hard to end.
PROGRAM = """#!/bin/sh
{prelude}
sleep 1000 &
echo "$$ $!" > {ids}.new
mv {ids}.new {ids}
wait
"""


def wait_until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def read_ids(path: Path, parent: subprocess.Popen[bytes] | None = None) -> list[ProcessIdentity]:
    wait_until(lambda: path.exists() or (parent is not None and parent.poll() is not None), "the program did not start")
    found = [read_process(int(word)) for word in path.read_text().split()]
    assert None not in found
    return [process for process in found if process is not None]


def write_program(path: Path, ids: Path, *, prelude: str = "") -> Path:
    path.write_text(PROGRAM.format(ids=ids, prelude=prelude))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("prelude", ["", "trap '' TERM"], ids=["ends", "ignores-TERM"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["KILL", "TERM", "INT"])
def test_a_program_and_its_children_end_with_bedplate(tmp_path: Path, prelude: str, signum: int) -> None:
    ids = tmp_path / "ids"
    program = write_program(tmp_path / "program", ids, prelude=prelude)
    script = f"from bedplate.act.run import run; run(['true'], timeout_s=60); run([{str(program)!r}], timeout_s=1000)"
    # SIGTERM ends Python without unwinding unless a verb asks for that: the harder case.
    bedplate = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    started = read_ids(ids, bedplate)
    bedplate.send_signal(signum)
    bedplate.wait(60)
    for process in started:
        wait_until(lambda process=process: not is_alive(process), f"process {process.pid} goes on")  # type: ignore[misc]


def test_a_program_that_ended_is_forgotten(tmp_path: Path) -> None:
    """Its group is not ended later: the number may be another's, or a daemon that it left on purpose."""
    ids = tmp_path / "ids"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nsleep 1000 > /dev/null 2>&1 &\necho $! > {ids}\n")
    program.chmod(0o755)
    script = f"from bedplate.act.run import run; run([{str(program)!r}], timeout_s=60)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    (left,) = read_ids(ids)
    assert is_alive(left)
    os.kill(left.pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="the phase is for root only")
def test_a_build_killed_in_the_phase_tools_leaves_no_mmdebstrap(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin/mmdebstrap", ids)
    environment = os.environ | {
        "BEDPLATE_CACHE_DIR": str(tmp_path / "cache"),
        "BEDPLATE_STATE_DIR": str(tmp_path / "state"),
        "BEDPLATE_PATH_PREFIX": str(tmp_path / "bin"),
        "BEDPLATE_MIRROR": f"copy:{tmp_path}",
    }
    argv = [sys.executable, "-m", "bedplate.cli.main", "image", "build"]
    build = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)
    started = read_ids(ids, build)
    build.kill()
    build.wait(60)
    for process in started:
        wait_until(lambda process=process: not is_alive(process), f"process {process.pid} goes on")  # type: ignore[misc]


def test_a_group_that_was_released_is_left_alone_whatever_else_was_released_twice(tmp_path: Path) -> None:
    """Each release of what was not watched doubled the guardian's list, and of a doubled group one stayed: the next program
    with that number was killed when bedplate ended."""
    left, ended = (start_sleeper() for _ in range(2))
    numbers = f"{left.pid}, {ended.pid}"
    try:
        script = (
            "import os, signal\nfrom bedplate.act import guardian\nguardian.prepare()\n"
            f"left, ended = {numbers}\n"
            "write = guardian._write\n"
            "write(f'+ {left}\\n'); write(f'+ {ended}\\n'); write('- 4194305\\n'); write('- 4194305\\n')\n"
            "write(f'- {left}\\n')\nos.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
        assert ended.wait(60) == -signal.SIGTERM
        assert left.poll() is None
    finally:
        for process in (left, ended):
            process.kill()
            process.wait()


def start_sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


def test_a_group_is_released_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(guardian, "_pipe", writing)
    monkeypatch.setattr(guardian, "_watched", set())
    guardian.watch(5)
    for _ in range(2):
        guardian.release(5)
    guardian.release(6)
    os.close(writing)
    assert os.read(reading, 4096) == b"+ 5\n- 5\n"
    os.close(reading)


def test_a_program_that_was_reaped_is_not_killed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number can be another program's by then."""
    killed: list[int] = []
    wait = subprocess.Popen.wait

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        wait(self, timeout)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    monkeypatch.setattr(os, "killpg", lambda group, _: killed.append(group))
    with pytest.raises(KeyboardInterrupt):
        run(["true"], timeout_s=60)
    assert killed == []


@pytest.mark.parametrize("prelude", ["", "trap '' TERM"], ids=["ends", "ignores-TERM"])
def test_a_program_that_runs_too_long_is_released_before_it_is_reaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prelude: str
) -> None:
    ids, order = tmp_path / "ids", list[str]()
    program = write_program(tmp_path / "program", ids, prelude=prelude)
    monkeypatch.setattr("bedplate.act.run._TERM_GRACE_S", 0.5)
    release = guardian.release

    def released(group: int) -> None:
        order.append(Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0])
        release(group)

    monkeypatch.setattr(guardian, "release", released)
    with pytest.raises(CommandTimeout, match="did not finish within its time limit"):
        run([program], timeout_s=2)
    assert order == ["Z"]
