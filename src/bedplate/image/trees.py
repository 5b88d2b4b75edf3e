"""The modes of files that we copy into an image: those that git knows, whatever umask the checkout or the build has."""

from __future__ import annotations

from pathlib import Path


def set_modes(tree: Path, *, like: Path) -> None:
    """Give what `tree` has from `like` (paths that are in both) mode 0755 if a directory or executable, else 0644."""
    for source in (like, *like.rglob("*")):
        target = tree / source.relative_to(like)
        if not target.is_symlink():
            target.chmod(0o755 if target.is_dir() or source.stat().st_mode & 0o100 else 0o644)
