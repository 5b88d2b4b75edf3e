"""Whether this is a booted bedplate image. Alone in its file: nearly every command of a boot asks for it."""

from __future__ import annotations

import json

from bedplate.host.root.root import Root

IMAGE_RECORD = "/usr/lib/bedplate/image.json"
"""What the build wrote into the image: its id, version and variant."""


def is_bedplate_system(root: Root) -> bool:
    """Whether this is a booted bedplate image: its os-release has the id that the build wrote beside it."""
    try:
        image = json.loads(root.read_text(IMAGE_RECORD) or "{}").get("id", "bedplate")
    except (ValueError, AttributeError):
        return False
    text = root.read_text("/usr/lib/os-release") or ""
    words = {line.replace('"', "").strip() for line in text.splitlines()}
    return bool(words & {f"ID={image}", f"IMAGE_ID={image}"}) and root.exists(IMAGE_RECORD)
