"""The HTML page that --html names, of every verb: whether it can be written, and writing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedplate.act.files import check_report, write_report
from bedplate.errors import UsageError


def check_page(file: Path | None) -> None:
    """Raise UsageError where the page cannot be written, as far as that is known before the work for it; None: no page."""
    if file is not None:
        with _as_usage_error(file):
            check_report(file)


def write_page(file: Path, page: str) -> None:
    """Write a page all at once or not at all. Raises UsageError where it cannot be written.

    What is no character (a lone surrogate in the name of a file) stands as its escape.
    """
    with _as_usage_error(file):
        write_report(file, page.encode("utf-8", "backslashreplace"))


@contextmanager
def _as_usage_error(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--html: {file}: cannot be written: {error.strerror or error}",
            hint="Name a file in a directory that exists and that you may write to.",
        ) from error
