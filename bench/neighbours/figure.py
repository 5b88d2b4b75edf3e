"""One measured sample of the table, and a whole run as JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.neighbours.rows import ROWS

SCHEMA = 1
_TOLD_OF_BOTH = ("seed", "date", "commit", "command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A sample of one row in one arm; what could have spoilt it is in it."""

    place: str
    """"guest" or "host"."""
    arm: str
    row: str
    round: int
    rate: float
    """Tokens/s end to end, bytes/s of a load, or the share of requests that met every SLO."""
    duration_s: float
    itl_p50_s: float | None = None
    """None for loads, and where tokens came in bursts: the times between them then say nothing of the engine."""
    itl_p99_s: float | None = None
    ttft_p50_s: float | None = None
    requests: int = 0
    failed: int = 0
    late_s: float = 0.0
    neighbour_rate: float = 0.0
    """Of its own work, a second, in its own unit."""
    neighbour_cpu_s: float = 0.0
    idle_cpu_s: float = 0.0
    foreign_share: float = 0.0
    victim_delay: float = 0.0
    """Share of the time that the engine's threads wanted a CPU and had none."""
    resident_before: float | None = None
    """Share of the mapped model, or of the file to load, that was in the page cache; None where it does not matter."""
    resident_after: float | None = None
    engine_died: bool = False
    neighbour_killed: bool = False
    """For the lack of memory: what it did until then counts, and so does the rest of the sample without it."""
    neighbour_grown_bytes: float = 0.0
    """What a memory grower had taken until it was killed or the sample ended; 0 for others."""
    began_unix_s: float = 0.0
    host_foreign_share: float = 0.0
    """Of a guest: the share of the CPUs under it that others than its QEMU used, as the host counted it meanwhile."""
    rejected: str = ""
    """Why it does not count; "" when it does."""


@dataclass(slots=True, kw_only=True)
class Run:
    """Everything that one place measured; written after each round, so that a run that was cut keeps what it has."""

    place: str
    machine: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    alone: dict[str, float] = field(default_factory=dict)
    """Of a row: its neighbour's rate while the engine was idle, in the stock arm."""
    arms: dict[str, str] = field(default_factory=dict)
    """Of an arm: what it changed, as it was read back."""
    notices: list[str] = field(default_factory=list)


def render_run(run: Run) -> str:
    return json.dumps({"schema": SCHEMA, **asdict(run)}, indent=1) + "\n"


def parse_run(record: dict[str, Any]) -> Run:
    """The inverse of render_run, of the parsed JSON. Raises ValueError for another schema."""
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema {record.get('schema')}, expected {SCHEMA}")
    rest = {key: value for key, value in record.items() if key not in ("schema", "figures")}
    return Run(figures=[Figure(**row) for row in record["figures"]], **rest)


def join_runs(first: Run, more: Run) -> Run:
    """Both in one: the rounds of the second count on from those of the first, so that its shares are of its own quiet rates.

    Raises ValueError for runs of two places or kernels.
    """
    before = max((figure.round for figure in first.figures), default=0)
    return _both(first, replace(more, figures=[replace(figure, round=figure.round + before) for figure in more.figures]))


def replace_rows(first: Run, more: Run) -> Run:
    """Both in one: rows of the second take the place of the first's, in the arms that it measured; shares of the other arms
    are then of its quiet rates.

    Raises ValueError for runs of two places or kernels, and for a row that would be left with a quiet one of the other run.
    """
    rows = {figure.row for figure in more.figures}
    parted = {row.id for row in ROWS if row.id not in rows and row.quiet in rows} & {figure.row for figure in first.figures}
    if parted:
        raise ValueError(f"{', '.join(sorted(parted))}: its quiet row would be of another run; measure both again")
    there = {(figure.row, figure.arm) for figure in more.figures}
    arms = sorted({figure.arm for figure in more.figures})
    told = f"From a later run: the rows {', '.join(row.id for row in ROWS if row.id in rows)} of the arms {', '.join(arms)}."
    return _both(
        replace(
            first,
            figures=[figure for figure in first.figures if (figure.row, figure.arm) not in there],
            notices=[*first.notices, told],
        ),
        more,
    )


def _both(first: Run, more: Run) -> Run:
    for name, known, added in (
        ("place", first.place, more.place),
        ("kernel", first.machine.get("kernel"), more.machine.get("kernel")),
    ):
        if known != added:
            raise ValueError(f"a run of {name} {added} cannot be added to one of {known}")
    both = {name: f"{first.machine[name]}; {more.machine.get(name, '?')}" for name in _TOLD_OF_BOTH if name in first.machine}
    return Run(
        place=first.place,
        machine=more.machine | first.machine | both,
        figures=[*first.figures, *more.figures],
        alone=more.alone | first.alone,
        arms=more.arms | first.arms,
        notices=[*first.notices, *(f"In the run that was added: {notice}" for notice in more.notices)],
    )
