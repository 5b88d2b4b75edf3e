"""The dead man's switch: a transient timer of systemd that takes a plan back unless somebody confirms it.

It is armed before the plan is applied, so that a machine that hangs meanwhile comes back too. It does not depend on the
process that applied: nothing is reverted because a process stopped.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bedplate
from bedplate.act.tuning.journal import read_in_force, write_in_force
from bedplate.act.tuning.place import Place
from bedplate.errors import CommandError

TIMER = "bedplate-tune-confirm"
_SYSTEMD_S = 30.0


def arm(within_s: int, arguments: Sequence[str]) -> None:
    """Let `bedplate tune undo --unless-confirmed` run after the time. Raises CommandError."""
    from bedplate.act.run import run

    disarm()
    path = Path(bedplate.__file__).parents[1]
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={TIMER}", f"--on-active={within_s}s"]
    argv += ["--timer-property=AccuracySec=1s", f"--setenv=PYTHONPATH={path}", "--"]
    run(
        [*argv, sys.executable, "-m", "bedplate.cli.main", "tune", "undo", "--unless-confirmed", *arguments],
        timeout_s=_SYSTEMD_S,
    )


def disarm() -> None:
    """Stop the timer, if one runs. One that fires all the same finds the plan confirmed, or gone, and does nothing."""
    from bedplate.act.run import run

    with contextlib.suppress(CommandError):
        run(["systemctl", "stop", f"{TIMER}.timer"], timeout_s=_SYSTEMD_S)


def confirm(place: Place) -> bool:
    """Keep what is applied; whether something waited for it. The lock is held."""
    state = read_in_force(place)
    if state is None or not state.confirm:
        return False
    write_in_force(place, replace(state, confirm=""))
    return True
