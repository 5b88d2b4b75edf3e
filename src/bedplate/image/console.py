"""A conversation with the root shell on a machine's debug console (hvc0): commands typed, what they print, their status."""

from __future__ import annotations

import base64
import contextlib
import math
import socket
import time
from dataclasses import dataclass

from bedplate.errors import BootError, NotRunningError

_END = "bedplate-shell-end"
_GREETING_S = 5.0  # seconds
_END_S = (
    10.0  # seconds; for a command that is told to end: 2 s in the guest until it is killed, and an emulated guest is slow
)
_PIECE = 512  # characters of one typed line
_SHOWN = 2000  # characters of what a command had printed, in an error
# The command has a process group of its own and no terminal to read from. A second process reads the terminal, so that
# anything typed ends the command: by a client that has waited long enough, or by the next one when the last was killed.
# Ctrl-C would not do: a command can ignore it, and then it would keep the only console. Nor would a loop of `read -t` beside
# `kill -0`: bash drops a line that comes in the instant in which the time is over.
_RUN = (
    '(set -m; { echo @MARK@-begin; eval "$(echo $bedplate_typed | base64 -d)"; } </dev/null & bedplate_job=$!; set +m; '
    "{ (read -r; trap '' TERM; kill -- -$bedplate_job; "
    "for bedplate_try in {1..20}; do kill -0 -- -$bedplate_job || break; sleep 0.1; done; "
    "kill -9 -- -$bedplate_job) <&0 & bedplate_reader=$!; wait $bedplate_job; bedplate_status=$?; "
    "kill $bedplate_reader; wait $bedplate_reader; } 2>/dev/null; echo @MARK@:$bedplate_status:)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleResult:
    """What a command of the console's shell came to."""

    status: int
    output: str
    """stdout and stderr together."""


def ask_console(console: socket.socket, command: str, *, silence_s: float, timeout_s: float | None = None) -> ConsoleResult:
    """Run one command in the console's shell to its end.

    The command runs in a subshell and reads nothing. Raises BootError when the console is silent for silence_s, or when the
    command runs past timeout_s; the command is ended then, however it is interrupted, and the console is free for the next.
    Raises NotRunningError when the machine ends.
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
    end, said = f"{_END}:".encode(), b""
    try:
        console.sendall(_RUN.replace("@MARK@", mark).encode() + b"\n")
        while end not in said or said.count(b":", said.rindex(end)) < 2:
            left_s = math.inf if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise BootError(f"the command ran for more than {timeout_s:.0f} s", hint="Look at it with: bedplate shell")
            said += _receive_within(console, left_s, silence_s)
    except NotRunningError:
        raise
    except BootError as error:
        outcome = "it was ended" if _end_command(console, end) else "the console did not report its end"
        printed = f"; it had printed:\n{_body(said)[-_SHOWN:]}" if _body(said) else "; it had printed nothing"
        raise BootError(f"{error.message}, {outcome}{printed}", hint=error.hint) from error
    except BaseException:  # Ctrl-C of this host too
        _end_command(console, end)
        raise
    body, _, rest = _body(said).rpartition(f"{_END}:")
    return ConsoleResult(status=int(rest.split(":", 1)[0]), output=body)


def _body(said: bytes) -> str:
    """What the console has said since the command began."""
    return said.decode(errors="replace").replace("\r\n", "\n").partition(f"{_END}-begin\n")[2]


def _greet(console: socket.socket, line: str, acknowledged: str, silence_s: float) -> None:
    """Type the first line until somebody answers: what comes before the shell has started is lost."""
    deadline = time.monotonic() + silence_s
    said = b""
    while acknowledged.encode() not in said:
        console.sendall(b"\x15" + line.encode() + b"\n")  # Ctrl-U takes away a half-typed line
        try:
            while acknowledged.encode() not in said:
                said += _receive(console, min(_GREETING_S, silence_s))
        except BootError as error:
            if time.monotonic() >= deadline:
                raise BootError(f"the console did not answer for {silence_s:.0f} s", hint=error.hint) from error


def _end_command(console: socket.socket, end: bytes) -> bool:
    """Have the command ended that runs, and wait until the shell says so: whether it did."""
    deadline, said = time.monotonic() + _END_S, b""
    with contextlib.suppress(OSError, BootError, NotRunningError):
        console.sendall(b"\x15\n")
        while end not in said and (left_s := deadline - time.monotonic()) > 0:
            said += _receive(console, left_s)
    return end in said


def _type(console: socket.socket, line: str, acknowledged: str) -> None:
    console.sendall(line.encode() + b"\n")
    said = b""
    while acknowledged.encode() not in said:
        said += _receive(console, console.gettimeout() or 60.0)


def _receive_within(console: socket.socket, left_s: float, silence_s: float) -> bytes:
    """What the console says next, or b"" when the command's time is over before it has been silent for too long."""
    if left_s >= silence_s:
        return _receive(console, silence_s)
    try:
        return _receive(console, left_s)
    except BootError:
        return b""


def _receive(console: socket.socket, silence_s: float) -> bytes:
    console.settimeout(silence_s)
    try:
        chunk = console.recv(65536)
    except TimeoutError as error:
        raise BootError(f"the console was silent for {silence_s:.0f} s", hint="Look at it with: bedplate shell") from error
    if not chunk:
        raise NotRunningError("the machine stopped", hint="See bedplate logs.")
    return chunk
