"""A Progress for verbs that are done at once: a line of standard error for each step, without times."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bedplate.report.escape import escape_line


class Talk:
    """Notes stand at the margin, details are indented below them; phases say nothing."""

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
