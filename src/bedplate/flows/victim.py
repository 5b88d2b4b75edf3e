"""What suffers in an experiment: an emulated dispatch loop of our own, or an engine that serves at an address."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bedplate.act import systemd
from bedplate.engines.client import parse_endpoint
from bedplate.errors import UsageError
from bedplate.host.root.root import Root
from bedplate.model.progress import Progress
from bedplate.model.proof import Conditions
from bedplate.prove.gauge.arrivals import Arrival, parse_window, read_trace, render_totals, scale
from bedplate.prove.gauge.conditions import ask_engine, read_conditions
from bedplate.prove.lab.antagonists import PLAIN, CgroupTarget
from bedplate.prove.lab.antagonists.place import check_place
from bedplate.prove.lab.victims import Victim
from bedplate.prove.lab.victims.emulator import DispatchLoop, default_workers
from bedplate.prove.lab.victims.engine import EngineVictim, Load, Slo

_LEAST_LIMIT_S = 3600.0  # of a dispatch loop that nobody ends


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRequest:
    """The loop of a GPU host, emulated."""

    period_s: float = 0.01
    """Of a step."""
    work_s: float = 0.001
    """Host work in a step."""
    place: tuple[str, ...] = ()
    """A slice, or directories of control groups; (): inference.slice where systemd runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """A recorded load, which is replayed in each block."""

    file: Path
    window: str | None = None
    """"A:B", in seconds of the trace; None: all of it."""
    scale_tokens: float = 1.0
    scale_time: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """An engine that runs already, and the load that it gets: steady streams, or a trace."""

    url: str
    model: str = ""
    """The `model` field of requests."""
    pids: tuple[int, ...] = ()
    """Processes of the engine."""
    streams: int = 1
    input_tokens: int = 32
    output_tokens: int = 64
    ttft_s: float = 2.0
    tpot_s: float = 0.2
    """What goodput demands of a request."""
    trace: TraceRequest | None = None
    """Instead of steady load."""


def make_victim(
    request: DispatchRequest | EngineRequest, progress: Progress, *, seed: int, budget_s: float
) -> tuple[Victim, Conditions]:
    """The victim, not yet started, and what a proof with it will be valid for.

    Raises UsageError for a request that cannot be, ReadError for a trace that cannot be read.
    """
    if isinstance(request, DispatchRequest):
        loop = DispatchLoop(
            period_s=request.period_s,
            work_s=request.work_s,
            workers=default_workers(),
            place=find_place(request.place, "inference.slice"),
            limit_s=max(_LEAST_LIMIT_S, budget_s * 3),
        )
        version = ".".join(map(str, sys.version_info[:2]))
        return loop, read_conditions(Root(), f"dispatch-loop, Python {version}")
    endpoint = parse_endpoint(request.url, model=request.model)
    if not 1 <= request.streams <= 1024 or request.input_tokens < 1 or request.output_tokens < 1:
        tokens = f"{request.input_tokens}:{request.output_tokens}"
        raise UsageError(f"--streams {request.streams} --tokens {tokens}: expected at least 1 of each")
    load = Load(
        streams=request.streams,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        arrivals=_read_arrivals(request.trace, progress, seed=seed) if request.trace is not None else (),
        seed=seed,
    )
    slo = Slo(ttft_s=request.ttft_s, tpot_s=request.tpot_s)
    engine = EngineVictim(endpoint, request.url, load=load, slo=slo, pids=request.pids)
    return engine, read_conditions(Root(), ask_engine(endpoint))


def find_place(words: tuple[str, ...], slice_name: str) -> CgroupTarget:
    """Directories or a slice as given; else the slice where the service manager runs and we may start units in it.

    Raises UsageError for words that are neither, PreflightError for a place that is not there.
    """
    if words and all(word.startswith("/") for word in words):
        place = CgroupTarget(cgroups=tuple(Path(word) for word in words))
    elif len(words) == 1:
        place = CgroupTarget(slice=words[0])
    elif words:
        raise UsageError(f"place {' '.join(words)}: expected one slice, or directories of control groups")
    else:
        managed = systemd.is_running() and os.geteuid() == 0
        place = CgroupTarget(slice=slice_name) if managed else PLAIN
    check_place(place)
    return place


def _read_arrivals(request: TraceRequest, progress: Progress, *, seed: int) -> tuple[Arrival, ...]:
    window_s = parse_window(request.window) if request.window else None
    trace = read_trace(request.file, seed=seed, window_s=window_s)
    arrivals = scale(trace, tokens=request.scale_tokens, time=request.scale_time, seed=seed)
    totals = render_totals(arrivals, tokens=request.scale_tokens, time=request.scale_time)
    progress.note(f"{request.file}: {totals}")
    return arrivals
