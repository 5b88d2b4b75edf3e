"""Real request arrivals: published traces as one form, a window of them, scaled by two factors, printed with results.

Azure (t_s,input_tokens,output_tokens), Mooncake (JSON lines; time stamps in ticks of 3 s, spread inside a tick before they
are called a burst), ServeGen (a rate and a shape for each 10 minutes, with densities of lengths: drawn, seeded). The shape
of the arrivals is kept; only tokens and time are scaled.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bedplate.errors import ReadError, UsageError

_LIMIT_BYTES = 256 << 20
_MOST = 1_000_000  # requests of one replay
_LEAST_SHAPE = 0.01  # of a law of gaps; with less a gap is past what a float holds
_WINDOW_S = 600.0  # of a ServeGen row
_WINDOW = re.compile(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of a trace: when it comes, how long its prompt is, and how many tokens it asks for."""

    at_s: float
    """Since the beginning of the window."""
    input_tokens: int
    output_tokens: int


def read_trace(path: Path, *, seed: int = 0, window_s: tuple[float, float] | None = None) -> tuple[Arrival, ...]:
    """The arrivals of a trace file in order of time, those of the window [first, last) alone where one is given.

    The format is told by the name (.jsonl: Mooncake; NAME-trace.csv with NAME-dataset.json beside it: ServeGen) and by the
    first line. Raises ReadError naming file and line, UsageError for a window in which nothing arrives.
    """
    text = _read(path)
    if path.suffix == ".jsonl":
        found = parse_mooncake(text, str(path), seed=seed)
    elif text.startswith("t_s,input_tokens,output_tokens"):
        found = parse_azure(text, str(path))
    elif path.name.endswith("-trace.csv"):
        dataset = path.with_name(path.name.replace("-trace.csv", "-dataset.json"))
        found = draw_servegen(text, _read(dataset), str(path), seed=seed, window_s=window_s)
    else:
        raise ReadError(
            f"{path}: has an unknown trace format",
            hint="Give an Azure CSV with t_s,input_tokens,output_tokens, a Mooncake .jsonl, or a ServeGen -trace.csv.",
        )
    if window_s is not None:
        found = cut(found, window_s)
        if not found:
            raise UsageError(f"{path}: no request arrives from {window_s[0]:g} to {window_s[1]:g} s")
    return found


def parse_azure(text: str, where: str) -> tuple[Arrival, ...]:
    """Arrivals of rows "0.052,3180,8" after the header, by time. Raises ReadError naming the line, or when there is none."""
    rows: list[Arrival] = []
    for number, row in _csv_rows(text, where):
        if number == 1 or not row:
            continue
        try:
            at, tokens_in, tokens_out = row
            rows.append(_arrival(float(at), int(tokens_in), int(tokens_out)))
        except ValueError as error:
            raise ReadError(
                f"{where}:{number}: expected t_s,input_tokens,output_tokens, got {','.join(row)[:60]!r}"
            ) from error
    return _ordered(rows, where)


