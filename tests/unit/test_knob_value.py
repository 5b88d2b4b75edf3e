"""Texts of the kernel and what they mean; comparisons."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.knob_value import Compare, Parse, Value, holds, parse_value
from bedplate.model.wording import render_cpus


@pytest.mark.parametrize(
    ("text", "how", "value"),
    [
        ("60", Parse.NUMBER, 60.0),
        ("0x0007", Parse.NUMBER, 7.0),
        ("-1000", Parse.NUMBER, -1000.0),
        ("max", Parse.NUMBER, math.inf),
        ("0.00\n", Parse.NUMBER, 0.0),
        ("2147483648", Parse.BYTES, float(2 << 30)),
        ("1.5G", Parse.BYTES, float(3 << 29)),
        ("64 MiB", Parse.BYTES, float(64 << 20)),
        ("unlimited", Parse.BYTES, math.inf),
        ("4096\t131072\t6291456", Parse.LAST_NUMBER, 6291456.0),
        ("always [madvise] never", Parse.CHOICE, "madvise"),
        ("[none] mq-deadline kyber", Parse.CHOICE, "none"),
        ("performance", Parse.CHOICE, "performance"),
        ("Y", Parse.FLAG, 1.0),
        ("0", Parse.FLAG, 0.0),
        ("off", Parse.FLAG, 0.0),
        ("auto,nosmt", Parse.WORDS, frozenset({"auto", "nosmt"})),
        ("", Parse.WORDS, frozenset()),
        ("0-3,8", Parse.CPU_COUNT, 5.0),
        ("0-3,2-5", Parse.CPU_COUNT, 6.0),
        ("", Parse.CPU_COUNT, 0.0),
        ("0-999999", Parse.CPU_COUNT, 1_000_000.0),
    ],
)
def test_a_text_has_a_meaning(text: str, how: Parse, value: Value) -> None:
    assert parse_value(text, how) == value


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("", Parse.NUMBER),
        ("sixty", Parse.NUMBER),
        ("9" * 400, Parse.NUMBER),
        ("1e9", Parse.NUMBER),
        ("nan", Parse.NUMBER),
        ("12 parsecs", Parse.BYTES),
        ("", Parse.LAST_NUMBER),
        ("always madvise never", Parse.CHOICE),
        ("[a] [b]", Parse.CHOICE),
        ("", Parse.CHOICE),
        ("2", Parse.FLAG),
        ("0-", Parse.CPU_COUNT),
        ("all", Parse.CPU_COUNT),
    ],
)
def test_a_text_without_one_is_refused(text: str, how: Parse) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_value(text, how)


@given(st.text(max_size=200), st.sampled_from(list(Parse)))
def test_any_text_has_a_meaning_or_is_refused(text: str, how: Parse) -> None:
    try:
        value = parse_value(text, how)
    except ValueError:
        return
    assert isinstance(value, float | str | frozenset)
    assert value == value, "not a number"


@given(st.sets(st.integers(0, 4000), max_size=60))
def test_the_count_of_a_rendered_list_of_cpus_is_the_count_of_the_cpus(cpus: set[int]) -> None:
    assert parse_value(render_cpus(cpus), Parse.CPU_COUNT) == len(cpus)


@pytest.mark.parametrize(
    ("value", "compare", "wanted", "good"),
    [
        (60.0, Compare.AT_LEAST, (2.0,), True),
        (1.0, Compare.AT_LEAST, (2.0,), False),
        (math.inf, Compare.AT_LEAST, (math.inf,), True),
        (0.0, Compare.AT_MOST, (0.0,), True),
        (1.0, Compare.AT_MOST, (0.0,), False),
        ("never", Compare.ONE_OF, ("always", "madvise"), False),
        ("madvise", Compare.ONE_OF, ("always", "madvise"), True),
        (1.0, Compare.EQUAL, (1.0,), True),
        (frozenset({"a", "b"}), Compare.CONTAINS, (frozenset({"a"}),), True),
        (frozenset({"b"}), Compare.CONTAINS, (frozenset({"a"}),), False),
        (frozenset({"off"}), Compare.NOT_CONTAINS, (frozenset({"off"}),), False),
        (frozenset({"auto"}), Compare.NOT_CONTAINS, (frozenset({"off"}),), True),
        (frozenset({"x"}), Compare.ABSENT, (), False),
        ("x", Compare.REPORT, (), True),
    ],
)
def test_meanings_are_compared(value: Value, compare: Compare, wanted: tuple[Value, ...], good: bool) -> None:
    assert holds(value, compare, wanted) is good


def test_words_are_not_compared_as_numbers() -> None:
    with pytest.raises(ValueError, match="compares numbers"):
        holds("a", Compare.AT_LEAST, (1.0,))
