"""A root shell in the machine, on its debug console. Development images only; Ctrl-] leaves it, and it stays as it is.

examples:
  bedplate shell
  bedplate shell -c "systemctl status"     one command; its output, then back
"""

from __future__ import annotations

import argparse
import os
import selectors
import shutil
import socket
import sys

from bedplate.errors import NotRunningError

HELP = "a debug console in the machine (development images)"
_LEAVE = b"\x1d"  # Ctrl-]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--command", metavar="COMMAND", help="run one command and end with its status")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="with -c: the longest silence")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.act.paths import find_paths
    from bedplate.image.console import ask_console
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
            answer = ask_console(console, arguments.command, silence_s=arguments.timeout)
            print(answer.output, end="")
            return answer.status
        if not sys.stdin.isatty():
            raise NotRunningError("standard input is not a terminal", hint='For one command use: bedplate shell -c "..."')
        _attach(console)
    return 0


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
