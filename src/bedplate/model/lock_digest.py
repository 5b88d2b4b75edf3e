"""The SHA-256 that the lock of a stack carries of its own content, so that an edited one is recognised.

Canonical form: the lock's tables as TOML has them, without the key `sha256` at the top, as one JSON text in UTF-8 with the
keys of each table sorted, no spaces, and no escapes but those that JSON demands. So the order of keys, comments and
layout do not count; each value does. It is no signature: who edits a lock can compute it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def digest_lock(table: Mapping[str, object]) -> str:
    """64 hexadecimal digits; `table` is the whole lock, with its `sha256` or without."""
    content = {key: value for key, value in table.items() if key != "sha256"}
    # default: a lock has no dates or times, but who edits one may write them
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
