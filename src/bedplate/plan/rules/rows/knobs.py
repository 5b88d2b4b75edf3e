"""Knob rows as rules: each is judged on a machine, and makes one finding, "knob.ID", where it does not hold.

Rows name conditions, formulas and facts of this package; a test holds the names together. A row may be a wrong form of
another one: it is then told by that one, and judged with it where it has no checks of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.knob import Grade, Knob, Recommendation
from bedplate.plan.rules.files import sysctl_name
from bedplate.plan.rules.machine import JudgedMachine
from bedplate.plan.rules.rows.fix import make_fix
from bedplate.plan.rules.rows.judge import DeadSetting, judge_row, summarise
from bedplate.plan.rules.rule import Outcome, Result

_WEIGHT = {Grade.A: 1.0, Grade.B: 0.6, Grade.C: 0.3, Grade.N: 0.1}
_CONFIDENCE = {
    Grade.A: Confidence.CERTAIN,
    Grade.B: Confidence.LIKELY,
    Grade.C: Confidence.POSSIBLE,
    Grade.N: Confidence.POSSIBLE,
}
_UNMEASURED_PERCENT = 2.0  # what a row without a number counts for in the ranking: less than can be measured on a host
_MOST_PERCENT = 400.0  # the largest published effect on serving, five times; loading has larger ones and happens once
_PLACES = 4  # places that a title names


def make_knob_rules(knobs: Iterable[Knob]) -> tuple[KnobRule, ...]:
    """A rule for each row, in the order of the rows, with the row that it is a wrong form of."""
    rows = {knob.id: knob for knob in knobs}
    return tuple(KnobRule(knob=knob, right_form=rows.get(knob.knob)) for knob in rows.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobRule:
    """One row of the catalog. Experiments make no finding; a row that cannot be judged makes an INFO finding only where it
    says so, and where more rights would help."""

    knob: Knob
    right_form: Knob | None
    """The row that this one is a wrong form of; None for a knob of its own."""

    @property
    def id(self) -> str:
        """Id of its results and of its finding: "knob.cpu.smt"."""
        return f"knob.{self.knob.id}"

    def judge(self, subject: JudgedMachine) -> tuple[Result, ...]:
        """What failed, each by itself, so that other rules can tell a part of it; otherwise the row as a whole."""
        results = self._judge_all(subject)
        failed = tuple(result for result in results if result.outcome is Outcome.DOES_NOT_HOLD)
        return failed or (self._summary(results),)

    def judge_whole(self, subject: JudgedMachine) -> Result:
        """What was concluded about the row as a whole; does not depend on the order of the facts."""
        return self._summary(self._judge_all(subject))

    def report(self, subject: JudgedMachine, results: Sequence[Result]) -> tuple[Finding, ...]:
        """One finding of all that failed, or none."""
        failed = [result for result in results if result.outcome is Outcome.DOES_NOT_HOLD]
        if failed:
            dead = any(isinstance(result, DeadSetting) for result in failed)
            experiment = self.knob.verdict is Recommendation.EXPERIMENT and not dead
            return () if experiment else (_make_finding(self.knob, failed, subject, dead=dead),)
        if not self.knob.say_unknown:
            return ()
        return tuple(
            _make_unknown(self.knob, result) for result in results if result.outcome is Outcome.UNKNOWN and result.denied
        )

    def _judge_all(self, subject: JudgedMachine) -> tuple[Result, ...]:
        told_by = (f"knob.{self.right_form.id}",) if self.right_form is not None else ()
        judged = self.right_form if self._follows() and self.right_form is not None else self.knob
        return tuple(
            replace(result, id=self.id, told_by=result.told_by + told_by)
            for result in judge_row(judged, subject.facts, subject.files)
        )

    def _summary(self, results: Sequence[Result]) -> Result:
        whole = summarise(self.id, results)
        if self._follows() and self.right_form is not None:
            return replace(whole, because=f"judged as {self.right_form.id}: {whole.because}")
        return whole

    def _follows(self) -> bool:
        return self.right_form is not None and not self.knob.check and not self.knob.not_evaluable


def _make_finding(knob: Knob, failed: Sequence[Result], machine: JudgedMachine, *, dead: bool) -> Finding:
    """dead: what failed are lines that set at boot what this kernel does not have."""
    fix, undo = make_fix(knob, failed, machine.facts, machine.files)
    where = dict.fromkeys(place for result in failed for place in result.where)
    return Finding(
        id=f"knob.{knob.id}",
        severity=Severity.LOW if dead else _severity(knob),
        title=_title(failed),
        where=tuple(where) or ("machine",),
        evidence=summarise(f"knob.{knob.id}", failed).evidence,
        effect=_effect(knob),
        fix=fix,
        undo=undo,
        confidence=Confidence.CERTAIN if dead else _CONFIDENCE[knob.grade],
        rank=_WEIGHT[Grade.N] if dead else _rank(knob),
    )


def _make_unknown(knob: Knob, whole: Result) -> Finding:
    return Finding(
        id=f"knob.{knob.id}",
        severity=Severity.INFO,
        title=f"{knob.name}: could not be judged: {whole.because}",
        where=("machine",),
        evidence=whole.evidence,
        effect=_effect(knob),
        fix=("# Run bedplate as root to know.",),
        undo=("# Nothing was changed.",),
        confidence=Confidence.POSSIBLE,
        rank=0.0,
    )


def _title(failed: Sequence[Result]) -> str:
    names = list(dict.fromkeys(sysctl_name(result.setting.path) for result in failed if isinstance(result, DeadSetting)))
    if names:
        shown = ", ".join(names[:_PLACES]) + (f" and {len(names) - _PLACES} more" if len(names) > _PLACES else "")
        return f"{shown}: set at boot, and this kernel does not have {'it' if len(names) == 1 else 'them'}"
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{failed[0].because}{more}"


_PLAIN_WORDS = ("A", "An", "Common", "Kernel", "No", "On", "Only", "Reasoning", "The", "Two", "Vendor", "What", "Without")


def _effect(knob: Knob) -> str:
    if not knob.effect and knob.grade is Grade.N:
        return "no evidence"
    text = knob.effect or f"not measured; {_continue(knob.evidence)}"
    named = [source for source in knob.sources if re.search(rf"\b{re.escape(source.partition(':')[0])}\b", text)]
    return f"{text.rstrip('.')} [{'; '.join(named)}]" if named else text


def _continue(text: str) -> str:
    """A sentence after a semicolon; names keep their capital."""
    word, space, rest = text.partition(" ")
    return f"{word.lower()}{space}{rest}" if word in _PLAIN_WORDS else text


def _severity(knob: Knob) -> Severity:
    percent = knob.effect_percent or 0.0
    match knob.verdict:
        case Recommendation.HARMLESS:
            return Severity.INFO
        case Recommendation.CONDITIONAL:
            return Severity.LOW if knob.grade in (Grade.A, Grade.B) else Severity.INFO
        case Recommendation.LEAVE | Recommendation.AUDIT | Recommendation.DEAD | Recommendation.EXPERIMENT:
            return Severity.LOW
        case Recommendation.REJECT:
            return Severity.MEDIUM
        case Recommendation.ADOPT | Recommendation.CARGO_CULT | Recommendation.HARMFUL:
            if percent >= 50 and knob.grade in (Grade.A, Grade.B):
                return Severity.HIGH
            if percent >= 5 or (knob.verdict is Recommendation.ADOPT and knob.grade is Grade.A):
                return Severity.MEDIUM
            return Severity.LOW


def _rank(knob: Knob) -> float:
    percent = _UNMEASURED_PERCENT if knob.effect_percent is None else min(knob.effect_percent, _MOST_PERCENT)
    return round(percent * _WEIGHT[knob.grade], 3)
