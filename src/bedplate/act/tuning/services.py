"""The service manager, as far as tuning asks it: reload, and properties of units.

`systemctl daemon-reload` reads changed resource-control properties and does not write all of them into the control groups of
running units: systemd 257 left llama-server.service at cpu.weight 100 for as long as one looked, and after the drop-ins were
gone the controllers stayed on. It brings a slice and all units in it up to date when a unit of that slice starts
(unit_add_family_to_cgroup_realize_queue, src/core/cgroup.c). So one that does nothing is started in each slice that is
meant. systemd writes from a queue, after its answer; who reads back waits a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bedplate.errors import CommandError

# Beside an engine that keeps all CPUs busy and outweighs everything, the service manager has a hundredth of them.
_RELOAD_S = 180.0
_START_S = 120.0
_SHOW_S = 60.0


class Services(Protocol):
    def is_running(self) -> bool:
        """Whether process 1 is a systemd that can be asked."""

    def reload(self, units: Sequence[str] = ()) -> None:
        """Read all unit files again, and write what is new of these units into control groups. Raises CommandError."""

    def show(self, units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
        """Properties by unit, in systemd's own words; a unit that is not loaded has ActiveState "inactive"."""


class Systemctl:
    """The real one, by its command."""

    def __init__(self, top: Path = Path("/")) -> None:
        self._top = top

    def is_running(self) -> bool:
        return (self._top / "run/systemd/system").is_dir()  # sd_booted(3)

    def reload(self, units: Sequence[str] = ()) -> None:
        from bedplate.act.run import run

        run(["systemctl", "daemon-reload"], timeout_s=_RELOAD_S)
        for name in self._slices_around(units):
            # With default dependencies it would wait for basic.target during a boot, and --wait needs a D-Bus daemon, which
            # our image does not run. Whether it worked, the read-back says.
            argv = ["systemd-run", "--quiet", "--collect", f"--slice={name}", "--property=DefaultDependencies=no"]
            run([*argv, "/bin/true"], timeout_s=_START_S, ok=range(256))

    def _slices_around(self, units: Sequence[str]) -> tuple[str, ...]:
        """The slices that running units are in; system.slice stands for all that is directly below the root."""
        if not units:
            return ()
        shown = self.show(units, ("ActiveState", "Slice"))
        around = {one.get("Slice", "") for one in shown.values() if one.get("ActiveState") == "active"}
        return ("system.slice", *sorted(around - {"", "-.slice", "system.slice"}))

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
