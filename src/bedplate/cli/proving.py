"""From the words of `bedplate prove` to a victim, neighbours, their places, and a seed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from bedplate.cli.terminal import PhaseClock
    from bedplate.model.proof import Antagonist
    from bedplate.prove.antagonists import Place, Scratch
    from bedplate.prove.antagonists.fill import Scale
    from bedplate.prove.arrivals import Arrival
    from bedplate.prove.conditions import Conditions
    from bedplate.prove.experiment import Neighbour
    from bedplate.prove.victims import Victim

QUIET = "none"
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def make_victim(arguments: argparse.Namespace) -> tuple[Victim, Conditions]:
    """The victim, not yet started, and what a proof with it will be valid for."""
    from bedplate.host.root import Root
    from bedplate.prove.client import parse_endpoint
    from bedplate.prove.conditions import ask_engine, read_conditions

    if arguments.victim == "dispatch":
        from bedplate.prove.victims.emulator import DispatchLoop, default_workers

        loop = DispatchLoop(
            period_s=arguments.period_ms / 1000,
            work_s=arguments.work_ms / 1000,
            workers=default_workers(),
            place=_place(arguments.victim_place, "inference.slice"),
            limit_s=max(3600.0, parse_time(arguments.budget) * 3),
        )
        version = ".".join(map(str, sys.version_info[:2]))
        return loop, read_conditions(Root(), f"dispatch-loop, Python {version}")
    from bedplate.prove.victims.engine import Engine, Load, Slo

    endpoint = parse_endpoint(arguments.victim, model=arguments.model)
    tokens_in, tokens_out = _two(arguments.tokens, "--tokens", "32:64")
    ttft_s, tpot_s = _two(arguments.slo, "--slo", "2:0.2")
    if not 1 <= arguments.streams <= 1024 or tokens_in < 1 or tokens_out < 1:
        raise UsageError(f"--streams {arguments.streams} --tokens {arguments.tokens}: expected at least 1 of each")
    load = Load(
        streams=arguments.streams,
        input_tokens=int(tokens_in),
        output_tokens=int(tokens_out),
        arrivals=_arrivals(arguments) if arguments.trace else (),
        seed=arguments.seed or 0,
    )
    engine = Engine(
        endpoint, arguments.victim, load=load, slo=Slo(ttft_s=ttft_s, tpot_s=tpot_s), pids=tuple(arguments.engine_pid)
    )
    return engine, read_conditions(Root(), ask_engine(endpoint))


def _arrivals(arguments: argparse.Namespace) -> tuple[Arrival, ...]:
    from bedplate.prove.arrivals import parse_window, read_trace, render_totals, scale

    seed = arguments.seed or 0
    window = parse_window(arguments.window) if arguments.window else None
    factors = {"tokens": arguments.scale_tokens, "time": arguments.scale_time}
    arrivals = scale(read_trace(arguments.trace, seed=seed, window_s=window), **factors, seed=seed)
    print(f"{arguments.trace}: {render_totals(arrivals, **factors)}", file=sys.stderr)
    return arrivals


def find_antagonists(
    arguments: argparse.Namespace, default: tuple[str, ...]
) -> tuple[list[Antagonist], tuple[Antagonist, ...]]:
    from bedplate.catalog.antagonists import choose_antagonists, read_antagonists
    from bedplate.prove.antagonists import require

    if arguments.level is not None and not 1 <= arguments.level <= 1000:
        raise UsageError(f"--level {arguments.level}: expected 1 to 1000 percent")
    names, rows = tuple(arguments.antagonist or default), read_antagonists()
    if QUIET in names:
        if len(names) > 1:
            raise UsageError(f"--antagonist {' '.join(names)}: {QUIET} stands alone")
        return [], rows
    chosen = list(choose_antagonists(names, rows))
    require([one for row in chosen for one in (row, *(part for part in rows if part.id in row.parts))])
    return chosen, rows


def make_scratch(
    arguments: argparse.Namespace,
    chosen: Sequence[Antagonist],
    rows: Sequence[Antagonist],
    level: int,
    scale: Scale,
    stack: ExitStack,
    progress: PhaseClock,
) -> Scratch | None:
    """The ground of the antagonists, removed when the stack ends; None on a quiet machine."""
    from bedplate.prove.antagonists import prepared

    if not chosen:
        return None
    parts = [(one, level) for row in chosen for one in (row, *(part for part in rows if part.id in row.parts))]
    return stack.enter_context(prepared(arguments.scratch, parts, scale, talk=progress.note))


def make_neighbour(
    arguments: argparse.Namespace,
    antagonist: Antagonist | None,
    level: int,
    scale: Scale,
    scratch: Scratch | None,
    rows: tuple[Antagonist, ...],
) -> Neighbour | None:
    """An antagonist in its place; None on a quiet machine."""
    from bedplate.prove.experiment import Neighbour

    if antagonist is None or scratch is None:
        return None
    place = _place(arguments.neighbour_place, "neighbour.slice")
    return Neighbour(antagonist=antagonist, level_pct=level, scale=scale, scratch=scratch, place=place, rows=rows)


def _place(words: list[str] | None, slice_name: str) -> Place:
    """Directories or a slice as given; else the slice where the service manager runs and we may start units in it."""
    from bedplate.prove.antagonists import PLAIN, Place
    from bedplate.prove.antagonists.place import check_place

    if words and all(word.startswith("/") for word in words):
        place = Place(cgroups=tuple(Path(word) for word in words))
    elif words and len(words) == 1:
        place = Place(slice=words[0])
    elif words:
        raise UsageError(f"place {' '.join(words)}: expected one slice, or directories of control groups")
    else:
        managed = Path("/run/systemd/system").is_dir() and os.geteuid() == 0
        place = Place(slice=slice_name) if managed else PLAIN
    check_place(place)
    return place


def warn_when_busy(arguments: argparse.Namespace, progress: PhaseClock) -> None:
    """Say at once when blocks will be spoilt, and not after twenty minutes."""
    from bedplate.prove.sensitivity import busy_share

    share = busy_share()
    if share > arguments.most_foreign / 100:
        progress.note(
            f"others use {share:.0%} of the CPUs now; a block in which they use more than"
            f" {arguments.most_foreign:g} % does not count"
        )


def find_seed(arguments: argparse.Namespace) -> tuple[int, str]:
    """The seed, and the command that makes the experiment again with it."""
    import shlex
    import time

    words = ["bedplate", "prove", *sys.argv[2:]] if len(sys.argv) > 1 and sys.argv[1] == "prove" else ["bedplate", "prove"]
    if arguments.seed is None:
        arguments.seed = int(time.time()) % 1_000_000
        words += ["--seed", str(arguments.seed)]
    return int(arguments.seed), shlex.join(words)


def parse_time(text: str) -> float:
    """Seconds of "20m", "90s", "1h" or "30". Raises UsageError."""
    found = _TIME.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--budget {text!r}: expected a time such as 20m, 90s or 1h")
    return float(found[1]) * _UNITS[found[2] or ""]


def _two(text: str, option: str, example: str) -> tuple[float, float]:
    first, colon, second = text.partition(":")
    try:
        if not colon:
            raise ValueError(text)
        return float(first), float(second)
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected two numbers such as {example}") from None


def utc_now() -> str:
    """ISO 8601, to the second."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
