"""The service manager, as far as tuning asks it: reload, and properties of units.

`systemctl daemon-reload` applies changed resource-control properties to units that run: each unit that is read back has its
cgroup invalidated and realised again ("any potential new cgroup settings applied", src/core/unit-serialize.c). It does so
after its answer, from a queue; who reads back waits a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bedplate.errors import CommandError

_RELOAD_S = 90.0
_SHOW_S = 20.0


class Services(Protocol):
    def is_running(self) -> bool:
        """Whether process 1 is a systemd that can be asked."""

    def reload(self) -> None:
        """Read all unit files again. Raises CommandError."""

    def show(self, units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
        """Properties by unit, in systemd's own words; a unit that is not loaded has ActiveState "inactive"."""


class Systemctl:
    """The real one, by its command."""

    def __init__(self, top: Path = Path("/")) -> None:
        self._top = top

    def is_running(self) -> bool:
        return (self._top / "run/systemd/system").is_dir()  # sd_booted(3)

    def reload(self) -> None:
        from bedplate.act.run import run

        run(["systemctl", "daemon-reload"], timeout_s=_RELOAD_S)

    def show(self, units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
        from bedplate.act.run import run

        if not units:
            return {}
        argv = ["systemctl", "show", "--no-pager", f"--property={','.join(properties)}", "--", *units]
        blocks = run(argv, timeout_s=_SHOW_S, split=True).output.strip("\n").split("\n\n")
        if len(blocks) != len(units):
            raise CommandError(f"systemctl show: asked for {len(units)} units, got {len(blocks)}", status=0)
        return {
            unit: dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for unit, block in zip(units, blocks, strict=True)
        }
