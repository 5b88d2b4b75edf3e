"""An engine that already runs, by its URL: loaded steadily in each block, or with a replayed trace.

Its processes are those that listen at the URL's port and what the caller names beside them; without them its CPU time would
look foreign. It is never restarted: it is somebody's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from bedplate.engines.client import Endpoint
from bedplate.errors import BedplateError, NotRunningError
from bedplate.host.root.root import Root
from bedplate.model.percentile import percentile
from bedplate.prove.gauge.arrivals import Arrival
from bedplate.prove.gauge.client import RequestLog, replay, send, stream_steadily
from bedplate.prove.gauge.punctual import punctual
from bedplate.prove.lab.victims import VictimMeasurement

LEAST_ITL_S = 0.001  # closer tokens are one burst that was read late, or were held back: no inter-token latency
MOST_BURSTS = 0.05
_FIRST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a request must meet to be good."""

    ttft_s: float = 2.0
    tpot_s: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the engine is asked for: steady streams of requests, or, where arrivals are given, their replay."""

    streams: int = 1
    input_tokens: int = 32
    output_tokens: int = 64
    arrivals: tuple[Arrival, ...] = ()
    seed: int = 0


class EngineVictim:
    """An engine of somebody else under a load of ours, in each block: steady streams of requests, or a trace."""

    def __init__(
        self, endpoint: Endpoint, url: str, *, load: Load, slo: Slo | None = None, pids: Sequence[int] = ()
    ) -> None:
        self._endpoint, self._url, self._load = endpoint, url, load
        self._slo = slo or Slo()
        self._given = tuple(pids)
        self._logs: list[RequestLog] = []
        self._lags: list[tuple[float, float]] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    @property
    def name(self) -> str:
        """The model, or "engine" where none was named, and the URL."""
        return f"{self._endpoint.model or 'engine'} at {self._url}"

    @property
    def can_restart(self) -> bool:
        """Always False: changes that need a restart cannot be proved with it."""
        return False

    def start(self) -> None:
        """Send one request. Raises NotRunningError when it fails or takes more than 60 s."""
        probe = RequestLog(due_s=time.monotonic(), wanted_tokens=1)
        asyncio.run(send(self._endpoint, probe, "Hello", timeout_s=_FIRST_S))
        if probe.problem:
            raise NotRunningError(
                f"{self._url}: no answer to one request: {probe.problem}", hint="Start the engine, or give its URL."
            )

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """The steady streams, from the beginning of the block to its end; a replay sends its own requests."""
        self._logs.clear()  # a request that the end of the last block cut off would wait for ever
        self._lags.clear()
        if not self._load.arrivals:
            self._stop, self._failure = threading.Event(), None
            self._thread = threading.Thread(target=self._run_steadily, daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self.close()

    def restart(self) -> None:
        """Always raises BedplateError: it is not ours to restart."""
        raise BedplateError(f"{self._url}: bedplate cannot restart this engine", hint="Test it with --victim dispatch.")

    def pids(self) -> tuple[int, ...]:
        """Processes that were named, and those that listen at its port now; none of the second kind for a Unix socket."""
        listening = find_listeners(Root(), self._endpoint.port) if self._endpoint.port else ()
        return (*self._given, *listening)

    def measure(self, duration_s: float) -> VictimMeasurement:
        """What came in the next seconds; a replay takes as long as its trace, whatever `duration_s` says.

        Raises BedplateError when the load ended by itself, and whatever ended it.
        """
        if self._load.arrivals:
            return self._measure_replay()
        begin = time.monotonic()
        time.sleep(duration_s)
        end = time.monotonic()
        if self._failure is not None:
            raise self._failure
        if self._thread is None or not self._thread.is_alive():
            raise BedplateError(f"{self._url}: the load is not running")
        logs, self._logs[:] = list(self._logs), [log for log in self._logs if not log.ended_s]
        lags, self._lags[:] = list(self._lags), []
        late = [lag for at, lag in lags if begin <= at < end]
        return summarise(logs, begin, end, slo=self._slo, late_s=percentile(late, 99) if late else end - begin)

    def close(self) -> None:
        """End the load and wait for it, 10 s at most; the engine goes on."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(10)

    def _run_steadily(self) -> None:
        load = self._load
        streams = stream_steadily(
            self._endpoint,
            self._logs,
            self._lags,
            streams=load.streams,
            input_tokens=load.input_tokens,
            output_tokens=load.output_tokens,
            stop=self._stop.is_set,
        )
        try:
            with punctual():
                asyncio.run(streams)
        except BaseException as error:  # handed to the thread that measures: it must not look like an engine that stalls
            self._failure = error

    def _measure_replay(self) -> VictimMeasurement:
        logs: list[RequestLog] = []
        begin = time.monotonic()
        late_s = asyncio.run(replay(self._endpoint, self._load.arrivals, logs, seed=self._load.seed))
        return summarise(logs, begin, time.monotonic(), slo=self._slo, late_s=late_s)


