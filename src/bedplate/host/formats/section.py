"""A part of a text that was recognised, and the row that a format has in the table of all (formats/table.py)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bedplate.model.facts.host import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Lines that are of one format, cleaned: without prompts, quotes, fences and the indentation of the whole."""

    format: str
    file: str
    first_line: int
    """From 1, in the file."""
    last_line: int
    text: str
    command: tuple[str, ...] = ()
    """The command that a prompt before it names, "free", "-m"; () where none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """A format that people paste: how it is recognised, and the function that reads it."""

    id: str
    """Stable: "nvidia-smi-q"."""
    title: str
    """What people call it: "nvidia-smi -q"."""
    command: str
    """A command that prints it; "" where it is a file or a log."""
    tells: str
    """What is read of it, in a few words."""
    begins: re.Pattern[str]
    """Matches at the beginning of a line that no other format has; the line may be the first of any run of them."""
    continues: re.Pattern[str] | None
    """Matches at the beginning of a line that goes on; None for a document whose end is found by its brackets or tags."""
    parse: Callable[[Section], HostFacts]
    """Facts of a section; what it does not say is NOT_RECORDED. Raises ReadError."""
    restarts: bool = False
    """A line of `begins` is the first of an output: two of them are two outputs."""
    rows: re.Pattern[str] | None = None
    """Lines of `begins` that begin an output only where its first lines were cut off: rows of a table."""
    path: str = ""
    """Where the text stands in a machine, "/proc/cmdline": it is read by the reader of that file; "" for all others."""
    bus: bool = False
    """It numbers accelerators by their place on the bus, not as the vendor's library does."""
