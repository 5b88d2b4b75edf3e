"""The debug console of the machine that runs: a root shell that development images have."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import termios
import tty

from bedplate.act.paths import find_paths
from bedplate.errors import NotRunningError
from bedplate.image.console import ConsoleResult, ask_console
from bedplate.image.machine import read_machine
from bedplate.image.qemu import CONSOLE_SOCKET
from bedplate.image.qmp import connect_unix

_LEAVE = b"\x1d"  # Ctrl-]


def connect_console() -> socket.socket:
    """A connection to the console, which whoever asked closes. Raises NotRunningError without a machine or a console."""
    machine = read_machine(find_paths())
    if machine is None:
        raise NotRunningError("no machine is running", hint="Start one: bedplate up")
    try:
        return connect_unix(machine.directory, CONSOLE_SOCKET, timeout_s=5.0)
    except OSError as error:
        raise NotRunningError(
            f"{machine.directory / CONSOLE_SOCKET}: {error.strerror}",
            hint="Start the machine again: bedplate down, bedplate up",
        ) from error


def run_in_machine(command: str, *, silence_s: float) -> ConsoleResult:
    """Run one command in the machine's root shell: its status and output. Raises BootError when the console says nothing for
    silence_s, NotRunningError without a machine or a console."""
    with connect_console() as console:
        return ask_console(console, command, silence_s=silence_s)


def attach_terminal(console: socket.socket, keyboard: int, screen: int) -> None:
    """Pass bytes between a console and a terminal, of which these are the descriptors, until Ctrl-] or the machine's end.

    The terminal is raw meanwhile, and as before afterwards; the shell in the machine is told its size.
    """
    before = termios.tcgetattr(keyboard)
    size = shutil.get_terminal_size()
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
                        os.write(screen, data)
                        continue
                    data = os.read(keyboard, 1024)
                    if not data or _LEAVE in data:
                        return
                    console.sendall(data)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
