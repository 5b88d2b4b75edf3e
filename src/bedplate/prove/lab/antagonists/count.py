"""How much an antagonist did, from what it printed: stress-ng's YAML, fio's and iperf3's JSON, numbers on stdout. Pure.

Recorded from stress-ng 0.15.06, fio 3.33 and iperf3 3.12 of Debian 12; the same keys are there in 0.19, 3.39 and 3.18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.errors import ReadError
from bedplate.prove.lab.fio import parse_fio_jobs
from bedplate.prove.lab.json_output import parse_json_output

_BOGO = re.compile(r"^[ \t]*bogo-ops:[ \t]*(\d+(?:\.\d+)?)[ \t]*$", re.MULTILINE)

_METRICS = re.compile(r"^metrics:\s*$", re.MULTILINE)

UNITS = {
    "stress-ng": "bogo operations",
    "fio": "bytes",
    "iperf3": "bytes",
    "stdout": "pieces",
    "read": "bytes",
    "written": "bytes",
    "cpu": "CPU seconds",
    "parts": "parts' CPU seconds",
}
"""What a count of each kind is of."""

AT_THE_END = frozenset({"stress-ng", "fio", "iperf3"})
"""These tell only when they end."""


def parse_stress_ng(text: str) -> float:
    """Bogo operations of all stressors of a --yaml file: 'bogo-ops: 1232' -> 1232.0. Raises ReadError without any metrics.

    Workers that were starved until they were ended have no line of their own: they did nothing, which is a count.
    """
    found = _BOGO.findall(text)
    if not found and not _METRICS.search(text):
        raise ReadError("stress-ng: its YAML has no bogo-ops", hint="It ended before its stressors; see its log.")
    return sum(float(text) for text in found)


def count_fio_bytes(text: str) -> float:
    """Bytes read and written by all jobs of a JSON output. Raises ReadError without jobs, or where one reports an error."""
    sides = [job.get(way, {}) for job in parse_fio_jobs(text) for way in ("read", "write")]
    return sum(float(side.get("io_bytes", 0)) for side in sides)


def parse_iperf3(text: str) -> float:
    """Bytes that the client sent: of the end where it says so, of the intervals where it was interrupted before.

    Raises ReadError where it reports an error and has sent nothing.
    """
    data = parse_json_output(text, "iperf3")
    end = data.get("end", {})
    for key in ("sum_sent", "sum"):
        if isinstance(end.get(key), dict) and end[key].get("bytes"):
            return float(end[key]["bytes"])
    total = sum(float(interval.get("sum", {}).get("bytes", 0)) for interval in data.get("intervals", []))
    if not total and data.get("error"):
        raise ReadError(f"iperf3: {data['error']}")
    return total


def parse_stdout(text: str) -> float:
    """The sum of the lines that are numbers; other lines are talk."""
    return sum(_numbers(text))


def _numbers(text: str) -> Iterator[float]:
    for line in text.splitlines():
        try:
            number = float(line)
        except ValueError:
            continue
        if number >= 0.0:
            yield number
