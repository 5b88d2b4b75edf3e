"""The base of a build: the root with the locked packages and nothing of ours in it, kept for the next build.

mkosi keeps it (its "incremental cache") by the names of the packages, not by their versions, and with it the package index
that it read. So each base lies under a key of our own, over all that decides what it holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from bedplate.image.packages import Lock
from bedplate.image.recipe import Recipe
from bedplate.image.render import render_base_settings
from bedplate.image.tools import Tools


def base_key(recipe: Recipe, lock: Lock, tools: Tools, *, kernel_release: str) -> str:
    """SHA-256 over the packages' digests, what of them is asked for, the tools, and the settings they are used with."""
    inputs = {
        "lock": lock.digest,
        "request": lock.request,
        "tools": tools.digest,
        "settings": render_base_settings(recipe, kernel_release=kernel_release),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def prepare_base(work: Path, key: str) -> Path:
    """The directory of this key's base below `work`; those of other keys are removed, so that one is kept."""
    bases = work / "base"
    base = bases / key[:32]
    if bases.is_dir():
        for other in bases.iterdir():
            if other != base:
                shutil.rmtree(other)
    base.mkdir(parents=True, exist_ok=True)
    return base
