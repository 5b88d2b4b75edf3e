"""Text for a terminal: names of files come from anybody, and may hold what moves the cursor, colours or hides a line."""

from __future__ import annotations

import re

# Control characters, the separators of lines and paragraphs, and what turns the direction of writing; no letter, no emoji.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_line(text: str) -> str:
    """One line: each control character stands as its escape, a newline as the two characters "\\\\n"."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escape_lines(text: str) -> list[str]:
    """The lines of a text that bedplate wrote, each without control characters; only "\\\\n" ends a line."""
    return [escape_line(line.replace("\t", " ")) for line in text.removesuffix("\n").split("\n")] if text else []
