"""Units of systemd that undo something after a time, whatever became of the process that did it.

The timer counts from when it was started, and anew from each restart (OnActiveSec= in systemd.timer(5)).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import bedplate


def bedplate_argv(*words: str) -> list[str]:
    """This very bedplate with a verb, as a unit can start it; `render_service` says where its modules are."""
    return [sys.executable, "-m", "bedplate.cli.main", *words]


def render_timer(within_s: int, *, head: str, description: str) -> str:
    """Text of the timer's unit file (systemd.timer(5)); head: whole lines of comment that stand above it."""
    return (
        f"{head}[Unit]\nDescription={description}\n\n"
        f"[Timer]\nOnActiveSec={within_s}s\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )


def render_service(argv: Sequence[str], *, head: str, description: str) -> str:
    """Text of the unit file that the timer starts; it is tried again until it comes to an end."""
    sources = Path(bedplate.__file__).parents[1]
    return (
        f"{head}[Unit]\nDescription={description}\n\n"
        f"[Service]\nType=oneshot\nEnvironment={_word(f'PYTHONPATH={sources}')}\n"
        f"ExecStart={' '.join(map(_word, argv))}\nRestart=on-failure\nRestartSec=30s\n"
    )


def _word(text: str) -> str:
    """One word of a unit file (systemd.syntax(7), systemd.service(5)); neither specifiers nor variables are meant in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
