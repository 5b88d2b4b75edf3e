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

from bedplate.act import systemd

# Longer than other calls: a reload reads all units of the host, with a hundredth of its CPUs (act/systemd.py).
_RELOAD_S = 180.0
_START_S = 120.0


class Services(Protocol):
    """What tuning asks of a service manager.

    Systemctl asks the real one; tests have one that keeps its answers in a table.
    """

    def is_running(self) -> bool:
        """Whether process 1 is a systemd that can be asked; in most containers it is not."""

    def reload(self, units: Sequence[str] = ()) -> None:
        """Read all unit files again, and write what is new of these units into control groups. Raises CommandError."""

    def show(self, units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
        """Properties by unit, in systemd's own words; a unit that is not loaded has ActiveState "inactive"."""


class Systemctl:
    """The service manager of this host.

    top: where it is looked up whether it runs; what is asked is always this host's.
    """

    def __init__(self, top: Path = Path("/")) -> None:
        self._top = top

    def is_running(self) -> bool:
        """By sd_booted(3): /run/systemd/system is a directory."""
        return systemd.is_running(self._top)

    def reload(self, units: Sequence[str] = ()) -> None:
        """By daemon-reload, and a unit that does nothing in each slice around `units`, as the head of this file says.

        Whether it took is not seen here: read back. Raises CommandError when systemd refuses to reload, or does not answer
        in time.
        """
        systemd.reload_units(timeout_s=_RELOAD_S)
        for name in self._slices_around(units):  # whether it worked, the read-back says
            systemd.start_in_slice(name, ("/bin/true",), timeout_s=_START_S)

    def _slices_around(self, units: Sequence[str]) -> tuple[str, ...]:
        """The slices that running units are in; system.slice stands for all that is directly below the root."""
        if not units:
            return ()
        shown = self.show(units, ("ActiveState", "Slice"))
        around = {properties.get("Slice", "") for properties in shown.values() if properties.get("ActiveState") == "active"}
        return ("system.slice", *sorted(around - {"", "-.slice", "system.slice"}))

    def show(self, units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
        """By one `systemctl show` for all units.

        Raises CommandError when it answers for more or fewer units than were asked for.
        """
        return systemd.show(units, properties)
