"""The dead man's switch: a timer of systemd that takes a plan back unless somebody confirms it.

It is armed before the plan is applied, so that a machine that hangs meanwhile comes back too, and lasts as long as the plan
does: one for all boots has a timer for all boots, which counts anew from each. It does not depend on the process that
applied: nothing is reverted because a process stopped.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bedplate
from bedplate.act.tuning.durable import make_directories, remove_whole, write_whole
from bedplate.act.tuning.journal import read_in_force, write_in_force
from bedplate.act.tuning.place import Place, make_place
from bedplate.errors import BedplateError

TIMER = "bedplate-tune-confirm"
_SYSTEMD_S = 60.0  # beside an engine that outweighs everything it answers slowly
_HEAD = "# Made by `bedplate tune apply --confirm-within`; taken away by `bedplate tune confirm` and `undo`.\n"


def arm(place: Place, within_s: int, arguments: Sequence[str]) -> None:
    """Let `bedplate tune undo --unless-confirmed` run after the time. Raises BedplateError; then nothing is left of it."""
    disarm(place.top)
    argv = [sys.executable, "-m", "bedplate.cli.main", "tune", "undo", "--unless-confirmed", *arguments]
    timer, service = _units(place)
    make_directories(timer.parent, place.top)
    try:
        write_whole(service, render_service(argv, Path(bedplate.__file__).parents[1]))
        write_whole(timer, render_timer(within_s))
        _systemctl(place.top, "daemon-reload")
        _systemctl(place.top, *(["enable", "--now"] if place.persist else ["start"]), timer.name)
    except BaseException:
        disarm(place.top)
        raise


def disarm(top: Path) -> None:
    """Stop the timer and take its units away, if there are any.

    One that has fired all the same finds the plan confirmed, or gone, and does nothing.
    """
    there = [path for persist in (False, True) for path in _units(make_place(top, persist=persist)) if path.exists()]
    if not there:
        return
    with contextlib.suppress(BedplateError):
        _systemctl(top, "disable", "--now", f"{TIMER}.timer")
    for path in there:
        remove_whole(path)
    with contextlib.suppress(BedplateError):
        _systemctl(top, "daemon-reload")


def confirm(place: Place) -> bool:
    """Keep what is applied; whether something waited for it. The lock is held."""
    state = read_in_force(place)
    if state is None or not state.confirm:
        return False
    write_in_force(place, replace(state, confirm=""))
    return True


def render_timer(within_s: int) -> str:
    """Text of the timer's unit file."""
    return (
        f"{_HEAD}[Unit]\nDescription=Take back what bedplate has tuned, unless it is confirmed\n\n"
        f"[Timer]\nOnActiveSec={within_s}s\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )


def render_service(argv: Sequence[str], sources: Path) -> str:
    """Text of the unit file that the timer starts; it is tried again until it comes to an end."""
    return (
        f"{_HEAD}[Unit]\nDescription=Take back what bedplate has tuned, unless it is confirmed\n\n"
        f"[Service]\nType=oneshot\nEnvironment={_word(f'PYTHONPATH={sources}')}\n"
        f"ExecStart={' '.join(map(_word, argv))}\nRestart=on-failure\nRestartSec=30s\n"
    )


def _units(place: Place) -> tuple[Path, Path]:
    """Timer and service."""
    return place.at(f"{place.units}/{TIMER}.timer"), place.at(f"{place.units}/{TIMER}.service")


def _systemctl(top: Path, *words: str) -> None:
    from bedplate.act.run import run

    if top == Path("/"):  # the one that can be asked is this machine's
        run(["systemctl", "--quiet", *words], timeout_s=_SYSTEMD_S)


def _word(text: str) -> str:
    """One word of a unit file (systemd.syntax(7), systemd.service(5)); neither specifiers nor variables are meant in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
