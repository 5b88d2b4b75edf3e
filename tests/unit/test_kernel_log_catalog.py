"""The rows of the kernel's log: each example belongs to exactly its own row; no row is slow, unsourced or doubled."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import pytest
from tests.unit.test_expressions import slow_words

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import (
    CODES,
    find_kernel_row,
    parse_kernel_messages,
    read_codes,
    read_kernel_messages,
    read_rows_for,
)
from bedplate.errors import DataError
from bedplate.host.kernel.kernel_log import MessageRows, parse_kernel_log
from bedplate.model.facts.finding import Severity
from bedplate.model.kernel_log_row import Fault, KernelLogRow, Remedy

MESSAGES = read_kernel_messages()
XIDS, SXIDS = read_codes("xid"), read_codes("sxid")
ROWS = (*SXIDS, *XIDS, *MESSAGES.rows)
PATTERNS = [(row.id, re.compile(row.pattern, re.ASCII)) for row in MESSAGES.rows]
EXAMPLES = [(row, example) for row in MESSAGES.rows for example in row.examples]


@pytest.mark.parametrize(("row", "example"), EXAMPLES, ids=[f"{row.id}-{example[:30]}" for row, example in EXAMPLES])
def test_an_example_matches_its_own_row_and_no_other(row: KernelLogRow, example: str) -> None:
    assert [id for id, pattern in PATTERNS if pattern.match(example)] == [row.id]
    found = MessageRows(MESSAGES.rows).find(example)
    assert found is not None and found[0] is row


@pytest.mark.parametrize("row", [*XIDS, *SXIDS], ids=lambda row: row.id)
def test_a_code_is_found_in_its_example(row: KernelLogRow) -> None:
    log = parse_kernel_log((f"[ 1.0] {example}" for example in row.examples), MESSAGES.rows, source="x")
    assert [f"{event.row}-{event.code}" for event in log.events] == [row.id]
    assert log.events[0].address and not row.pattern


@pytest.mark.parametrize(("id", "pattern"), PATTERNS, ids=[id for id, _ in PATTERNS])
def test_a_pattern_takes_time_as_its_text_is_long(id: str, pattern: re.Pattern[str]) -> None:
    assert slow_words(pattern, "match") == []


def test_every_xid_and_every_sxid_that_nvidia_documents_has_a_row() -> None:
    assert [row.id for row in XIDS] == [f"xid-{code}" for code in range(1, 173)]
    groups = {int(row.id.removeprefix("sxid-")) // 1000 for row in SXIDS}
    assert groups == set(range(10, 31)) and len(SXIDS) == 398
    guide = [row for row in SXIDS if "Fabric Manager User Guide" in row.source]
    assert len(guide) == 92


def test_rows_have_a_source_and_the_day_on_which_it_was_read() -> None:
    for row in ROWS:
        assert len(row.source) > 10 and re.fullmatch(r"20\d\d-\d\d-\d\d", row.read), row.id
        assert row.examples and not row.title.endswith(".") and row.means.endswith("."), row.id


def test_the_faults_of_applications_are_no_alarms() -> None:
    by_id = {row.id: row for row in ROWS}
    for code in (13, 31, 43, 45):
        row = by_id[f"xid-{code}"]
        assert (row.severity, row.fault, row.remedy) == (Severity.INFO, Fault.APPLICATION, Remedy.RESTART_APPLICATION)
    assert by_id["xid-79"].severity is Severity.CRITICAL and by_id["xid-79"].remedy is Remedy.POWER_CYCLE
    assert by_id["xid-119"].severity is Severity.CRITICAL and by_id["xid-119"].remedy is Remedy.DRAIN_AND_RESET
    assert by_id["xid-64"].remedy is Remedy.REPLACE and by_id["xid-94"].severity is Severity.HIGH
    assert by_id["sxid-12028"].severity is Severity.CRITICAL


def test_a_cause_is_more_severe_than_what_follows_or_stands_before_it() -> None:
    severities = tuple(Severity)
    rank = {row.id: (severities.index(row.severity), place) for place, row in enumerate(ROWS)}
    wrong = [
        (row.id, id)
        for row in MESSAGES.rows
        for id in row.causes
        if id in rank and rank[id] < rank[row.id]  # it would never be taken for its consequence
    ]
    assert wrong == []


def test_what_rows_refer_to_exists() -> None:
    ids = {row.id for row in ROWS}
    findings = {row.id for row in read_findings()}
    for row in ROWS:
        for cause in row.causes:
            assert any(fnmatchcase(id, cause) for id in ids), f"{row.id} explains {cause}, which no row is"
        assert not row.reports_as or row.reports_as in ids | findings, row.id
        assert set(row.told_by) <= findings, row.id
        assert row.alone or not row.causes, f"{row.id} is no finding, so nothing may belong to it"


def test_what_a_fix_stops_it_starts_again() -> None:
    for row in ROWS:
        for fix in (row.fix, row.fix_in_vm):
            stopped = {unit for line in fix for unit in _units(line, "stop")}
            assert stopped <= {unit for line in fix for unit in _units(line, "start")}, row.id
    for step in MESSAGES.steps:
        for fix in (step.fix, step.fix_in_vm):
            assert {unit for line in fix for unit in _units(line, "stop")} <= {
                unit for line in fix for unit in _units(line, "start")
            }, step.id


def _units(line: str, verb: str) -> list[str]:
    found = re.findall(rf"systemctl {verb} ([\w -]+)", line)
    return [unit for group in found for unit in group.split()]


def test_no_fix_for_a_virtual_machine_touches_hardware() -> None:
    words = re.compile(r"\b(?:reseat|riser|power cable|DIMM|cable|seat)\b")
    for step in MESSAGES.steps:
        assert not any(words.search(line) for line in step.fix_in_vm), step.id
    for row in ROWS:
        assert not any(words.search(line) for line in row.fix_in_vm), row.id


@pytest.mark.parametrize("name", ["xid-79", "Xid 79", "kernel.xid-79", "XID_79"])
def test_a_code_is_found_by_the_names_that_people_write(name: str) -> None:
    row = find_kernel_row(name)
    assert row is not None and row.id == "xid-79"


def test_names_of_no_row_are_not_found() -> None:
    assert find_kernel_row("xid-x") is None and find_kernel_row("aer") is None
    unknown = find_kernel_row("xid-9999")
    assert unknown is not None and unknown.id == "xid" and "unknown" in unknown.title
    row = find_kernel_row("aer-fatal")
    assert row is not None and row.id == "aer-fatal"


def test_only_the_codes_that_a_log_has_are_read() -> None:
    log = parse_kernel_log(["[ 1.0] NVRM: Xid (PCI:0000:43:00): 79, GPU has fallen off"], MESSAGES.rows, source="x")
    assert {row.id.split("-")[0] for row in read_rows_for(log.events)} >= {"xid", "aer"}
    assert not any(row.id.startswith("sxid-") for row in read_rows_for(log.events))
    assert read_rows_for(()) == MESSAGES.rows


ROW = """
[[message]]
id = "some-error"
title = "t"
means = "m."
harm = "h"
fault = "hardware"
remedy = "replace"
severity = "high"
pattern = 'some (?P<subject>\\w+)'
examples = ["some error"]
source = "s"
read = "2026-11-30"
"""
STEPS = "schema = 1\n" + "".join(f'[[remedy]]\nid = "{remedy}"\nfix = ["x"]\nfix_in_vm = ["y"]\n' for remedy in Remedy)


def test_a_good_row_is_read() -> None:
    (row,) = parse_kernel_messages(STEPS + ROW, name="k").rows
    assert row.id == "some-error" and row.fault is Fault.HARDWARE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "k:schema: got 2, expected 1"),
        ("schema = 1", "schema = 1\nother = 1", "k:other: unknown key"),
        ('id = "some-error"', 'id = "Some Error"', "expected words of small letters"),
        ('harm = "h"', 'hram = "h"', "did you mean 'harm'?"),
        ('harm = "h"', 'harm = " "', "harm: is empty"),
        ('title = "t"', 'title = "t."', "ends with a full stop"),
        ('severity = "high"', 'severity = "dire"', "expected one of"),
        ('examples = ["some error"]', "examples = []", "which message is it?"),
        ('read = "2026-11-30"', 'read = "yesterday"', "expected a date"),
        ("(?P<subject>", "(?P<what>", "has the group 'what'"),
        ("'some ", "'^some ", "is matched from the beginning"),
        ('severity = "high"', 'severity = "high"\nmany = 5', "a number needs many_severity"),
        ('[[remedy]]\nid = "replace"\nfix = ["x"]\nfix_in_vm = ["y"]\n', "", "replace has no steps"),
    ],
)
def test_a_wrong_row_is_refused(old: str, new: str, message: str) -> None:
    assert old in STEPS + ROW
    with pytest.raises(DataError) as raised:
        parse_kernel_messages((STEPS + ROW).replace(old, new, 1), name="k")
    assert message in str(raised.value)


def test_all_problems_of_a_file_at_once() -> None:
    with pytest.raises(DataError) as raised:
        parse_kernel_messages(STEPS + ROW + ROW.replace('harm = "h"', 'harm = ""'), name="k")
    assert len(raised.value.problems) == 2


def test_a_code_of_a_kind_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes.toml"
    path.write_text(CODES["xid"].read_text().replace('kind = "lost"', 'kind = "gone"', 1))
    with pytest.raises(DataError, match="the kind 'gone' or the source"):
        read_codes("xid", path)


def test_a_first_word_finds_its_rows_however_many_there_are() -> None:
    find = partial(MessageRows(MESSAGES.rows).find)
    assert find("nothing that any row knows") is None
    assert find("") is None and find("12345") is None
