"""The conversation with a console's shell, against a real bash on a terminal, as the guest's console has one."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.errors import BootError
from bedplate.image.console import ask_console
from tests.effort import wait_until


def end_session(leader: int) -> None:
    """Kill every process of the session: a test that fails half-way leaves commands that ignore the end of their shell."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                os.kill(int(entry.name), signal.SIGKILL)


@pytest.fixture
def console() -> Iterator[socket.socket]:
    """Our end of the console; it stays as it is when one client goes and the next comes, as QEMU's does."""
    terminal, end = pty.openpty()
    argv = ["setsid", "--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]
    shell = subprocess.Popen(argv, stdin=end, stdout=end, stderr=end)
    os.close(end)
    ours, theirs = socket.socketpair()

    def copy(source: int, target: int) -> None:
        with contextlib.suppress(OSError):
            while chunk := os.read(source, 65536):
                os.write(target, chunk)

    copies = [
        threading.Thread(target=copy, args=ends, daemon=True)
        for ends in ((terminal, theirs.fileno()), (theirs.fileno(), terminal))
    ]
    for thread in copies:
        thread.start()
    try:
        yield ours
    finally:
        end_session(shell.pid)
        shell.wait()
        ours.close()  # ends both copies
        for thread in copies:
            thread.join(10)
        os.close(terminal)
        theirs.close()


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        ("echo out; echo error >&2; false", 1, "out\nerror\n"),
        ("exit 3", 3, ""),  # ends the command, not the console's shell
        ("cat", 0, ""),  # there is nothing to read, instead of the next line that is typed
        ("cat <<'END'\n$x `y`\nEND", 0, "$x `y`\n"),
    ],
)
def test_a_command_has_its_own_shell(console: socket.socket, command: str, status: int, output: str) -> None:
    for _ in range(2):  # the console is free for the next
        answer = ask_console(console, command, silence_s=20)
        assert (answer.status, answer.output) == (status, output)


def runs(pid_file: Path) -> bool:
    try:
        state = Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("stubborn", ["", "trap '' INT TERM; ", "trap '' INT TTOU; stty raw </dev/tty; "])
def test_a_command_that_does_not_end_leaves_the_console_free(console: socket.socket, tmp_path: Path, stubborn: str) -> None:
    """A command that ignores Ctrl-C kept the only console for good."""
    pid = tmp_path / "pid"
    with pytest.raises(BootError, match=r"silent for 1 s, it was ended; it had printed:\nbegun\n$"):
        ask_console(console, f"{stubborn}echo $BASHPID >{pid}; echo begun; while :; do sleep 1; done", silence_s=1)
    wait_until(lambda: not runs(pid), "the command is gone")
    assert ask_console(console, "echo next", silence_s=20).output == "next\n"


def test_what_is_typed_while_a_command_waits_is_never_lost(console: socket.socket) -> None:
    """In a loop of `read -t` one line in some hundred was, on a busy host: the command went on, and kept the console."""
    for _ in range(40):
        with pytest.raises(BootError, match="it was ended"):
            ask_console(console, "while :; do sleep 1; done", silence_s=60, timeout_s=0.1)


def test_a_command_that_goes_on_printing_ends_when_its_time_is_over(console: socket.socket) -> None:
    with pytest.raises(BootError, match="ran for more than 1 s"):
        ask_console(console, "while :; do echo on; sleep 0.1; done", silence_s=20, timeout_s=1)
    assert ask_console(console, "echo next", silence_s=20).output == "next\n"


def test_what_a_killed_client_left_is_ended_by_the_next(console: socket.socket, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = f"trap '' INT; echo $BASHPID >{pid}; sleep 1000; sleep 1000"
    ask = f"ask_console(socket.socket(fileno={console.fileno()}), {command!r}, silence_s=600)"
    program = f"import socket; from bedplate.image.console import ask_console; {ask}"
    client = subprocess.Popen([sys.executable, "-c", program], pass_fds=[console.fileno()])
    deadline = time.monotonic() + 60
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    client.kill()
    client.wait()
    assert runs(pid)
    assert ask_console(console, "echo next", silence_s=60).output == "next\n"
    wait_until(lambda: not runs(pid), "the command is gone")
