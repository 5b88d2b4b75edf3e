"""The rows of the protocol, as they are loaded and as HAProxy's script gets them."""

from __future__ import annotations

import re

import pytest
from tests.unit.test_haproxy import make

from bedplate.catalog.protocol import parse_protocol, read_protocol, read_request_script
from bedplate.errors import DataError
from bedplate.front.haproxy import render_haproxy
from bedplate.front.keys import KeyRules
from bedplate.front.routes import plan_front
from bedplate.front.script import render_script
from bedplate.model.protocol import JsonKind, ParameterEffect, ParameterRow
from bedplate.report.protocol import ERRORS, render_protocol

ROW = """
[[parameter]]
engine = "llamacpp"
paths = ["/v1/completions"]
name = "best_of"
kinds = ["integer"]
effect = "refused"
because = "use n."
example = "2"
"""


def parse(text: str) -> tuple[ParameterRow, ...]:
    return parse_protocol("schema = 1\n" + text, name="p.toml")


def test_a_row_is_loaded() -> None:
    (row,) = parse(ROW)
    assert (row.name, row.effect, row.kinds, row.paths) == (
        "best_of",
        ParameterEffect.REFUSED,
        (JsonKind.INTEGER,),
        ("/v1/completions",),
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('effect = "refused"', 'effect = "ignored"', "ignored"),
        ('because = "use n."', "", "because: expected the reason"),
        ('because = "use n."', 'because = "it isn\'t so"', "because: expected a sentence without quotes"),
        ('example = "2"', "", "example: is empty"),
        ('example = "2"', 'example = "two"', "example: got 'two', expected JSON"),
        ('effect = "refused"', 'effect = "works"', "what shows that the example works?"),
        ('example = "2"', 'example = "2"\nvalues = ["1"]', "other: expected a value that is refused"),
        ('example = "2"', 'example = "2"\nreason = "x"', "reason"),
        ('kinds = ["integer"]', "kinds = []", "kinds: is empty"),
        ('paths = ["/v1/completions"]', "paths = []", "paths: is empty"),
    ],
)
def test_a_row_that_is_wrong_is_refused_with_its_name(old: str, new: str, problem: str) -> None:
    assert old in ROW
    with pytest.raises(DataError) as caught:
        parse(ROW.replace(old, new))
    assert problem in str(caught.value) and "p.toml:best_of" in str(caught.value)


def test_a_parameter_stands_once_for_each_path() -> None:
    with pytest.raises(DataError, match="stands twice for /v1/completions of llamacpp"):
        parse(ROW + ROW)


def test_each_parameter_that_ships_says_what_it_does_and_why() -> None:
    rows = read_protocol()
    assert {row.effect for row in rows} == set(ParameterEffect)
    assert all(row.because.endswith(".") for row in rows if row.because)


def test_the_script_has_a_rule_for_each_row() -> None:
    text = render_script(read_protocol(), "-- the end\n")
    assert text.endswith("-- the end\n")
    assert '["best_of"] = { refused = "the engine returns each answer that it makes; use n." },' in text
    assert '["max_tokens"] = { kinds = { integer = true }, wanted = "an integer" },' in text
    assert '["/v1/responses"] = { forced = { text = "\\"required\\"" }, parameters = {' in text
    assert 'items = { ["type"] = { kinds = { string = true }' in text


def test_a_row_inside_of_a_parameter_that_has_none_is_refused() -> None:
    with pytest.raises(ValueError, match="inside a parameter without a row: inner"):
        render_script(parse(ROW.replace('"best_of"', '"outer.inner"')), "")


def test_the_page_has_every_error_of_the_front_and_no_other() -> None:
    rules = KeyRules(refusals_per_minute=20, certificates=True)
    text = render_haproxy([make("known-answer")], limits=plan_front([], memory_bytes=2 << 30), keys=rules)
    text += read_request_script()
    written = re.findall(r'"code":"(\w+)"', text) + re.findall(r'(?:nil|refuse\(txn), "(\w+)"', text)
    assert {code for code, _, _ in ERRORS} == set(written)


def test_the_page_has_no_empty_cell() -> None:
    rows = [line for line in render_protocol(read_protocol()).splitlines() if line.startswith("|")]
    assert len(rows) > 200
    assert [line for line in rows if "| |" in line.replace("  ", " ")] == []


def test_the_script_that_ships_needs_the_rules_and_nothing_else() -> None:
    text = read_request_script()
    assert "RULES[engine]" in text and "local RULES" not in text