def parse_mooncake(text: str, where: str, *, seed: int) -> tuple[Arrival, ...]:
    """Lines of {"timestamp": ms, "input_length": n, "output_length": n}; those of one tick are spread up to the next.

    The last tick is as long as the one before it. Spread evenly at random (seeded), so that a tick of 3 s does not look as a
    burst of 16 requests at once. Raises ReadError naming the line, or when there is none.
    """
    rows: list[tuple[float, int, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            row = float(record["timestamp"]) / 1000, int(record["input_length"]), int(record["output_length"])
            _arrival(*row)
            rows.append(row)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ReadError(
                f"{where}:{number}: expected timestamp, input_length and output_length, got {line[:60]!r}"
            ) from error
    ticks = sorted({row[0] for row in rows})
    lengths = [later - earlier for earlier, later in pairwise(ticks)]
    length_of = dict(zip(ticks, [*lengths, lengths[-1] if lengths else 0.0], strict=True))
    chance = random.Random(seed)
    spread = [_arrival(at + chance.random() * length_of[at], tokens_in, tokens_out) for at, tokens_in, tokens_out in rows]
    return _ordered(spread, where)


def draw_servegen(
    trace: str, dataset: str, where: str, *, seed: int, window_s: tuple[float, float] | None = None
) -> tuple[Arrival, ...]:
    """Arrivals drawn (seeded) from rows of "t,rate,cv,Weibull|Gamma,shape,scale" and the densities of lengths.

    Each 10-minute row gives as many requests as its rate says, exactly; their gaps have the fitted shape. Only the rows of
    the window are drawn, each from a seed of its own, so that a window of a trace is always the same. Raises ReadError for
    text of another form, or without a request, UsageError for more than a million.
    """
    first, last = window_s if window_s is not None else (0.0, math.inf)
    densities = _densities(dataset, where)
    rows: list[Arrival] = []
    for number, row in _csv_rows(trace, where):
        try:
            at, rate, law, shape = float(row[0]), float(row[1]), row[3], float(row[4])
            if not 0 <= at < 1e12 or not 0 <= rate < 1e6:
                raise ValueError(at)
            if rate > 0 and (law not in ("Weibull", "Gamma") or not _LEAST_SHAPE <= shape < 1e6):
                raise ValueError(law)
        except (ValueError, IndexError) as error:
            raise ReadError(f"{where}:{number}: expected t,rate,cv,Weibull or Gamma,shape,scale") from error
        if rate == 0 or at + _WINDOW_S <= first or at >= last:  # an empty window has no law
            continue
        count = round(rate * _WINDOW_S)
        if len(rows) + count > _MOST:
            raise UsageError(f"{where}: more than {_MOST} requests", hint="Give a --window.")
        chance = random.Random(f"{seed}:{at}")
        gaps = [_gap(chance, law, shape) for _ in range(count + 1)]
        whole = math.fsum(gaps) or 1.0
        tokens_in, tokens_out = (_draw(chance, density, count) for density in _densities_at(densities, at))
        passed = 0.0
        for gap, length_in, length_out in zip(gaps, tokens_in, tokens_out, strict=False):
            passed += gap
            rows.append(_arrival(at + passed / whole * _WINDOW_S, length_in, length_out))
    return _ordered(rows, where)


def cut(arrivals: Sequence[Arrival], window_s: tuple[float, float]) -> tuple[Arrival, ...]:
    """Those of [first, last), with times since first."""
    first, last = window_s
    return tuple(
        Arrival(at_s=arrival.at_s - first, input_tokens=arrival.input_tokens, output_tokens=arrival.output_tokens)
        for arrival in arrivals
        if first <= arrival.at_s < last
    )


def scale(arrivals: Sequence[Arrival], *, tokens: float, time: float, seed: int) -> tuple[Arrival, ...]:
    """Tokens and times multiplied by the two factors; the sums of tokens come out as near as whole tokens allow.

    A length becomes one of the two whole numbers around it, by chance (seeded), never 0: rounding all of them down would
    take a third of the tokens of short answers. Raises UsageError for a factor that is not positive.
    """
    if tokens <= 0 or time <= 0:
        raise UsageError(f"scale of {tokens:g} and {time:g}: expected two positive factors")
    chance = random.Random(seed)

    def length(count: int) -> int:
        wanted = count * tokens
        return max(1, math.floor(wanted) + (chance.random() < wanted - math.floor(wanted)))

    return tuple(
        Arrival(
            at_s=arrival.at_s * time, input_tokens=length(arrival.input_tokens), output_tokens=length(arrival.output_tokens)
        )
        for arrival in arrivals
    )


def parse_window(text: str) -> tuple[float, float]:
    """ "850:880" -> (850.0, 880.0). Raises UsageError."""
    found = _WINDOW.fullmatch(text)
    if found is None or float(found[1]) >= float(found[2]):
        raise UsageError(f"window {text!r}: expected FIRST:LAST in seconds, such as 850:880")
    return float(found[1]), float(found[2])


def render_totals(arrivals: Sequence[Arrival], *, tokens: float, time: float) -> str:
    """One line to print beside every result of a replay."""
    length = arrivals[-1].at_s if arrivals else 0.0
    return (
        f"{len(arrivals)} requests in {length:.1f} s, {sum(arrival.input_tokens for arrival in arrivals)} tokens in,"
        f" {sum(arrival.output_tokens for arrival in arrivals)} out; tokens x{tokens:g}, time x{time:g}"
    )


def _arrival(at_s: float, input_tokens: int, output_tokens: int) -> Arrival:
    if not 0 <= at_s < 1e12 or not 0 <= input_tokens < 1 << 40 or not 0 <= output_tokens < 1 << 40:
        raise ValueError("out of bounds")
    return Arrival(at_s=at_s, input_tokens=input_tokens, output_tokens=output_tokens)


def _ordered(rows: list[Arrival], where: str) -> tuple[Arrival, ...]:
    if not rows:
        raise ReadError(f"{where}: contains no request")
    if len(rows) > _MOST:
        raise ReadError(f"{where}: contains more than {_MOST} requests")
    return tuple(sorted(rows, key=lambda row: row.at_s))


def _gap(chance: random.Random, law: str, shape: float) -> float:
    return chance.weibullvariate(1.0, shape) if law == "Weibull" else chance.gammavariate(shape, 1.0)


Density = tuple[tuple[int, ...], tuple[float, ...]]


def _densities(text: str, where: str) -> dict[float, tuple[Density, Density]]:
    try:
        record: dict[str, dict[str, str]] = json.loads(text)
        found = {
            float(at): (_density(parts["input_tokens"]), _density(parts["output_tokens"])) for at, parts in record.items()
        }
        if not found or not all(map(math.isfinite, found)):
            raise ValueError("a time")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReadError(f"{where}: its dataset.json has no densities of input_tokens and output_tokens") from error


def _density(text: Any) -> Density:
    """ "{18: 0.017, 19: 0.1}" -> ((18, 19), (0.017, 0.1)): a literal of Python, read without evaluating anything."""
    pairs = re.findall(r"(\d{1,9}):\s*([0-9.eE+-]{1,30})", text)
    if not pairs:
        raise ValueError("no lengths")
    weights = tuple(float(weight) for _, weight in pairs)
    if min(weights) < 0 or not 0 < math.fsum(weights) < math.inf:
        raise ValueError("no weights")
    return tuple(int(length) for length, _ in pairs), weights


def _csv_rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """(number, fields) of each row. Raises ReadError where csv gives up, such as in a field of more than 131,072 bytes."""
    rows = csv.reader(io.StringIO(text))
    try:
        yield from enumerate(rows, start=1)
    except csv.Error as error:
        raise ReadError(f"{where}:{rows.line_num}: is not CSV: {error}") from error


def _densities_at(densities: dict[float, tuple[Density, Density]], at_s: float) -> tuple[Density, Density]:
    earlier = [start for start in densities if start <= at_s]
    return densities[max(earlier) if earlier else min(densities)]


def _draw(chance: random.Random, density: Density, count: int) -> list[int]:
    return chance.choices(density[0], density[1], k=count) if count else []


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ReadError(f"{path}: is longer than {_LIMIT_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error
