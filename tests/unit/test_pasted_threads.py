"""Texts of public threads: doctor says what was the matter, and the page about it tells no more and no less than it does."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bedplate.errors import ReadError
from bedplate.flows.audit import read_report

TESTS = Path(__file__).parents[1]
TEXTS = TESTS / "pasted-threads"
PAGE = TESTS.parent / "docs" / "explanation" / "what-the-doctor-sees.md"
THREADS: list[dict[str, Any]] = tomllib.loads((TEXTS / "threads.toml").read_text())["thread"]


def name_of(thread: dict[str, Any]) -> str:
    return str(thread["file"])


@pytest.mark.parametrize("thread", THREADS, ids=name_of)
def test_doctor_says_what_the_table_says(thread: dict[str, Any]) -> None:
    expected = sorted([*thread["found"], *thread["besides"], *thread["wrong"]])
    if thread["missed"].startswith("all:"):
        with pytest.raises(ReadError):
            read_report(TEXTS / thread["file"])
        assert expected == []
        return
    findings = read_report(TEXTS / thread["file"]).findings
    assert sorted(" ".join((finding.id, finding.severity, *finding.where)) for finding in findings) == expected


def test_every_text_is_in_the_table_once() -> None:
    files = [name_of(thread) for thread in THREADS]
    assert sorted(files) == sorted(path.name for path in TEXTS.glob("*.txt"))
    assert len({thread["where"] for thread in THREADS}) == len(THREADS) >= 10


def test_the_page_has_a_row_for_each_and_counts_them() -> None:
    page = PAGE.read_text()
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert rows == [thread_row(thread) for thread in THREADS]
    assert counts_of(THREADS) in " ".join(page.split())


def thread_row(thread: dict[str, Any]) -> str:
    _, _, _, owner, repository, _, number = thread["where"].split("/")
    lists = (sorted({line.split()[0] for line in thread[part]}) for part in ("found", "besides"))
    found, besides = (", ".join(f"`{id}`" for id in ids) or "-" for ids in lists)
    cells = (thread["reported"], thread["truth"], found, besides, thread["missed"] or "-")
    return f"| [{owner}/{repository} {number}]({thread['where']}) | {' | '.join(cells)} |"


def counts_of(threads: list[dict[str, Any]]) -> str:
    found = sum(bool(thread["found"]) for thread in threads)
    missed = sum(bool(thread["missed"]) for thread in threads)
    besides = sum(len(thread["besides"]) for thread in threads)
    wrong = sum(len(thread["wrong"]) for thread in threads)
    return (
        f"Of {len(threads)} texts, doctor names the matter in {found}, and misses something in {missed}. "
        f"{besides} findings are true and were not asked for; {wrong} are wrong."
    )


def test_a_row_of_a_table_does_not_begin_a_second_table() -> None:
    """The instances of MIG are told by the numbers of the GPUs in the same table."""
    report = read_report(TEXTS / "mig-on-both.txt")
    assert len(report.facts.texts) == 1
    assert [gpu.mig_bytes.value for gpu in report.facts.accelerators] == [(40192 << 20,)] * 2


def test_a_long_line_of_an_engine_is_judged_in_linear_time(tmp_path: Path) -> None:
    line = "ERROR 03-02 19:49:00 [multiproc_executor.py:783] "
    text = tmp_path / "engine.txt"
    text.write_text(line + "] x" * 300_000 + "\n" + (line + "system not yet initialized\n") * 20_000)
    start = time.process_time()
    report = read_report(text)
    assert [finding.id for finding in report.findings] == ["fabric.not-ready"]
    assert time.process_time() - start < 60
