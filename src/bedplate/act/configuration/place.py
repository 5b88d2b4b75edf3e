"""Where a machine keeps its configuration: what is in force, what is being changed, what was done. And the lock over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths
from bedplate.errors import PreflightError

STATE = "/var/lib/bedplate/config"
_TIMER_WAIT_S = 120.0  # the timer fires once: it waits for who applies just then


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPlace:
    """The directories of one machine. Paths without a root are as on the machine; `at` puts them below it."""

    top: Path = Path("/")
    """"/", or a directory that stands for it."""

    @property
    def in_force(self) -> Path:
        """File that says what is in force. It appears, changes and goes at a commit, all at once."""
        return self.at(f"{STATE}/in-force.json")

    @property
    def journal(self) -> Path:
        """File of the change that runs or was interrupted; not there between changes."""
        return self.at(f"{STATE}/journal.json")

    @property
    def reserve(self) -> Path:
        """Space on the disk for taking a configuration back, taken before it is applied."""
        return self.at(f"{STATE}/reserve")

    @property
    def history(self) -> Path:
        """File with a line of JSON for everything that was applied, confirmed and taken back."""
        return self.at(f"{STATE}/history")

    def at(self, where: str) -> Path:
        """Where a path of the machine lies below `top`: "/etc/a" -> top/etc/a. Links in it are not resolved."""
        return self.top / where.lstrip("/")


@contextmanager
def hold_config(place: ConfigPlace, verb: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the configuration, so that two administrators cannot change it at once; wait: for the timer, up to two minutes.

    Raises BusyError naming the holder, PreflightError where the directory cannot be written.
    """
    directory = place.at(STATE)
    try:
        with hold_lock(Paths(cache=directory, state=directory), f"config {verb}", wait_s=_TIMER_WAIT_S if wait else 0):
            yield
    except PermissionError as error:
        raise PreflightError(f"{error.filename}: {error.strerror}", hint="Run the command as root.") from error
