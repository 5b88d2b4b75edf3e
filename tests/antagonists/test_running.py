"""Every row of the catalog really runs on this machine, is counted, and leaves nothing; what is not installed is skipped."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bedplate.catalog.antagonists import read_antagonists
from bedplate.errors import PreflightError
from bedplate.model.proof import Antagonist
from bedplate.prove.lab.antagonists import (
    PLAIN,
    AntagonistError,
    AntagonistIdle,
    CgroupTarget,
    evict,
    missing_packages,
    prepared,
    read_scale,
    resident_bytes,
    running,
)
from bedplate.prove.lab.antagonists.noise import Noise
from tests.effort import PATIENCE_S, wait_until

SMALL = 128 << 20  # bytes of scratch files; the rows themselves ask for gigabytes
ROWS = tuple(dataclasses.replace(row, file_bytes=min(row.file_bytes, SMALL)) for row in read_antagonists())


def row(id: str) -> Antagonist:
    (found,) = [row for row in ROWS if row.id == id]
    return found


def skip_if_missing(*rows: Antagonist) -> None:
    missing = missing_packages(rows)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def living(session: int) -> list[str]:
    """Names of the processes of a session that are not zombies."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                name, _, rest = (path / "stat").read_text().rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(name)
    return found


def kill_below(session: int) -> None:
    """SIGKILL to the program below timeout(1), as the OOM killer does it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue
            if int(rest.split()[3]) == session and not name.endswith("(timeout"):
                os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.parametrize("id", ["memory.grow", "cpu.shell"])
def test_that_a_grower_is_killed_is_a_result_and_of_others_a_failure(id: str, tmp_path: Path) -> None:
    antagonist = row(id)
    skip_if_missing(antagonist)
    scale = dataclasses.replace(read_scale(), memory_bytes=SMALL, available_bytes=32 << 20)
    with running(antagonist, 100, PLAIN, 60.0, scale=scale, directory=tmp_path) as noise:
        noise.check(confined=True)
        assert not noise.killed
        (session,) = sessions_of(noise)
        while living(session):
            kill_below(session)
        if antagonist.may_be_killed:
            noise.check()
            assert noise.killed
            assert noise.work() > 0.0, "what it did until then counts"
        else:
            with pytest.raises(AntagonistError, match="before it was asked to"):
                noise.check()


@pytest.mark.parametrize("id", [row.id for row in ROWS])
def test_every_row_runs_works_and_leaves_nothing(id: str, tmp_path: Path) -> None:
    one = row(id)
    parts = [row(part) for part in one.parts]
    skip_if_missing(one, *parts)
    scale = dataclasses.replace(read_scale(), memory_bytes=SMALL, available_bytes=256 << 20)
    if "--direct=1" in one.argv or any("--direct=1" in part.argv for part in parts):
        try:
            with prepared(tmp_path, [(one, 100)], scale):
                pass
        except PreflightError as error:
            pytest.skip(error.message)
    with running(one, 100, PLAIN, 60.0, scale=scale, rows=ROWS, directory=tmp_path) as noise:  # ended long before
        time.sleep(2.0)
        noise.check(confined=True)  # a busy machine of continuous integration confines it too
        assert noise.cpu_s() > 0.0
        for part, work in noise.part_work():
            assert work > 0.0, part
        sessions = sessions_of(noise)
    assert [name for session in sessions for name in living(session)] == []
    assert list(tmp_path.iterdir()) == []


def sessions_of(noise: Noise) -> list[int]:
    return [session.pid for session in noise._sessions] + [pid for part in noise._parts for pid in sessions_of(part)]


def test_quiet_starts_nothing(tmp_path: Path) -> None:
    with running(row("cpu.matrixprod"), 0, directory=tmp_path) as noise:
        noise.check()
        assert (noise.work(), noise.cpu_s(), noise.command) == (0.0, 0.0, ())
        assert list(tmp_path.iterdir()) == []


def test_one_that_ends_at_once_is_an_error_that_says_why(tmp_path: Path) -> None:
    skip_if_missing(row("cpu.matrixprod"))
    broken = dataclasses.replace(row("cpu.matrixprod"), argv=("--no-such-option", "{seconds}"))
    with (
        pytest.raises(AntagonistError, match=r"(?s)ended after .*no-such-option"),
        running(broken, 100, directory=tmp_path) as noise,
    ):
        wait_until(lambda: not any(map(living, sessions_of(noise))), "it ends")
        noise.check()
        pytest.fail("it was believed to run")
    assert list(tmp_path.iterdir()) == []


def test_one_that_sleeps_does_not_pass_for_a_hog(tmp_path: Path) -> None:
    sleeper = dataclasses.replace(
        row("cpu.matrixprod"), program="sleep", argv=("{seconds}",), work="cpu", package="coreutils"
    )
    with running(sleeper, 100, PLAIN, 3.0, directory=tmp_path) as noise, pytest.raises(AntagonistIdle, match="consumed"):
        noise.check()


def test_a_missing_program_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    absent = dataclasses.replace(row("cpu.matrixprod"), program="no-such-program", package="no-such-package")
    with pytest.raises(PreflightError, match="no-such-package") as caught, running(absent, 100, directory=tmp_path):
        pytest.fail("it started")
    assert caught.value.hint == "apt-get install -y no-such-package"


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(Exception, match="is not a control group"),
        running(row("cpu.compileall"), 100, CgroupTarget(cgroups=(tmp_path,)), directory=tmp_path),
    ):
        pytest.fail("it started")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_when_we_do(signum: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C ends it at once and removes its files; killed, it ends by its own time and the next run removes them."""
    text = f"""
import signal, sys, time
from pathlib import Path
from bedplate.catalog.antagonists import read_antagonists
from bedplate.prove.lab.antagonists import PLAIN, running
signal.signal(signal.SIGINT, signal.default_int_handler)
(one,) = [row for row in read_antagonists() if row.id == "cpu.compileall"]
with running(one, 50, PLAIN, 1.0, directory=Path({str(tmp_path)!r})) as noise:
    print(noise._sessions[0].pid, flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        session = int(process.stdout.readline())
    assert living(session)
    os.kill(process.pid, signum)
    process.wait(PATIENCE_S)
    if signum is signal.SIGKILL:
        assert list(tmp_path.glob("bedplate-noise-*"))
        wait_until(lambda: not living(session), "it ends by its own time")
        with running(row("cpu.compileall"), 50, PLAIN, 1.0, directory=tmp_path):
            pass
    assert living(session) == []
    assert list(tmp_path.iterdir()) == []


def test_residency_is_told_and_eviction_is_verified() -> None:
    path = Path("/var/tmp") / f"bedplate-residency-{os.getpid()}"
    try:
        path.write_bytes(os.urandom(8 << 20))
        assert resident_bytes(path) == 8 << 20
        assert evict(path) <= (8 << 20) * 0.02
        with path.open("rb") as file:
            file.read(1 << 20)
        assert resident_bytes(path) >= 1 << 20
    finally:
        path.unlink(missing_ok=True)
