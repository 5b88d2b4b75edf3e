"""The JSON that a program prints after what it says in words."""

from __future__ import annotations

import json
from typing import Any

from bedplate.errors import ReadError


def parse_json_output(text: str, program: str) -> dict[str, Any]:
    """The object in a text; fio writes notes on its jobs and on signals before it. Raises ReadError naming the program."""
    begin = text.find("{")
    try:
        data = json.loads(text[begin:]) if begin >= 0 else None
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{program}: its JSON is broken: {error}") from error
    if not isinstance(data, dict):
        raise ReadError(f"{program}: wrote no JSON", hint="It ended before it began; see its log.")
    return data
