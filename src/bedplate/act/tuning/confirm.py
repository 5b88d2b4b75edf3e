"""The timer of a plan (act/confirm_timer.py): it takes the plan back unless somebody confirms it.

It lasts as long as the plan does: one for all boots has a timer for all boots, which counts anew from each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.act.confirm_timer import ConfirmTimer
from bedplate.act.revert_timer import bedplate_argv
from bedplate.act.tuning.journal import read_record, write_record
from bedplate.act.tuning.place import Place

TIMER = "bedplate-tune-confirm"
_TIMER = ConfirmTimer(
    name=TIMER,
    head="# Made by `bedplate tune apply --confirm-within`; `bedplate tune confirm` and `undo` remove it.\n",
    description="Revert the plan of bedplate tune unless it is confirmed",
)


def arm(place: Place, within_s: int, arguments: Sequence[str]) -> None:
    """Let `bedplate tune undo --unless-confirmed` run after the time. Raises BedplateError; then nothing is left of it."""
    argv = bedplate_argv("tune", "undo", "--unless-confirmed", *arguments)
    _TIMER.arm(place.top, within_s, argv, lasts=place.persist)


def disarm(top: Path) -> None:
    """Stop the timer and take its units away, if there are any.

    One that has fired all the same finds the plan confirmed, or gone, and does nothing.
    """
    _TIMER.disarm(top)


def confirm(place: Place) -> bool:
    """Keep what is applied; whether something waited for it. The lock is held."""
    record = read_record(place)
    if record is None or not record.confirm:
        return False
    write_record(place, replace(record, confirm=""))
    return True
