"""JSON that may come from anybody: json.loads makes up to thirty bytes of one, so the number of values is bounded before."""

from __future__ import annotations

import json
from typing import Any

from bedplate.errors import ReadError

VALUES_MOST = 400_000  # lsblk and rocm-smi print some thousands; the manifest of a server with 200 CPUs has some 60 000


def parse_json(text: str | bytes, what: str) -> Any:
    """The value of a JSON text; `what` begins the message. Raises ReadError for what is no JSON, too deep or too large."""
    if count_values(text) > VALUES_MOST:
        raise ReadError(f"{what} is JSON of more than {VALUES_MOST} values")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{what} is not JSON") from error


def count_values(text: str | bytes) -> int:
    """At least as many as the text has: each stands behind a comma, a colon or a bracket. Those inside strings count too."""
    if isinstance(text, str):
        return sum(map(text.count, ",:[{"))
    return sum(map(text.count, (b",", b":", b"[", b"{")))
