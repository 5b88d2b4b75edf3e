"""What `bedplate serve prepare` last recorded about the front end, for `status`, `ca show` and the audit."""

from __future__ import annotations

import json
from typing import Any

from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.model.serving_host import FRONT_RECORD


def read_front_record(root: Root) -> dict[str, Any]:
    """{"port": 8080, "tls": true, "require_key": true, "openings": [], "certificate": {...}, ...}, as flows/front.py writes
    it; {} where nothing was recorded.

    Raises ReadError for a file that may not be read or holds no JSON object.
    """
    text = root.read_text(FRONT_RECORD)
    try:
        return dict(json.loads(text)) if text is not None else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise ReadError(f"{FRONT_RECORD}: cannot be read: {error}") from error
