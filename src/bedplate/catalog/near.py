"""Names that resemble a wrong one, for the hint of an error."""

from __future__ import annotations

import difflib


def near_hint(name: str, names: dict[str, str]) -> str:
    """A hint with the ids whose names resemble one, or with all ids; names: each lower-case name and the id behind it."""
    near = difflib.get_close_matches(name.lower(), names, 3, 0.6)
    ids = list(dict.fromkeys(names[known] for known in near))
    every = list(dict.fromkeys(names.values()))
    return f"Did you mean {' or '.join(ids)}?" if ids else f"The catalog has: {', '.join(every)}."
