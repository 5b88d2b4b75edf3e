"""The dead man's switch: a timer of systemd that takes a plan back unless somebody confirms it.

It is armed before the plan is applied, so that a machine that hangs meanwhile comes back too, and lasts as long as the plan
does: one for all boots has a timer for all boots, which counts anew from each. It does not depend on the process that
applied: nothing is reverted because a process stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.revert_timer import bedplate_argv, render_service, render_timer
from bedplate.act.tuning.durable import make_directories, no_space, remove_whole, write_whole
from bedplate.act.tuning.journal import read_record, write_record
from bedplate.act.tuning.place import Place, make_place
from bedplate.errors import BedplateError

TIMER = "bedplate-tune-confirm"
_HOST = Path("/")  # the service manager that can be asked is this machine's
_HEAD = "# Made by `bedplate tune apply --confirm-within`; `bedplate tune confirm` and `undo` remove it.\n"
_DESCRIPTION = "Revert the plan of bedplate tune unless it is confirmed"


def arm(place: Place, within_s: int, arguments: Sequence[str]) -> None:
    """Let `bedplate tune undo --unless-confirmed` run after the time. Raises BedplateError; then nothing is left of it."""
    disarm(place.top)
    argv = bedplate_argv("tune", "undo", "--unless-confirmed", *arguments)
    timer, service = _units(place)
    try:
        try:
            make_directories(timer.parent, place.top)
            write_whole(service, render_service(argv, head=_HEAD, description=_DESCRIPTION))
            write_whole(timer, render_timer(within_s, head=_HEAD, description=_DESCRIPTION))
        except OSError as error:
            raise no_space(timer, error) from error
        if place.top == _HOST:
            systemd.reload_units()
            if place.persist:
                systemd.enable(timer.name)
            else:
                systemd.start((timer.name,))
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
    if top == _HOST:
        with contextlib.suppress(BedplateError):
            systemd.disable(f"{TIMER}.timer")
    for path in there:
        remove_whole(path)
    if top == _HOST:
        with contextlib.suppress(BedplateError):
            systemd.reload_units()


def confirm(place: Place) -> bool:
    """Keep what is applied; whether something waited for it. The lock is held."""
    record = read_record(place)
    if record is None or not record.confirm:
        return False
    write_record(place, replace(record, confirm=""))
    return True


def _units(place: Place) -> tuple[Path, Path]:
    """Timer and service."""
    return place.at(f"{place.units}/{TIMER}.timer"), place.at(f"{place.units}/{TIMER}.service")