def summarise(logs: Sequence[RequestLog], begin_s: float, end_s: float, *, slo: Slo, late_s: float) -> VictimMeasurement:
    """What came from begin_s to end_s. Work is tokens by the time they came, TTFT in it; of steady streams see _steady_rate.

    Gaps are left out (), and only end-to-end work is reported, where more than 5 % of them are below 1 ms: then tokens came
    in bursts, and the times between them say nothing of the engine. Requests count where they ended.
    """
    times = sorted(at for log in logs for at in log.token_s if begin_s <= at < end_s)
    gaps = [
        later - earlier
        for log in logs
        for earlier, later in zip(log.token_s, log.token_s[1:], strict=False)
        if begin_s <= later < end_s
    ]
    bursts = sum(gap < LEAST_ITL_S for gap in gaps)
    ended = [log for log in logs if log.ended_s and begin_s <= log.ended_s < end_s]
    done = [log for log in ended if not log.problem]
    first = [log.ttft_s for log in logs if log.token_s and begin_s <= log.token_s[0] < end_s]
    waiting = [end_s - log.due_s for log in logs if not log.token_s and not log.ended_s and log.due_s < end_s]
    longest = max((ttft_s for ttft_s in first if ttft_s is not None), default=0.0)
    whole = int(end_s - begin_s)
    counts = [0.0] * whole
    for at in times:
        if int(at - begin_s) < whole:
            counts[int(at - begin_s)] += 1
    # An engine that says more tokens than pieces came (several a piece) is believed in proportion.
    pieces = sum(len(log.token_s) for log in done)
    factor = sum(log.tokens for log in done) / pieces if pieces else 1.0
    steady = [log for log in logs if log.stream is not None]
    pieces_came = _steady_rate(steady, begin_s, end_s) * (end_s - begin_s) if steady else len(times)
    return VictimMeasurement(
        duration_s=end_s - begin_s,
        work=pieces_came * factor,
        seconds=tuple(count * factor for count in counts),
        gaps_s=() if not gaps or bursts > MOST_BURSTS * len(gaps) else tuple(gaps),
        ttft_s=tuple(ttft_s for ttft_s in first if ttft_s is not None)
        + tuple(wait_s for wait_s in waiting if wait_s > longest),
        e2e_s=tuple(log.ended_s - log.due_s for log in done),
        requests=len(ended),
        failed=len(ended) - len(done),
        good=sum((log.ttft_s or 0.0) <= slo.ttft_s and (log.tpot_s is None or log.tpot_s <= slo.tpot_s) for log in done),
        late_s=late_s,
    )


def _steady_rate(logs: Sequence[RequestLog], begin_s: float, end_s: float) -> float:
    """Pieces a second of streams whose requests follow one another, each stream over whole requests.

    While an engine reads a prompt no token comes: how many prompts happen to fall into a window moves the count of a short
    one by several percent. So a stream is counted from the end of a request to the end of a later one. Where it has none in
    the window, or has waited at an edge of it for longer than its longest request took, it is counted up to that edge: a
    stall is never left out.
    """
    rate = 0.0
    for stream in {log.stream for log in logs}:
        own = [log for log in logs if log.stream == stream]
        first_s, last_s = begin_s, end_s
        ends = sorted(log.ended_s for log in own if log.ended_s and begin_s <= log.ended_s < end_s)
        if len(ends) > 1:
            longest_s = max(later - earlier for earlier, later in pairwise(ends))
            first_s = ends[0] if ends[0] - begin_s <= longest_s else begin_s
            last_s = ends[-1] if end_s - ends[-1] <= longest_s else end_s
        rate += sum(first_s < at <= last_s for log in own for at in log.token_s) / (last_s - first_s)
    return rate


def find_listeners(root: Root, port: int) -> tuple[int, ...]:
    """Processes that listen on a TCP port, by /proc/net/tcp and their descriptors; () when none may be seen."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (root.read(table).value or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ()
    found = []
    for pid in root.listdir("/proc"):
        if pid.isdigit() and any(
            root.readlink(f"/proc/{pid}/fd/{name}") in inodes for name in root.listdir(f"/proc/{pid}/fd")
        ):
            found.append(int(pid))
    return tuple(found)
