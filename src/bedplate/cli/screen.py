"""What standard output can show."""

from __future__ import annotations

import os
import shutil
import sys

from bedplate.report.terminal import NARROWEST, Screen


def this_screen() -> Screen:
    """What standard output can: colour on a terminal unless NO_COLOR or TERM=dumb, its width, UTF-8 by the locale."""
    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    width = shutil.get_terminal_size((100, 24)).columns if terminal or "COLUMNS" in os.environ else 100
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return Screen(width=max(NARROWEST, width), colour=colour, utf8=encoding == "utf8")
