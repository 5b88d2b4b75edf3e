"""What verbs say on standard error: errors with their hints, and each step of a verb that is done at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bedplate.errors import BedplateError, CommandError
from bedplate.report.escape import escape_line, escape_lines


class Talk:
    """A Progress without times. Notes stand at the margin, details are indented below them; phases say nothing."""

    @contextmanager
    def phase(self, _: str, /) -> Iterator[None]:
        """Run the block; neither its begin nor its end is printed."""
        yield

    def detail(self, text: str) -> None:
        """Print a line of standard error, indented by two blanks."""
        print(f"  {escape_line(text)}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Print a line of standard error at the margin."""
        print(escape_line(text), file=sys.stderr)


def print_error(error: BedplateError) -> None:
    """Print a message, the last lines of a command that failed, and the hint; in colour on a terminal unless NO_COLOR."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    red, dim, plain = ("\033[1;31m", "\033[2m", "\033[0m") if colour else ("", "", "")
    for line in escape_lines(error.message):
        print(f"{red}error:{plain} {line}", file=sys.stderr)
    if isinstance(error, CommandError) and error.tail and error.tail not in error.message:
        for line in escape_lines(error.tail):
            print(f"{dim}  | {line}{plain}", file=sys.stderr)
    for line in escape_lines(error.hint or ""):
        print(f"hint: {line}", file=sys.stderr)
