"""What the build wrote into an image, and whether this is one that booted. Nearly every command of a boot asks for it."""

from __future__ import annotations

import json
from typing import Any

from bedplate.host.root.root import Root

IMAGE_RECORD = "/usr/lib/bedplate/image.json"
"""What the build wrote into the image: its id, version and variant."""


def read_image_record(root: Root) -> dict[str, Any] | None:
    """{"id": "bedplate", "version": "0.1~ab", "variant": "production", "on_var_failure": "serve"}, as the build wrote it.

    None outside an image, and for a file that holds no JSON object. Each caller says what a key that is missing means.
    """
    text = root.read_text(IMAGE_RECORD)
    try:
        record = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def is_bedplate_system(root: Root) -> bool:
    """Whether this is a booted bedplate image: its os-release has the id that the build wrote beside it."""
    record = read_image_record(root)
    if record is None:
        return False
    id = record.get("id", "bedplate")
    text = root.read_text("/usr/lib/os-release") or ""
    words = {line.replace('"', "").strip() for line in text.splitlines()}
    return bool(words & {f"ID={id}", f"IMAGE_ID={id}"})
