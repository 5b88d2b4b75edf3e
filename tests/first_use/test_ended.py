"""SIGTERM, SIGHUP and Ctrl-C end every verb with 130, and what it was making is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SIGNALS = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
FIO = "#!/bin/sh\nfor word; do case $word in --filename=*) echo part >> ${word#--filename=};; esac; done\nexec sleep 1000\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BEDPLATE_PATH_PREFIX", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/fio").write_text(FIO)
    (tmp_path / "bin/fio").chmod(0o755)
    return tmp_path


def start(*argv: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "bedplate.cli.main", *argv]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)


def wait_until(process: subprocess.Popen[str], reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        if process.poll() is not None and "is not on a disk" in (said := process.communicate()[1]):
            pytest.skip(said)
        assert process.returncode is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def end(process: subprocess.Popen[str], signum: signal.Signals) -> None:
    process.send_signal(signum)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted"
    assert signum == signal.SIGINT or f"ended by {signum.name}" in said


@SIGNALS
def test_logs_that_are_followed(home: Path, signum: signal.Signals) -> None:
    (home / "state/logs").mkdir(parents=True)
    (home / "state/logs/build.log").write_text("begin\n")
    logs = start("logs", "-f", "build")
    assert logs.stdout is not None and logs.stdout.readline() == "begin\n"
    end(logs, signum)


@SIGNALS
def test_a_question_without_an_answer(home: Path, signum: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ask = start("ask", "--endpoint", f"http://127.0.0.1:{server.getsockname()[1]}", "hello")
        server.settimeout(120)
        with server.accept()[0]:
            end(ask, signum)


@SIGNALS
def test_a_model_that_is_made(home: Path, signum: signal.Signals) -> None:
    content = home / "state/models/sha256"
    make = start("model", "make", "random", "--like", "smollm2-135m")
    wait_until(make, lambda: list(content.glob(".*.part")))
    end(make, signum)
    assert list(content.iterdir()) == []


@SIGNALS
def test_a_disk_that_is_measured(home: Path, signum: signal.Signals) -> None:
    measure = start("measure", str(home), "--dry-run", "--size", "16M")
    wait_until(measure, lambda: any(path.stat().st_size for path in home.glob(".bedplate-disk-speed.*")))
    end(measure, signum)
    assert list(home.glob(".bedplate-disk-speed.*")) == []


def test_the_next_measurement_removes_what_a_killed_one_left_and_not_what_another_uses(home: Path) -> None:
    def scratch(process: subprocess.Popen[str]) -> Path:
        return home / f".bedplate-disk-speed.{process.pid}"

    def measure() -> subprocess.Popen[str]:
        process = start("measure", str(home), "--dry-run", "--size", "16M")
        wait_until(process, lambda: scratch(process).exists() and scratch(process).stat().st_size)
        return process

    killed = measure()
    killed.kill()
    killed.communicate(timeout=120)
    assert scratch(killed).exists()
    running = measure()
    assert not scratch(killed).exists()
    refused = start("measure", str(home), "--dry-run", "--size", "16M")
    if os.geteuid() == 0:  # one at a time; another user's goes on beside it
        assert refused.communicate(timeout=120) and refused.returncode == 5
    else:
        wait_until(refused, lambda: scratch(refused).exists())
        end(refused, signal.SIGTERM)
    assert scratch(running).exists()
    end(running, signal.SIGTERM)


def test_nohup_is_honoured(home: Path) -> None:
    (home / "state/logs").mkdir(parents=True)
    (home / "state/logs/build.log").write_text("begin\n")
    words = ["sh", "-c", "trap '' HUP; exec \"$0\" -m bedplate.cli.main logs -f build", sys.executable]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as logs:
        assert logs.stdout is not None and logs.stdout.readline() == "begin\n"
        logs.send_signal(signal.SIGHUP)
        with (home / "state/logs/build.log").open("a") as file:
            file.write("more\n")
        assert logs.stdout.readline() == "more\n"
        end(logs, signal.SIGTERM)
