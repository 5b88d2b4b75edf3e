"""What can be seen from outside of a guest that says nothing: is it slow, starved, blocked, or has its kernel hung?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from bedplate.errors import BedplateError
from bedplate.image.machine import Machine, read_health, read_tail
from bedplate.image.qemu import QMP_SOCKET, SERIAL_LOG
from bedplate.image.qmp import send_qmp

SYSRQ = "sysrq_always_enabled"
"""For the kernel's command line: without it Debian's kernel refuses the keys of `describe_silence`."""
# Messages of all levels on the serial port; memory; where each CPU is; what runs. An emulated guest prints for some seconds.
# Then the timers of each CPU, every task with its state and every queue of the scheduler: of these only when the next timer
# is due, what would run, and where some programs wait. Last, since the end of a message is what is always read: which tasks
# are blocked, and where.
_KEYS = ("9", "m", "l", "p")
_BLOCKED = "w"
_LISTS = ("q", "t")
_PRINTING_S = 20.0
_SAID = 8_000  # characters of the serial port
_TASK = re.compile(r"task:(\S+)")
_TRACED = {"systemd", "systemctl", "bash", "python3"}  # with what they wait in
_KEPT = re.compile(
    r"now at|expires_next|next_event|Tick Device|timer list|Per CPU device|state:R"
    r"|cfs_rq\[|nr_running +: [1-9]|h_nr_\w+ +: [1-9]|throttled +: [1-9]"
)
_LINES = 160


def describe_silence(machine: Machine) -> str:
    """Lines for a message: QEMU's state, the engine's health, and what the kernel prints when asked over the keyboard."""
    lines = [f"health: {read_health(machine.port)}"]
    try:
        for command in ("info status", "info registers -a"):
            said = str(send_qmp(machine.directory, QMP_SOCKET, "human-monitor-command", {"command-line": command}))
            wanted = (line for line in said.splitlines() if line.startswith(("VM status", "CPU#", "RIP=", "EIP=")))
            lines += [line.strip() for line in wanted]
        for key in _KEYS:
            _press(machine, key)
            time.sleep(1.0)
        time.sleep(_PRINTING_S)
        printed = (machine.directory / SERIAL_LOG).stat().st_size
        said = read_tail(machine.directory / SERIAL_LOG)[-_SAID:]
        for key in _LISTS:
            _press(machine, key)
            time.sleep(2 * _PRINTING_S)
        listed = (machine.directory / SERIAL_LOG).stat().st_size
        _press(machine, _BLOCKED)
        time.sleep(_PRINTING_S)
    except BedplateError as error:
        return "\n".join([*lines, error.message])
    log = (machine.directory / SERIAL_LOG).read_bytes()
    tasks = _pick(log[printed:listed].decode(errors="replace").splitlines())
    blocked = [line for line in log[listed:].decode(errors="replace").splitlines() if " ? " not in line]
    lines += ["its serial port:", said, "timers, tasks and queues:", *tasks[:_LINES]]
    return "\n".join([*lines, "blocked tasks:", *blocked[-_LINES:]])


def _pick(log: Iterable[str]) -> list[str]:
    """Of the kernel's lists: the timers, what would run, the queues that are not empty, and where some programs wait."""
    picked, traced = [], False
    for line in log:
        if task := _TASK.search(line):
            traced = task[1] in _TRACED
        if (traced and " ? " not in line) or _KEPT.search(line):
            picked.append(line.rstrip())
    return picked


def _press(machine: Machine, key: str) -> None:
    send_qmp(machine.directory, QMP_SOCKET, "human-monitor-command", {"command-line": f"sendkey alt-sysrq-{key}"})
