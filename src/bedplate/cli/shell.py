"""A root shell in the machine, on its debug console. Development images only; Ctrl-] leaves it, and it stays as it is.

examples:
  bedplate shell
  bedplate shell -c "systemctl status"     one command; its output, then back
"""

from __future__ import annotations

import argparse
import base64
import os
import selectors
import shutil
import socket
import sys
import time

from bedplate.errors import BootError, NotRunningError

HELP = "a debug console in the machine (development images)"
_LEAVE = b"\x1d"  # Ctrl-]
_END = "bedplate-shell-end"

_GREETING_S = 5.0  # seconds
_PIECE = 512  # characters of one typed line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--command", metavar="COMMAND", help="run one command and end with its status")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="with -c: the longest silence")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.act.paths import find_paths
    from bedplate.image.machine import read_machine
    from bedplate.image.qemu import CONSOLE_SOCKET
    from bedplate.image.qmp import connect_unix

    machine = read_machine(find_paths())
    if machine is None:
        raise NotRunningError("no machine runs here", hint="Start it: bedplate up")
    try:
        console = connect_unix(machine.directory, CONSOLE_SOCKET, timeout_s=5.0)
    except OSError as error:
        raise NotRunningError(
            f"{machine.directory / CONSOLE_SOCKET}: {error.strerror}",
            hint="Start the machine again: bedplate down, bedplate up",
        ) from error
    with console:
        if arguments.command is not None:
            return run_command(console, arguments.command, silence_s=arguments.timeout)
        if not sys.stdin.isatty():
            raise NotRunningError("standard input is not a terminal", hint='For one command use: bedplate shell -c "..."')
        _attach(console)
    return 0


def run_command(console: socket.socket, command: str, *, silence_s: float) -> int:
    """Run one command in the console's shell, its output to stdout; its exit status."""
    # The mark is split in what is typed, so that its echo is not the mark. The command comes in pieces, each acknowledged
    # before the next: a terminal drops what does not fit its 4096 bytes, and an emulated machine reads slowly.
    middle = len(_END) // 2
    mark = f"{_END[:middle]}''{_END[middle:]}"
    encoded = base64.b64encode(command.encode()).decode()
    pieces = [encoded[start : start + _PIECE] for start in range(0, len(encoded), _PIECE)]
    _greet(console, f"bedplate_typed=; echo {mark}-0.", f"{_END}-0.", silence_s)
    console.settimeout(silence_s)
    for number, piece in enumerate(pieces, 1):
        _type(console, f"bedplate_typed=${{bedplate_typed}}{piece}; echo {mark}-{number}.", f"{_END}-{number}.")
    console.sendall(f'echo {mark}-begin; eval "$(echo $bedplate_typed | base64 -d)"; echo {mark}:$?:\n'.encode())
    text = ""
    while f"{_END}:" not in text or text.count(":", text.rindex(f"{_END}:")) < 2:
        text += _receive(console, silence_s)
    body, _, rest = text.partition(f"{_END}-begin\n")[2].rpartition(f"{_END}:")
    print(body, end="")
    return int(rest.split(":", 1)[0])


def _greet(console: socket.socket, line: str, acknowledged: str, silence_s: float) -> None:
    """Type the first line until somebody answers: what comes before the shell has started is lost."""
    deadline = time.monotonic() + silence_s
    text = ""
    while acknowledged not in text:
        console.settimeout(min(_GREETING_S, silence_s))
        console.sendall(b"\x15" + line.encode() + b"\n")  # Ctrl-U takes away a half-typed line
        try:
            while acknowledged not in text:
                text += _receive(console, silence_s)
        except BootError:
            if time.monotonic() >= deadline:
                raise


def _type(console: socket.socket, line: str, acknowledged: str) -> None:
    console.sendall(line.encode() + b"\n")
    text = ""
    while acknowledged not in text:
        text += _receive(console, console.gettimeout() or 60.0)


def _receive(console: socket.socket, silence_s: float) -> str:
    try:
        chunk = console.recv(65536)
    except TimeoutError as error:
        raise BootError(f"the console was silent for {silence_s:.0f} s", hint="Look with: bedplate shell") from error
    if not chunk:
        raise NotRunningError("the machine ended", hint="See bedplate logs.")
    return chunk.decode(errors="replace").replace("\r\n", "\n")


def _attach(console: socket.socket) -> None:
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    size = shutil.get_terminal_size()
    print("Connected; Ctrl-] leaves.", file=sys.stderr)
    try:
        tty.setraw(keyboard)
        console.setblocking(True)
        console.sendall(f"\x15stty rows {size.lines} cols {size.columns}\n".encode())
        with selectors.DefaultSelector() as selector:
            selector.register(keyboard, selectors.EVENT_READ)
            selector.register(console, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is console:
                        data = console.recv(65536)
                        if not data:
                            return
                        os.write(sys.stdout.fileno(), data)
                        continue
                    data = os.read(keyboard, 1024)
                    if not data or _LEAVE in data:
                        return
                    console.sendall(data)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        print("\nLeft; the shell goes on.", file=sys.stderr)
