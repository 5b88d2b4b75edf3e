"""[update]: the channel and the window of updates."""

from __future__ import annotations

import re

from bedplate.config.kind import ConfigKind, shown
from bedplate.model.machine_config import MachineConfig

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_WINDOW = re.compile(rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?({_TIME})-({_TIME})")


def _check(config: MachineConfig) -> list[str]:
    update, problems = config.update, []
    if _CHANNEL.fullmatch(update.channel) is None:
        problems.append(f"update.channel: got {shown(update.channel)}, expected 1 to 40 small letters, digits and ._-")
    window = _WINDOW.fullmatch(update.window)
    if update.window and (window is None or window[1] == window[2]):
        problems.append(f'update.window: got {shown(update.window)}, expected "Sun 02:00-04:00" or "02:00-04:00"')
    return problems


KIND = ConfigKind(
    table="update", check=_check, later="is kept for updates over the network, which this version does not do yet"
)
