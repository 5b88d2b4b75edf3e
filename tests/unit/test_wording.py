"""Counts and lists as sentences show them, and the options of an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.facts_factory import make_engine

from bedplate.host.root.cpu_lists import parse_cpu_list
from bedplate.model.wording import first_words, plural, render_cpus
from bedplate.plan.engine_arguments import argument, count_argument


@pytest.mark.parametrize(
    ("words", "text"),
    [((1, "core"), "1 core"), ((0, "core"), "0 cores"), ((2, "switch", "switches"), "2 switches"), ((1, "a", "b"), "1 a")],
)
def test_a_count_stands_before_its_noun(words: tuple[int, str] | tuple[int, str, str], text: str) -> None:
    assert plural(*words) == text


@pytest.mark.parametrize(
    ("names", "text"), [("", ""), ("a", "a"), ("abcd", "a, b, c, d"), ("abcde", "a, b, c, d and 1 more")]
)
def test_a_long_list_of_names_is_cut(names: str, text: str) -> None:
    assert first_words(names) == text
    assert first_words(names, 1) == (text if len(names) < 2 else f"a and {len(names) - 1} more")


@given(st.lists(st.integers(0, 4000), max_size=60))
def test_a_list_of_cpus_reads_back(cpus: list[int]) -> None:
    text = render_cpus(cpus)
    assert (parse_cpu_list(text) if text else ()) == tuple(sorted(set(cpus)))


def test_the_last_of_several_options_counts() -> None:
    engine = make_engine(argv=("vllm", "-dp", "2", "--data-parallel-size=4", "--host"))
    assert argument(engine, "-dp", "--data-parallel-size") == "4"
    assert argument(engine, "--host") is None
    assert argument(engine, "--port") is None


def test_a_count_is_the_largest_of_all_processes_and_no_other_text() -> None:
    engines = [make_engine(argv=("vllm", "-tp", word)) for word in ("2", "8", "auto", "0", "99999")]
    assert count_argument(engines, 1, "-tp") == 8
    assert count_argument(engines[2:], 1, "-tp") == 1
