"""The timer of a configuration (act/confirm_timer.py): it takes the configuration back unless somebody confirms it.

In an image it lasts until the next boot, which takes back what nobody has confirmed (`bedplate config restore`); elsewhere
it counts anew from each boot.
"""

from __future__ import annotations

from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.confirm_timer import ConfirmTimer
from bedplate.act.revert_timer import bedplate_argv

_TIMER = ConfirmTimer(
    name="bedplate-config-confirm",
    head="# Made by `bedplate config apply`; `bedplate config confirm` and `revert` remove it.\n",
    description="Take back the configuration of this machine unless it is confirmed",
)


def arm(place: ConfigPlace, within_s: int, *, lasts: bool) -> None:
    """Let `bedplate config revert --unless-confirmed` run after the time; lasts: also after a boot.

    Raises BedplateError; then nothing is left of it.
    """
    argv = bedplate_argv("config", "revert", "--unless-confirmed", "--root", str(place.top))
    _TIMER.arm(place.top, within_s, argv, lasts=lasts)


def is_armed(place: ConfigPlace) -> bool:
    """Whether the timer is there: that of an image is gone after a boot, that of another host counts anew."""
    return _TIMER.is_armed(place.top)


def disarm(place: ConfigPlace) -> None:
    """Stop the timer and take its units away, if there are any. One that has fired finds that nothing waits."""
    _TIMER.disarm(place.top)
