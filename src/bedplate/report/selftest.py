"""What asking the known-answer model gave, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN_MISSES = 5


def render_selftest(record: Mapping[str, Any]) -> str:
    """The first misses of the JSON object of `bedplate selftest`, three lines each, and the count; ends with a line end."""
    lines: list[str] = []
    misses = record["misses"]
    for miss in misses[:_SHOWN_MISSES]:
        lines += [
            f"question: {miss['question']}",
            f"expected: {miss['expected']}",
            f"got:      {miss['problem'] or miss['got']!r}",
        ]
    if len(misses) > _SHOWN_MISSES:
        lines.append(f"... and {len(misses) - _SHOWN_MISSES} more (--json shows all)")
    word = "passed" if record["passed"] else "FAILED"
    lines.append(f"{record['exact']} of {record['asked']} answers exact, {record['elapsed_s']:.1f} s: {word}")
    return "\n".join(lines) + "\n"
