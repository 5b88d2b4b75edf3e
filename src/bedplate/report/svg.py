"""Pieces of SVG: shapes with classes that the page's style colours, and text cut to the room that it has."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Advance widths of the common sans-serif fonts in thousandths of the size, of the wider ones: what is cut must not overlap.
_NARROW, _WIDE = frozenset("iljtfI.,:;'|!()[]/ "), frozenset("mwMW@%")


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a text is in a proportional font of that size."""
    total = 0
    for char in text:
        total += (
            330 if char in _NARROW else 900 if char in _WIDE else 700 if char.isupper() else 1000 if char > "\u2fff" else 565
        )
    return total * size / 1000 * (1.1 if bold else 1.0)


def fit(text: str, room: float, size: float) -> str:
    """The text, or its beginning and an ellipsis where the room ends."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""


def label(x: float, y: float, text: str, css: str, *, anchor: str = "start") -> str:
    """A <text> element with its baseline at y, escaped; "" for no text."""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:g}" y="{y:g}" class="{css}"{place}>{escape(text)}</text>' if text else ""


def pair(x: float, y: float, first: str, second: str, first_css: str, second_css: str, *, gap: float = 7) -> str:
    """Two texts after each other in one line, however wide the reader's font makes the first."""
    return (
        f'<text x="{x:g}" y="{y:g}"><tspan class="{first_css}">{escape(first)}</tspan>'
        f'<tspan class="{second_css}" dx="{gap:g}">{escape(second)}</tspan></text>'
    )


def box(x: float, y: float, width: float, height: float, css: str, *, radius: float = 6) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" class="{css}"/>'


def wire(css: str, x: float, y: float, *turns: tuple[float, float]) -> str:
    """A line from a point through others."""
    return f'<path d="M{x:g} {y:g}{"".join(f"L{right:g} {down:g}" for right, down in turns)}" class="{css}"/>'


def badge(x: float, y: float, number: int, severity: str) -> str:
    """A finding's number in a circle, leading to the finding."""
    return (
        f'<a href="#f{number}" tabindex="-1"><circle cx="{x:g}" cy="{y:g}" r="8.5" class="b {severity}"/>'
        f'<text x="{x:g}" y="{y + 3.6:g}" class="bt" text-anchor="middle">{number}</text></a>'
    )


def plot(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    """A chart of that size in pixels; one below 600 is shown on narrow screens only. `name` is for screen readers."""
    kind = "narrow" if width < 600 else "wide"
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {width:g} {height:.0f}" width="{width:g}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(name)}">{"".join(parts)}</svg>'
    )
