"""Keys of the front end's clients, a line each, and as objects for JSON."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from bedplate.model.client_key import ClientKey


def render_key(key: ClientKey, origin: str, now_s: int) -> str:
    """Id, kind, origin ("image" or "machine"), days of its beginning and end, models and note; no line end.

    now_s, in seconds since 1970, tells a key that has expired from one that will.
    """
    ends = f"{'expired' if key.expires_s <= now_s else 'expires'} {_day(key.expires_s)}" if key.expires_s else "no end"
    kind = "key" if key.sha256 else "certificate"
    words = [f"{key.id:<16}", f"{kind:<11}", f"{origin:<7}", f"made {_day(key.created_s)}", f"{ends:<18}"]
    return "  ".join([*words, ", ".join(key.models) or "all models", *([key.note] if key.note else [])])


def key_object(key: ClientKey) -> dict[str, Any]:
    """The key as it is stored, for JSON: its SHA-256, never its secret."""
    return asdict(key) | {"models": list(key.models)}


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
