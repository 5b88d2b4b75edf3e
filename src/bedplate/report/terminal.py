"""Colour and glyphs for a terminal, and lines that fit into it. Pure: what the terminal can is an argument."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.model.facts.finding import Severity

_STYLES = {
    "bold": "1",
    "dim": "2",
    Severity.CRITICAL: "1;37;41",
    Severity.HIGH: "1;31",
    Severity.MEDIUM: "33",
    Severity.LOW: "36",
    Severity.INFO: "2",
    "good": "32",
}
NARROWEST = 20  # columns; below that nothing can be laid out


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What the output can: columns, colour, and whether it shows more than ASCII."""

    width: int = 100
    colour: bool = False
    utf8: bool = False

    def paint(self, style: str, text: str) -> str:
        """The text in a style ("bold", "dim", a severity); as it is without colour."""
        return f"\033[{_STYLES[style]}m{text}\033[0m" if self.colour and text else text

    def plain(self, text: str) -> str:
        """The text, or the nearest in ASCII where the output has no UTF-8: "·" becomes "|", what has no equal an escape."""
        if self.utf8 or text.isascii():
            return text
        return text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


_ASCII = str.maketrans(
    {"·": "|", "×": "x", "→": ">", "–": "-", "—": "-", "“": '"', "”": '"', "’": "'", "µ": "u", "…": "..."}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A piece of a line that is not cut while there is room for it on a line of its own."""

    text: str
    style: str = ""


def columns(text: str) -> int:
    """Terminal columns that a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def lay(screen: Screen, words: Sequence[Word], *, first: str = "", rest: str = "", gap: str = "  ") -> list[str]:
    """Words in a row, `gap` between them, on as many lines as they need; `first` and `rest` begin the lines."""
    lines: list[str] = []
    line, used = first, columns(first)
    begin = used
    for word in words:
        for piece_number, piece in enumerate(_pieces(screen.plain(word.text), max(8, screen.width - columns(rest)))):
            space = gap if used > begin else ""
            if used > begin and (piece_number > 0 or used + columns(space) + columns(piece) > screen.width):
                lines.append(line)
                line, begin, space = rest, columns(rest), ""
                used = begin
            line += space + (screen.paint(word.style, piece) if word.style else piece)
            used += columns(space) + columns(piece)
    lines.append(line)
    return [line.rstrip() for line in lines]


def prose(screen: Screen, text: str, *, first: str = "", rest: str = "", style: str = "") -> list[str]:
    """A sentence wrapped at its spaces."""
    return lay(screen, [Word(text=word, style=style) for word in text.split()], first=first, rest=rest, gap=" ")


def _pieces(text: str, width: int) -> list[str]:
    """A word that is longer than the line, cut where it must be, at a space where there is one."""
    if columns(text) <= width:
        return [text]
    pieces: list[str] = []
    piece = ""
    for char in text:
        if columns(piece) + columns(char) > width:
            head, space, tail = piece.rpartition(" ")
            pieces.append(head if space and head else piece)
            piece = tail if space and head else ""
        piece += char
    return [*pieces, piece]
