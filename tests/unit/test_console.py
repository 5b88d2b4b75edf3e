from __future__ import annotations

import base64
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from bedplate.errors import BootError, NotRunningError
from bedplate.image.console import ask_console


class Shell(threading.Thread):
    """What types back what it is sent, as a terminal does, and answers as bash would."""

    def __init__(self, end: socket.socket, output: bytes, status: int) -> None:
        super().__init__(daemon=True)
        self.end, self.output, self.status = end, output, status
        self.typed, self.command = "", ""

    def run(self) -> None:
        with self.end.makefile("rb") as lines:
            for raw in lines:
                line = raw.decode().lstrip("\x15\x03").rstrip("\n")
                self.end.sendall(line.encode() + b"\r\n")
                if run := re.search(r"echo (\S+-begin);", line):
                    self.command = base64.b64decode(self.typed).decode()
                    self.end.sendall(run[1].replace("''", "").encode() + b"\r\n")
                    for piece in (self.output, f"bedplate-shell-end:{self.status}:\r\n$ ".encode()):
                        self.end.sendall(piece)
                elif typed := re.fullmatch(r"bedplate_typed=\S*?(\w*=*); echo (\S+)", line):
                    self.typed += typed[1]
                    self.end.sendall(typed[2].replace("''", "").encode() + b"\r\n")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("output", "status", "want"),
    [
        (b"a\r\nb\r\n", 0, "a\nb\n"),
        (b"", 3, ""),
        (b"no newline: 7", 1, "no newline: 7"),
        ("\xe4 \N{EURO SIGN}\r\n".encode(), 0, "\xe4 \N{EURO SIGN}\n"),
    ],
)
def test_an_answer_is_what_was_printed_and_the_status(
    ends: tuple[socket.socket, socket.socket], output: bytes, status: int, want: str
) -> None:
    shell = Shell(ends[1], output, status)
    shell.start()
    command = f"echo {'x' * 2000}"
    answer = ask_console(ends[0], command, silence_s=5)
    assert (answer.status, answer.output) == (status, want)
    assert shell.command == command


def test_a_console_where_nobody_answers_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(BootError, match=r"the console did not answer for 0 s"):
        ask_console(ends[0], "true", silence_s=0.05)


def test_a_machine_that_ends_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].close()
    with pytest.raises((NotRunningError, BrokenPipeError)):
        ask_console(ends[0], "true", silence_s=0.05)
