"""Where a table is measured: how engines, loaders and neighbours are started there, and how an arm is made real.

`Site` is what the measuring program needs to know. GuestSite (an ordinary Debian 13 with systemd and cgroup v2) and HostSite
(control groups v1, no service manager) are the two.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bedplate.engines.client import Endpoint, fetch
from bedplate.errors import BedplateError
from bedplate.prove.lab.antagonists import CgroupTarget
from bedplate.prove.lab.antagonists.fill import Scale
from bench.neighbours.rows import Row, Victim


class ArmError(BedplateError):
    """An arm could not be made real, or was found not to be: its rows have no number, and the page says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What a stream asks for, by the speed of the place."""

    input_tokens: int
    output_tokens: int


class Site(Protocol):
    name: str
    arms: tuple[str, ...]
    port: int
    scratch: Path
    """Where antagonists have their files."""
    load_file: Path
    """A model that no engine has mapped, on the disk that the antagonists use."""
    mapped_file: Path
    """The model of Victim.MAPPED."""
    io_file_bytes: int
    """Size of the antagonists' file for block I/O."""
    trace_s: float
    """How long a replay takes."""
    overheads_s: tuple[float, float, float]
    """What switching an arm, starting an engine, and starting and ending a neighbour take; for the estimate."""
    trace_tokens: float
    """The factor of its lengths."""

    def lengths(self, victim: Victim) -> Lengths: ...

    def enter(self, arm: str) -> None:
        """Make an arm real, as far as that is possible before its engine runs. Raises ArmError."""

    def changed(self, arm: str) -> str:
        """What it changed, as read back while its engine runs."""

    def leave(self, arm: str) -> None:
        """Take it back."""

    def start_engine(self, arm: str, victim: Victim) -> None:
        """A fresh engine that answers."""

    def stop_engine(self) -> None: ...

    def engine_pids(self) -> tuple[int, ...]: ...

    def scale(self) -> Scale:
        """What levels of antagonists are a share of, read while the mapped model is served in the stock arm."""

    def neighbour(self, arm: str, row: Row) -> CgroupTarget: ...

    def loader(self, arm: str, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The words that run a loader where the arm runs its engine."""

    def foreign(self, begin_s: float, end_s: float) -> float:
        """Share of the CPUs under a guest that others used (Unix time); 0 where the guest is all there is."""

    def close(self) -> None:
        """Take back everything; called more than once without harm."""


def wait_healthy(port: int, *, timeout_s: float) -> None:
    """Until an engine says that it is ready. Raises BedplateError."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if fetch(Endpoint(host="127.0.0.1", port=port), "/health", timeout_s=5).status == 200:
                return
        if time.monotonic() > deadline:
            raise BedplateError(f"the engine on port {port} did not get ready within {timeout_s:.0f} s")
        time.sleep(0.1)
