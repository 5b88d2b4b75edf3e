"""A conversation with the root shell on a machine's debug console (hvc0): commands typed, what they print, their status."""

from __future__ import annotations

import base64
import contextlib
import socket
import time
from dataclasses import dataclass

from bedplate.errors import BootError, NotRunningError

_END = "bedplate-shell-end"
_GREETING_S = 5.0  # seconds
_PIECE = 512  # characters of one typed line
_INTERRUPT = b"\x03"  # Ctrl-C


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command of the console's shell came to."""

    status: int
    output: str
    """stdout and stderr together."""


def ask_console(console: socket.socket, command: str, *, silence_s: float, timeout_s: float | None = None) -> Answer:
    """Run one command in the console's shell to its end.

    Raises BootError when the console is silent for silence_s, or when the command runs past timeout_s; it is interrupted
    then. Raises NotRunningError when the machine ends.
    """
    # The mark is split in what is typed, so that its echo is not the mark. The command comes in pieces, each acknowledged
    # before the next: a terminal drops what does not fit its 4096 bytes, and an emulated machine reads slowly.
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    middle = len(_END) // 2
    mark = f"{_END[:middle]}''{_END[middle:]}"
    encoded = base64.b64encode(command.encode()).decode()
    pieces = [encoded[start : start + _PIECE] for start in range(0, len(encoded), _PIECE)]
    _greet(console, f"bedplate_typed=; echo {mark}-0.", f"{_END}-0.", silence_s)
    console.settimeout(silence_s)
    for number, piece in enumerate(pieces, 1):
        _type(console, f"bedplate_typed=${{bedplate_typed}}{piece}; echo {mark}-{number}.", f"{_END}-{number}.")
    console.sendall(f'echo {mark}-begin; eval "$(echo $bedplate_typed | base64 -d)"; echo {mark}:$?:\n'.encode())
    end, said = f"{_END}:".encode(), b""
    while end not in said or said.count(b":", said.rindex(end)) < 2:
        left_s = silence_s if deadline is None else max(0.1, min(silence_s, deadline - time.monotonic()))
        try:
            said += _receive(console, left_s)
        except BootError:
            with contextlib.suppress(OSError):
                console.sendall(_INTERRUPT)
            raise
    text = said.decode(errors="replace").replace("\r\n", "\n")
    body, _, rest = text.partition(f"{_END}-begin\n")[2].rpartition(f"{_END}:")
    return Answer(status=int(rest.split(":", 1)[0]), output=body)


def _greet(console: socket.socket, line: str, acknowledged: str, silence_s: float) -> None:
    """Type the first line until somebody answers: what comes before the shell has started is lost."""
    deadline = time.monotonic() + silence_s
    said = b""
    while acknowledged.encode() not in said:
        console.sendall(b"\x15" + line.encode() + b"\n")  # Ctrl-U takes away a half-typed line
        try:
            while acknowledged.encode() not in said:
                said += _receive(console, min(_GREETING_S, silence_s))
        except BootError:
            if time.monotonic() >= deadline:
                raise


def _type(console: socket.socket, line: str, acknowledged: str) -> None:
    console.sendall(line.encode() + b"\n")
    said = b""
    while acknowledged.encode() not in said:
        said += _receive(console, console.gettimeout() or 60.0)


def _receive(console: socket.socket, silence_s: float) -> bytes:
    console.settimeout(silence_s)
    try:
        chunk = console.recv(65536)
    except TimeoutError as error:
        raise BootError(f"the console was silent for {silence_s:.0f} s", hint="Look with: bedplate shell") from error
    if not chunk:
        raise NotRunningError("the machine ended", hint="See bedplate logs.")
    return chunk
