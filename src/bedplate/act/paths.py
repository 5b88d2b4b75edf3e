"""The two directories that bedplate writes to, and what lies where in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """cache can be deleted at any time and is made again; state holds keys, images, models and the machine."""

    cache: Path
    state: Path

    @property
    def tools(self) -> Path:
        return self.cache / "tools"

    @property
    def packages(self) -> Path:
        return self.cache / "packages"

    @property
    def work(self) -> Path:
        return self.cache / "work"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def images(self) -> Path:
        return self.state / "images"

    @property
    def engines(self) -> Path:
        return self.state / "engines"

    @property
    def models(self) -> Path:
        return self.state / "models"

    @property
    def machine(self) -> Path:
        return self.state / "machine"

    @property
    def logs(self) -> Path:
        return self.state / "logs"


def find_paths(environment: dict[str, str] | None = None) -> Paths:
    """Directories by BEDPLATE_CACHE_DIR and BEDPLATE_STATE_DIR, else XDG, else ~/.cache and ~/.local/state."""
    env = dict(os.environ) if environment is None else environment
    home = Path(env.get("HOME") or "/root")
    cache = env.get("BEDPLATE_CACHE_DIR") or Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "bedplate"
    state = env.get("BEDPLATE_STATE_DIR") or Path(env.get("XDG_STATE_HOME") or home / ".local/state") / "bedplate"
    return Paths(cache=Path(cache).absolute(), state=Path(state).absolute())
