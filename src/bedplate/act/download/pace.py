"""How fast it goes, how long it takes still, and how many connections the link is worth. Pure: the caller has the clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from bedplate.model.units import render_seconds, render_size

_WINDOW_S = 5.0  # over which the rate is taken
_STEP_S = 2.0  # between two decisions on connections; slow start of TCP is over within one
_WORTH = 1.1  # a connection more must have brought this much; less is noise of the link
_STARVED = 0.5  # share of the time in which nothing had arrived: the link is the limit, and not the disk


@dataclass(slots=True)
class Pace:
    """The rate of a download over its last seconds."""

    total_bytes: int
    points: deque[tuple[float, int]] = field(default_factory=deque)

    def record(self, now_s: float, done_bytes: int) -> None:
        """Say how far it is at an instant."""
        self.points.append((now_s, done_bytes))
        while len(self.points) > 2 and self.points[1][0] <= now_s - _WINDOW_S:
            self.points.popleft()

    @property
    def rate(self) -> float:
        """Bytes a second; 0.0 before there are two instants."""
        if len(self.points) < 2:
            return 0.0
        (begin_s, begin), (end_s, end) = self.points[0], self.points[-1]
        return (end - begin) / (end_s - begin_s) if end_s > begin_s else 0.0

    def describe(self) -> str:
        """ "1.2 GiB of 4.0 GiB, 95.0 MiB/s, 31 s left"; without the time where nothing arrives."""
        done = self.points[-1][1] if self.points else 0
        text = f"{render_size(done)} of {render_size(self.total_bytes)}, {render_size(int(self.rate))}/s"
        if self.rate > 0:
            text += f", {render_seconds((self.total_bytes - done) / self.rate)} left"
        return text


@dataclass(slots=True, kw_only=True)
class ConnectionPlan:
    """How many connections: one more each time that the last one paid, while the link is what everything waits for."""

    most: int
    count: int = 1
    step_s: float = _STEP_S
    _begun: tuple[float, int, float] | None = None
    _last_rate: float = 0.0
    _settled: bool = False

    def update(self, now_s: float, done_bytes: int, starved_s: float) -> int:
        """The number wanted now. starved_s: how long, in all, the writer has waited for bytes."""
        if self._settled or self.count >= self.most:
            return self.count
        if self._begun is None:
            self._begun = (now_s, done_bytes, starved_s)
            return self.count
        begun_s, begun, begun_starved_s = self._begun
        passed_s = now_s - begun_s
        if passed_s < self.step_s:
            return self.count
        rate, starved = (done_bytes - begun) / passed_s, (starved_s - begun_starved_s) / passed_s
        self._begun = (now_s, done_bytes, starved_s)
        if starved < _STARVED:
            return self.count  # the disk or the digest is the limit: asked again after the next step
        if self.count > 1 and rate < self._last_rate * _WORTH:
            self._settled = True
            return self.count
        self._last_rate = rate
        self.count += 1
        return self.count
