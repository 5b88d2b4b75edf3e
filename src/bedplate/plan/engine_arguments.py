"""What a running engine was given on its command line, read as programs read it: the last of several counts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bedplate.model.facts.system import EngineProcess


def argument(engine: EngineProcess, *names: str) -> str | None:
    """Value of an option, "--name value" or "--name=value", under any of its names. None without a value."""
    value = None
    for index, word in enumerate(engine.argv):
        name, equals, rest = word.partition("=")
        if name in names:
            value = rest if equals else engine.argv[index + 1] if index + 1 < len(engine.argv) else None
    return value


def count_argument(processes: Iterable[EngineProcess], default: int, *names: str) -> int:
    """The largest whole number that one of the processes was given for an option; the default where none was given one."""
    given = [argument(process, *names) for process in processes]
    return max((int(text) for text in given if text is not None and re.fullmatch(r"[1-9]\d{0,3}", text)), default=default)
