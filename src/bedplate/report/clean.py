"""What a clean would remove and leave, and what it removed, as text and for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bedplate.model.units import render_size
from bedplate.report.escape import escape_line

_FOREIGN_SHOWN = 8


def render_foreign(foreign: Sequence[Path]) -> str:
    """A line for each of the first files that stay since bedplate did not make them, and one that counts the rest."""
    lines = [f"kept, not made by bedplate: {path}" for path in foreign[:_FOREIGN_SHOWN]]
    if len(foreign) > _FOREIGN_SHOWN:
        lines.append(f"kept, not made by bedplate: {len(foreign) - _FOREIGN_SHOWN} more")
    return "".join(f"{escape_line(line)}\n" for line in lines)


def render_doomed(entries: Sequence[tuple[Path, int]], *, keys_stay: bool) -> str:
    """A line for each path that would go, with its size, their sum, and that the keys stay where they do."""
    lines = [f"{render_size(size_bytes):>10}  {path}" for path, size_bytes in entries]
    lines.append(f"{_sum(entries):>10}  in all")
    if keys_stay:
        lines.append("Your keys are kept (--keys removes them, too).")
    return "".join(f"{escape_line(line)}\n" for line in lines)


def render_removed(entries: Sequence[tuple[Path, int]]) -> str:
    """How much was removed, or that there was nothing; a line."""
    return f"Removed {_sum(entries)}.\n" if entries else "There is nothing to remove.\n"


def removed_objects(entries: Sequence[tuple[Path, int]]) -> list[dict[str, Any]]:
    """What was removed, for JSON: each path with its bytes on disk."""
    return [{"path": str(path), "bytes": size_bytes} for path, size_bytes in entries]


def _sum(entries: Sequence[tuple[Path, int]]) -> str:
    return render_size(sum(size_bytes for _, size_bytes in entries))
