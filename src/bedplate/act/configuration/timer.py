"""The dead man's switch of a configuration: a timer of systemd that takes it back unless somebody confirms it.

It is armed before anything is changed, so that a machine that hangs meanwhile comes back too. In an image it lasts until the
next boot, which takes back what nobody has confirmed (`bedplate config restore`); elsewhere it counts anew from each boot.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.revert_timer import bedplate_argv, render_service, render_timer
from bedplate.act.tuning.durable import make_directories, no_space, remove_whole, unfinished, write_whole
from bedplate.errors import BedplateError

TIMER = "bedplate-config-confirm"
_DIRECTORIES = ("/run/systemd/system", "/etc/systemd/system")
_HEAD = "# Made by `bedplate config apply`; `bedplate config confirm` and `revert` remove it.\n"
_DESCRIPTION = "Take back the configuration of this machine unless it is confirmed"


def arm(place: ConfigPlace, within_s: int, *, lasts: bool) -> None:
    """Let `bedplate config revert --unless-confirmed` run after the time; lasts: also after a boot.

    Raises BedplateError; then nothing is left of it.
    """
    disarm(place)
    argv = bedplate_argv("config", "revert", "--unless-confirmed", "--root", str(place.top))
    directory = place.at(_DIRECTORIES[lasts])
    timer, service = directory / f"{TIMER}.timer", directory / f"{TIMER}.service"
    try:
        try:
            make_directories(directory, place.top)
            write_whole(service, render_service(argv, head=_HEAD, description=_DESCRIPTION))
            write_whole(timer, render_timer(within_s, head=_HEAD, description=_DESCRIPTION))
        except OSError as error:
            raise no_space(timer, error) from error
        if place.top == Path("/"):
            systemd.reload_units()
            if lasts:
                systemd.enable(timer.name)
            else:
                systemd.start((timer.name,))
    except BaseException:
        disarm(place)
        raise


def is_armed(place: ConfigPlace) -> bool:
    """Whether the timer is there: that of an image is gone after a boot, that of another host counts anew."""
    return any((place.at(directory) / f"{TIMER}.timer").exists() for directory in _DIRECTORIES)


def disarm(place: ConfigPlace) -> None:
    """Stop the timer and take its units away, if there are any. One that has fired finds that nothing waits."""
    names = (f"{TIMER}.timer", f"{TIMER}.service")
    paths = [place.at(directory) / name for directory in _DIRECTORIES for name in names]
    there = [path for path in paths if path.exists() or unfinished(path).exists()]
    if not there:
        return
    is_host = place.top == Path("/")
    if is_host:
        with contextlib.suppress(BedplateError):
            systemd.disable(f"{TIMER}.timer")
    for path in there:
        remove_whole(path)
    if is_host:
        with contextlib.suppress(BedplateError):
            systemd.reload_units()
