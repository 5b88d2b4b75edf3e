"""The rows of catalog/knobs: all knobs of the survey, each judged or with the reason why not; mistakes are told."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from bedplate.catalog import knobs as catalog
from bedplate.catalog.knobs import knob_configs, knob_paths, parse_knobs, parse_sources, read_knobs
from bedplate.errors import DataError, ReadError
from bedplate.model.knob import Grade, Knob, Recommendation
from bedplate.model.knob_value import Compare
from bedplate.model.plan_part import Part
from bedplate.plan.rules.conditions import CONDITIONS
from bedplate.plan.rules.formulas import FORMULAS
from bedplate.plan.rules.rows.judge import FACTS

KNOBS = read_knobs()

IDS = (Path(__file__).parents[1] / "golden" / "knob-ids.txt").read_text().split()
SURVEYED = [id for id in IDS if not id.startswith("cargo.")]
CARGO_CULT = [id for id in IDS if id.startswith("cargo.")]
# Facts cannot decide these; each says why.
NOT_EVALUABLE = {
    "cargo.drop-caches",
    "cpu.omp",
    "cpu.slice",
    "gpu.amd-env",
    "io.pagecache-warm",
    "mem.reclaim",
}


def test_the_96_knobs_of_the_survey_and_the_19_cargo_cult_settings_are_rows() -> None:
    assert (len(SURVEYED), len(CARGO_CULT)) == (96, 19)
    assert sorted(knob.id for knob in KNOBS) == sorted(SURVEYED + CARGO_CULT)


@pytest.mark.data
def test_the_ids_are_those_of_the_survey_itself() -> None:
    shared = Path(os.environ.get("BEDPLATE_DATA", Path(__file__).parents[3] / "shared" / "data")).parent
    survey = shared / "reference" / "tuning_catalogue.json"
    if not survey.is_file():
        pytest.skip(f"{survey} is not here: the survey that the rows come from")
    records = json.loads(survey.read_text())
    assert sorted(record["id"] for record in records) == sorted(SURVEYED)
    grades = {knob.id: knob.grade for knob in KNOBS}
    assert [record["id"] for record in records if grades[record["id"]] != record["grade"][0]] == []


def test_every_row_is_judged_from_facts_or_says_why_not() -> None:
    ids = {knob.id: knob for knob in KNOBS}
    assert {knob.id for knob in KNOBS if knob.not_evaluable} == NOT_EVALUABLE
    for knob in KNOBS:
        assert knob.check or knob.not_evaluable or ids[knob.knob].check, knob.id
        assert not (knob.check and knob.not_evaluable), knob.id


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.id)
def test_names_in_a_row_are_defined_in_plan(knob: Knob) -> None:
    conditions = set(knob.when) | {name for check in knob.check for name in check.when}
    assert conditions <= set(CONDITIONS)
    assert {check.fact for check in knob.check if check.fact} <= set(FACTS)
    assert {knob.target, *(check.formula for check in knob.check)} - {""} <= set(FORMULAS)


def test_nothing_is_defined_in_plan_that_no_row_uses() -> None:
    facts = {check.fact for knob in KNOBS for check in knob.check}
    formulas = {check.formula for knob in KNOBS for check in knob.check} | {knob.target for knob in KNOBS}
    conditions = {name for knob in KNOBS for name in (*knob.when, *(name for check in knob.check for name in check.when))}
    assert set(FACTS) - facts == set()
    assert set(FORMULAS) - formulas == set()
    assert set(CONDITIONS) - conditions - {"is_container"} == set()  # dead settings ask for it


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.id)
def test_a_row_reads_as_sentences_with_evidence(knob: Knob) -> None:
    for text in (knob.problem, knob.why, knob.wanted, knob.evidence, knob.reversible):
        assert text.endswith((".", "?")), text
        assert "`" not in text and "**" not in text
    assert knob.sources or knob.grade is Grade.N
    assert knob.instead or knob.verdict not in (
        Recommendation.CARGO_CULT,
        Recommendation.HARMFUL,
        Recommendation.DEAD,
        Recommendation.REJECT,
    )
    if knob.effect_percent is not None:
        assert any(letter.isdigit() for letter in knob.effect)


def test_every_cargo_cult_row_is_linked_to_the_knob_that_it_is_a_wrong_form_of() -> None:
    for knob in KNOBS:
        assert bool(knob.knob) == (knob.id in CARGO_CULT), knob.id


def test_what_a_reader_has_to_read_is_told_once_each_in_order() -> None:
    paths = knob_paths(KNOBS)
    assert list(paths) == sorted(set(paths))
    assert {"/proc/sys/vm/swappiness", "/etc/sysctl.d/*.conf", "/usr/lib/sysctl.d/*.conf", "/etc/sysctl.conf"} <= set(paths)
    assert not any(path.startswith(("/home", "/root", "/proc/kcore", "/dev")) or path.endswith("environ") for path in paths)
    assert knob_configs(KNOBS) == tuple(sorted(knob_configs(KNOBS)))
    assert all(config.startswith("CONFIG_") for config in knob_configs(KNOBS))


ROW: dict[str, object] = {
    "id": "vm.test",
    "name": "test",
    "kind": "sysctl",
    "interface": ["vm.test"],
    "problem": "A problem.",
    "why": "A reason.",
    "applies": "Always.",
    "wanted": "1.",
    "verdict": "adopt",
    "verdict_note": "adopt",
    "grade": "C",
    "evidence": "Words.",
    "risk": "",
    "needs": ["root"],
    "persist": "",
    "reversible": "Yes.",
    "sources": ["S1"],
}
CHECK: dict[str, object] = {"paths": ["/proc/sys/vm/test"], "parse": "number", "compare": "equal", "want": ["1"]}


def render(row: dict[str, object], check: dict[str, object] | None = None) -> str:
    lines = ["schema = 1", "[[knob]]", *(f"{key} = {json.dumps(value)}" for key, value in row.items() if value is not None)]
    if check is not None:
        lines += ["[[knob.check]]", *(f"{key} = {json.dumps(value)}" for key, value in check.items() if value is not None)]
    return "\n".join(lines)


def problems_of(*texts: str) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        parse_knobs({f"{index}.toml": text for index, text in enumerate(texts)}, {"S1": "A title"})
    return caught.value.problems


def test_a_right_row_loads_and_names_its_source_in_full() -> None:
    (knob,) = parse_knobs({"a.toml": render(ROW, CHECK)}, {"S1": "A title"})
    assert knob.sources == ("S1: A title",)
    assert knob.check[0].compare is Compare.EQUAL


@pytest.mark.parametrize(
    ("row", "check", "problem"),
    [
        ({"verdikt": "adopt"}, {}, "0.toml:vm.test.verdikt: unknown key; did you mean 'verdict'?"),
        ({"sources": []}, {}, "0.toml:vm.test.sources: missing; only grade N (no evidence found) may have none, this is C"),
        ({"sources": ["S9"]}, {}, "0.toml:vm.test.sources: S9 is not in sources.toml"),
        ({"why": None}, {}, "0.toml:vm.test.why: missing"),
        ({"why": " "}, {}, "0.toml:vm.test.why: is empty"),
        ({"grade": "D"}, {}, "0.toml:vm.test.grade: got 'D', expected one of A, B, C, N"),
        ({"verdict": "harmful"}, {}, "0.toml:vm.test.instead: missing; harmful needs it"),
        ({"knob": "vm.other"}, {}, "0.toml:vm.test.knob: 'vm.other' is no other row"),
        ({"conflicts": ["vm.test"]}, {}, "0.toml:vm.test.conflicts: 'vm.test' is no other row"),
        ({"effect_percent": 3.0}, {}, "0.toml:vm.test.effect: missing; effect_percent needs the published number in words"),
        ({"fix": ["true"]}, {}, "0.toml:vm.test.undo: fix and undo come together"),
        (
            {"fix": ["echo {what}"], "undo": ["true"]},
            {},
            "0.toml:vm.test.fix: {what} is not one of want, target, old, path, name, text, id, old:/path",
        ),
        ({"not_planned": "no gain"}, {}, "0.toml:vm.test.part: missing; not_planned says why the part leaves the row alone"),
        ({"boot_flag": "psi"}, {}, "0.toml:vm.test.boot_flag: got 'psi', expected a flag such as psi=1"),
        ({"part": "clocks"}, {}, "0.toml:vm.test.part: got 'clocks', expected one of " + ", ".join(Part)),
        ({"not_evaluable": "Because."}, {}, "0.toml:vm.test.not_evaluable: the row has checks too"),
        ({"id": "Test"}, {}, "0.toml:Test.id: got 'Test', expected group.name in lower case"),
        ({}, {"want": ["one"]}, "0.toml:vm.test.check[0].want: 'one' is not a number"),
        ({}, {"want": ["1", "2"]}, "0.toml:vm.test.check[0].want: equal takes one value, got 2"),
        ({}, {"want": []}, "0.toml:vm.test.check[0].want: missing; equal needs it or a formula"),
        ({}, {"formula": "some"}, "0.toml:vm.test.check[0].formula: the check has want too"),
        ({}, {"compare": "report"}, "0.toml:vm.test.check[0].want: report compares with nothing"),
        (
            {},
            {"compare": "contains"},
            "0.toml:vm.test.check[0].compare: only contains and not-contains compare words; got contains of number",
        ),
        (
            {},
            {"paths": ["/proc/../etc/shadow"]},
            "0.toml:vm.test.check[0].paths: '/proc/../etc/shadow' is not an absolute path, with * within a name at most",
        ),
        (
            {},
            {"parameter": "test"},
            "0.toml:vm.test.check[0].paths: exactly one of paths, parameter, config, fact; a fact may name paths it needs",
        ),
    ],
)
def test_a_mistake_in_a_row_is_told(row: dict[str, object], check: dict[str, object], problem: str) -> None:
    assert problems_of(render(ROW | row, CHECK | check)) == (problem,)


def test_a_row_that_nothing_judges_is_refused() -> None:
    assert problems_of(render(ROW)) == (
        "0.toml:vm.test.check: missing; say not_evaluable and why when facts cannot decide it",
    )


def test_all_problems_of_all_files_are_told_at_once() -> None:
    first = render(ROW | {"sources": []}, CHECK | {"want": ["x"]})
    problems = problems_of(first, render(ROW, CHECK), "schema = 2\nknobs = 3", "not toml")
    assert [problem.partition(":")[0] for problem in problems] == [
        "2.toml",
        "2.toml",
        "3.toml",
        "0.toml",
        "0.toml",
        "1.toml",
    ]
    assert problems[-1] == "1.toml:vm.test.id: appears also as 0.toml:vm.test"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schema = 2", "sources.toml:schema: got 2, expected 1"),
        ("schema = 1\nX1 = 'a'", 'sources.toml:X1: expected S1, S2, ... = "title"'),
        ("schema = 1\nS1 = 3", 'sources.toml:S1: expected S1, S2, ... = "title"'),
    ],
)
def test_a_mistake_in_the_sources_is_told(text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_sources(text, name="sources.toml")
    assert caught.value.problems == (problem,)


def test_every_source_is_named_by_a_row() -> None:
    sources = parse_sources((Path(catalog.__file__).parent / "sources.toml").read_text(), name="sources.toml")
    named = {source.partition(":")[0] for knob in KNOBS for source in knob.sources}
    assert set(sources) - named == set()


def test_rules_that_tell_more_than_a_row_are_findings_of_checks() -> None:
    path = Path(catalog.__file__).parent / "findings.toml"
    rows = tomllib.loads(path.read_text())
    ids = {row["id"] for key, table in rows.items() if key != "schema" for row in table}
    assert {id for knob in KNOBS for check in knob.check for id in check.told_by} <= ids


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ReadError, match=r"a\.toml: is not UTF-8"):
        read_knobs(tmp_path)


def test_rows_stand_in_files_by_group() -> None:
    directory = Path(catalog.__file__).parent / "knobs"
    groups = {
        path.stem: {row["id"].partition(".")[0] for row in tomllib.loads(path.read_text())["knob"]}
        for path in directory.iterdir()
    }
    assert groups["cargo"] == {"cargo"}
    seen = [group for found in groups.values() for group in found]
    assert sorted(seen) == sorted(set(seen))
