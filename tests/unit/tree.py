"""Small trees of /sys and /proc, made for one test: path -> text, bytes, or -> the target of a link."""

from __future__ import annotations

from pathlib import Path

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Unknown


class Link(str):
    """The target of a symbolic link."""


def make_root(top: Path, entries: dict[str, str | bytes | Link], *, absent: Unknown = Unknown.ABSENT) -> Root:
    """A recorded machine with these files; texts get the newline that the kernel writes."""
    for where, content in entries.items():
        path = top / where.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content + "\n")
    return Root(top, absent=absent)
