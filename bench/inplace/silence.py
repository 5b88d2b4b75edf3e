"""What can be seen from outside of a guest that says nothing: is it slow, starved, blocked, or has its kernel hung?"""

from __future__ import annotations

import time

from bedplate.errors import BedplateError
from bedplate.image.machine import Machine, read_health, read_tail
from bedplate.image.qemu import QMP_SOCKET, SERIAL_LOG
from bedplate.image.qmp import send_qmp

SYSRQ = "sysrq_always_enabled"
"""For the kernel's command line: without it Debian's kernel refuses the keys of `describe_silence`."""
# Messages of all levels on the serial port; memory; where each CPU is; what runs; which tasks are blocked. An emulated guest
# prints for some seconds.
_KEYS = ("9", "m", "l", "p", "w")
_PRINTING_S = 20.0
_SAID = 12_000  # characters of the serial port


def describe_silence(machine: Machine) -> str:
    """Lines for a message: QEMU's state, the engine's health, and what the kernel prints when asked over the keyboard."""
    lines = [f"health: {read_health(machine.port)}"]
    try:
        for command in ("info status", "info registers -a"):
            said = str(send_qmp(machine.directory, QMP_SOCKET, "human-monitor-command", {"command-line": command}))
            wanted = (line for line in said.splitlines() if line.startswith(("VM status", "CPU#", "RIP=", "EIP=")))
            lines += [line.strip() for line in wanted]
        for key in _KEYS:
            send_qmp(machine.directory, QMP_SOCKET, "human-monitor-command", {"command-line": f"sendkey alt-sysrq-{key}"})
            time.sleep(1.0)
        time.sleep(_PRINTING_S)
    except BedplateError as error:
        lines.append(error.message)
    return "\n".join([*lines, "its serial port:", read_tail(machine.directory / SERIAL_LOG)[-_SAID:]])
