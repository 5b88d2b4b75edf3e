"""Victims: what suffers beside a neighbour, and what is measured of it while one block of an experiment runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class VictimMeasurement:
    """What a victim did in one block; the victim's part of a Sample."""

    duration_s: float
    work: float
    seconds: tuple[float, ...]
    gaps_s: tuple[float, ...]
    ttft_s: tuple[float, ...] = ()
    e2e_s: tuple[float, ...] = ()
    requests: int = 0
    failed: int = 0
    good: int = 0
    late_s: float = 0.0


class Victim(Protocol):
    """Started once, measured in many blocks; the same process in both arms unless it must start anew for each."""

    @property
    def name(self) -> str:
        """As proofs name it, with the settings that its speed depends on."""

    @property
    def can_restart(self) -> bool:
        """Whether `restart` can start it anew, for changes that take effect only then."""

    def start(self) -> None:
        """Make it run; raises BedplateError when it does not."""

    def loaded(self) -> AbstractContextManager[None]:
        """It has work to do while the block runs; a victim that makes its own work always has."""

    def restart(self) -> None:
        """A fresh process. Raises BedplateError for a victim that is not ours."""

    def pids(self) -> tuple[int, ...]:
        """Processes (with all below them) whose CPU time is the victim's."""

    def measure(self, duration_s: float) -> VictimMeasurement:
        """Let it work for the time and return what it did; raises BedplateError when it ended by itself."""

    def close(self) -> None:
        """End what was started; called more than once without harm."""
