"""The end of a test run: skips are counted by reason, and one that nobody expects fails the run."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

pytest_plugins = ["pytester"]

SKIPPING = """
import pytest

def test_right():
    pass

def test_left_out():
    pytest.skip("the recorded machines are not here")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(SKIPPING)
    return pytester


def run(suite: pytest.Pytester, expected: str) -> pytest.RunResult:
    file = suite.path / "expected"
    file.write_text(expected)
    return suite.runpytest_inprocess("-p", "tests.reporting", f"--expected-skips={file}")


def test_a_skip_that_the_list_names_passes(suite: pytest.Pytester) -> None:
    done = run(suite, "# data beside the checkout\n\n^the recorded machines\n")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["*1 skipped*", "*1  the recorded machines are not here"])


def test_a_skip_that_the_list_does_not_name_fails(suite: pytest.Pytester) -> None:
    done = run(suite, "^stress-ng is not installed$\n")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["*the recorded machines are not here  NOT EXPECTED"])


def test_without_a_list_skips_are_counted_alone(suite: pytest.Pytester) -> None:
    done = suite.runpytest_inprocess("-p", "tests.reporting")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["*time of each part*", "*in all", "*1  the recorded machines are not here"])


def test_a_line_that_is_no_expression_is_refused(suite: pytest.Pytester) -> None:
    assert run(suite, "fine\n(unclosed\n").ret == pytest.ExitCode.USAGE_ERROR


def test_after_the_time_no_further_file_is_started(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has begun is brought to its end: its tests share a guest."""
    clock = SimpleNamespace(monotonic=itertools.count().__next__)  # a second passes with each look
    monkeypatch.setattr("tests.reporting.time", clock)
    two = "def test_one():\n    pass\n\ndef test_two():\n    pass\n"
    pytester.makepyfile(test_a=two, test_b=two)
    done = pytester.runpytest_inprocess("-p", "tests.reporting", "--start-within=1.5")
    done.assert_outcomes(passed=2, skipped=2)
    done.stdout.fnmatch_lines(["*2  left out: 2 s had passed"])
