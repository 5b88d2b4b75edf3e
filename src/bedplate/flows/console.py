"""The debug console of the machine that runs: a root shell that development images have."""

from __future__ import annotations

import socket

from bedplate.act.paths import find_paths
from bedplate.errors import NotRunningError
from bedplate.image.console import ConsoleResult, ask_console
from bedplate.image.machine import read_machine
from bedplate.image.qemu import CONSOLE_SOCKET
from bedplate.image.qmp import connect_unix


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
