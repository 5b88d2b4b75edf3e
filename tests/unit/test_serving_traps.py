"""docs/explanation/traps-of-serving.md: every trap of the registry stands once, and what it names as findings exists."""

from __future__ import annotations

import re
from pathlib import Path

from bedplate.catalog.findings import read_findings

PAGE = (Path(__file__).parents[2] / "docs/explanation/traps-of-serving.md").read_text()
SEEN, NOT_SEEN = PAGE.split("## Not seen")


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def test_each_trap_stands_once() -> None:
    seen = [number for cell in re.findall(r"(?m)^\| ([\d, ]+) \|", SEEN) for number in numbers(cell)]
    rest = [number for line in re.findall(r"(?m)^Traps ([\d, ]+)\.$", NOT_SEEN) for number in numbers(line)]
    assert sorted(seen + rest) == list(range(1, 162))
    assert f"{len(seen)} of the 161" in PAGE
    assert f"the other {len(rest)} " in PAGE


def test_the_findings_that_it_names_exist() -> None:
    rows = {row.id for row in read_findings()}
    named = set(re.findall(r"`((?:engine|accel|stack)\.[a-z-]+)`", SEEN))
    assert len(named) >= 10
    assert named <= rows


def test_sources_of_findings_name_traps_that_the_page_shows_as_seen() -> None:
    sources = [source for row in read_findings() for source in row.sources if "model-serving-minefield, trap" in source]
    assert len(sources) >= 4
    shown = {number for cell in re.findall(r"(?m)^\| ([\d, ]+) \|", SEEN) for number in numbers(cell)}
    assert {number for source in sources for number in numbers(source.partition(", http")[0])} <= shown
