"""Findings that are one and findings that are several: by what rule says them, of what place, in which words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from tests.unit.facts_factory import make_facts

from bedplate.model.facts.finding import Confidence, Evidence, Finding, Severity
from bedplate.plan.audit import conclude
from bedplate.plan.rules.machine import JudgedMachine
from bedplate.plan.rules.rule import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """A rule that reports what it is given."""

    says: tuple[tuple[str, str, float], ...]
    """(title, fact, rank) of findings with one id at one place."""

    def judge(self, _: JudgedMachine) -> Iterator[Result]:
        return iter(())

    def report(self, _: JudgedMachine, results: Sequence[Result]) -> Iterator[Finding]:
        for title, fact, rank in self.says:
            evidence = (Evidence(fact=fact, source="/x"),)
            yield replace(EXAMPLE, title=title, evidence=evidence, rank=rank)


EXAMPLE = Finding(
    id="x.y",
    severity=Severity.LOW,
    title="",
    where=("machine",),
    evidence=(),
    effect="no evidence",
    fix=("# Nothing.",),
    undo=("# Nothing.",),
    confidence=Confidence.CERTAIN,
    rank=0.0,
)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # One rule, one place, two things.
        (((("a", "1", 1.0), ("b", "2", 2.0)),), {"b": ["2"], "a": ["1"]}),
        # The same said twice.
        (((("a", "1", 1.0), ("a", "2", 1.0), ("b", "1", 1.0)),), {"a": ["1", "2"], "b": ["1"]}),
        # Two rules about one thing, such as a line of the kernel's log and what the driver answers.
        (((("a", "1", 1.0),), (("b", "2", 2.0),)), {"b": ["2", "1"]}),
        # One rule says two things: which of them the other one means is not known.
        (((("a", "1", 1.0), ("b", "2", 2.0)), (("c", "3", 3.0),)), {"c": ["3"], "b": ["2"], "a": ["1"]}),
        (((("a", "1", 1.0), ("b", "2", 2.0)), (("a", "3", 1.0),)), {"b": ["2"], "a": ["1", "3"]}),
    ],
)
def test_only_what_is_said_twice_is_one_finding(
    rules: tuple[tuple[tuple[str, str, float], ...], ...], expected: dict[str, list[str]]
) -> None:
    audited = conclude(make_facts(), [Saying(says=says) for says in rules], (), known=set(), today="2026-11-30")
    found = {finding.title: [evidence.fact for evidence in finding.evidence] for finding in audited.findings}
    assert list(found.items()) == list(expected.items())
