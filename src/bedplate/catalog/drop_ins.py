"""Files of rows that a machine's owner adds in /etc/bedplate/catalog.d: of the stack in it, of other kinds below it."""

from __future__ import annotations

from pathlib import Path

DROP_INS = Path("/etc/bedplate/catalog.d")


def list_drop_ins(kind: str, directory: Path | None = DROP_INS) -> tuple[Path, ...]:
    """The files directory/KIND/*.toml by name; () where there is no such directory, and for None.

    kind: "models", "accelerators", or "." for the rows of the stack, which lie in the directory itself.
    """
    return tuple(sorted((directory / kind).glob("*.toml"))) if directory is not None else ()
