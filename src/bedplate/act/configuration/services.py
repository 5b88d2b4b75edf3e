"""What applying a configuration asks of the service manager; tests have one that only remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bedplate.act import systemd
from bedplate.model.config_change import UnitAction, UnitVerb


class ConfigServices(Protocol):
    """A service manager that carries out what follows from changed files."""

    def is_running(self) -> bool:
        """Whether process 1 is a systemd that can be asked."""

    def carry_out(self, action: UnitAction) -> None:
        """Do it, and wait until it is done. Raises CommandError where the manager refuses or a unit fails."""


class HostServices:
    """The service manager of this host. Below another root than "/" nothing is asked: its units are not this host's."""

    def __init__(self, top: Path = Path("/")) -> None:
        self._top = top

    def is_running(self) -> bool:
        """By sd_booted(3), and only for the host itself."""
        return self._top == Path("/") and systemd.is_running(self._top)

    def carry_out(self, action: UnitAction) -> None:
        """By `systemctl`, through act/systemd.py."""
        match action.verb:
            case UnitVerb.READ_UNITS:
                systemd.reload_units()
            case UnitVerb.RELOAD:
                systemd.reload_or_restart((action.unit,))
            case UnitVerb.RESTART:
                systemd.restart((action.unit,))
