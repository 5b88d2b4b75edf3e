"""Pieces of Markdown that the pages of the reference are made of."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?<![<(\[`])https?://[^\s<>();,]*[^\s<>();,.:]")


def one_line(text: str) -> str:
    """A paragraph as one line with a line end, however it is wrapped in the source."""
    return " ".join(text.split()) + "\n"


def cell(text: str) -> str:
    """Text as it may stand in a table."""
    return text.replace("|", "\\|").strip()


def table_row(*texts: str) -> str:
    """A line of a table, each text in a cell of its own."""
    return f"| {' | '.join(map(cell, texts))} |"


def link_addresses(text: str) -> str:
    """Text with each bare web address in angle brackets, so that a semicolon behind it is no part of the link."""
    return _ADDRESS.sub(r"<\g<0>>", text)


def sentence(text: str) -> str:
    """The text with a full stop; "" for ""."""
    return text and text + ("" if text.endswith(".") else ".")
