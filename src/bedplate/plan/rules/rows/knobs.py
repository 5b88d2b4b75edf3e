"""What the catalog's rows say about a machine: a judgement of every row, and a finding for each that does not hold. Pure.

Rows name conditions (`CONDITIONS`), formulas (`FORMULAS`) and facts (`FACTS`) of this package; a test holds the names
together.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable

from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.knob import Grade, Knob, Outcome, Recommendation, RowResult
from bedplate.plan.rules.conditions import CONDITIONS, FORMULAS
from bedplate.plan.rules.files import KnobFiles, sysctl_name
from bedplate.plan.rules.rows import judge as judging
from bedplate.plan.rules.rows.fix import make_fix
from bedplate.plan.rules.rows.judge import FACTS

__all__ = ["CONDITIONS", "FACTS", "FORMULAS", "audit_knobs", "judge_knobs"]

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


def judge_knobs(facts: HostFacts, knobs: Iterable[Knob]) -> tuple[RowResult, ...]:
    """What was concluded about every row, in the order of the rows. Does not depend on the order of the facts."""
    all_judged = _judge_all(facts, knobs, KnobFiles(facts))
    return tuple(_follow(judged, all_judged) for judged in all_judged.values())


def audit_knobs(facts: HostFacts, knobs: Iterable[Knob], *, told: Collection[str] = ()) -> tuple[Finding, ...]:
    """A finding, "knob.<id>", for each row that does not hold, most expected effect first; ties by id.

    `told` are ids of findings that were made elsewhere: what one of them tells with more detail is not said again.
    Experiments make no finding; a wrong form of a knob makes none where the knob itself does not hold. A row that cannot be
    judged makes an INFO finding only where it says so.
    """
    files = KnobFiles(facts)
    all_judged = _judge_all(facts, knobs, files)
    findings = []
    for judged in all_judged.values():
        knob = judged.knob
        judged = _untold(judged, told)
        if judged.outcome is Outcome.UNKNOWN and knob.say_unknown and _is_denied(judged):
            findings.append(_unknown(judged))
        elif judged.outcome is Outcome.DOES_NOT_HOLD and (knob.verdict is not Recommendation.EXPERIMENT or judged.dead):
            linked = all_judged.get(knob.knob)
            if linked is not None and linked.outcome is Outcome.DOES_NOT_HOLD:
                continue
            findings.append(_finding(judged, facts, files))
    return tuple(sorted(findings, key=lambda finding: (-finding.rank, finding.id)))


def _judge_all(facts: HostFacts, knobs: Iterable[Knob], files: KnobFiles) -> dict[str, judging.JudgedRow]:
    return {knob.id: judging.judge(knob, facts, files) for knob in knobs}


def _follow(judged: judging.JudgedRow, all_judged: dict[str, judging.JudgedRow]) -> RowResult:
    """A row without checks of its own is judged with the one that it is a wrong form of."""
    own = judging.judgement(judged)
    linked = all_judged.get(judged.knob.knob)
    if judged.knob.check or judged.knob.not_evaluable or linked is None:
        return own
    of = judging.judgement(linked)
    return dataclasses.replace(of, knob=own.knob, because=f"judged as {linked.knob.id}: {of.because}")


def _finding(judged: judging.JudgedRow, facts: HostFacts, files: KnobFiles) -> Finding:
    knob = judged.knob
    failed = [result for result in judged.results if result.outcome is Outcome.DOES_NOT_HOLD]
    where = [result.sample.where for result in failed if result.sample is not None]
    where += [setting.source for setting in judged.dead]
    fix, undo = make_fix(judged, facts, files)
    return Finding(
        id=f"knob.{knob.id}",
        severity=Severity.LOW if judged.dead else _severity(knob),
        title=_title(judged),
        where=tuple(dict.fromkeys(where)) or ("machine",),
        evidence=judging.judgement(judged).evidence,
        effect=_effect(knob),
        fix=fix,
        undo=undo,
        confidence=Confidence.CERTAIN if judged.dead else _CONFIDENCE[knob.grade],
        rank=_WEIGHT[Grade.N] if judged.dead else _rank(knob),
    )


def _untold(judged: judging.JudgedRow, told: Collection[str]) -> judging.JudgedRow:
    """Without the results that other findings tell; what nothing is left of holds."""
    results = tuple(result for result in judged.results if not any(id in told for id in result.check.findings))
    if judged.outcome is not Outcome.DOES_NOT_HOLD or judged.dead or results == judged.results:
        return judged
    failed = any(result.outcome is Outcome.DOES_NOT_HOLD for result in results)
    outcome = Outcome.DOES_NOT_HOLD if failed else Outcome.HOLDS
    return dataclasses.replace(judged, outcome=outcome, results=results)


def _is_denied(judged: judging.JudgedRow) -> bool:
    """Whether a user with more rights would know."""
    readings = [result.sample.reading for result in judged.results if result.sample is not None]
    return any(reading.unknown is Unknown.DENIED for reading in readings)


def _unknown(judged: judging.JudgedRow) -> Finding:
    knob = judged.knob
    return Finding(
        id=f"knob.{knob.id}",
        severity=Severity.INFO,
        title=f"{knob.name}: could not be judged: {judged.because}",
        where=("machine",),
        evidence=judging.judgement(judged).evidence,
        effect=_effect(knob),
        fix=("# Run bedplate as root to know.",),
        undo=("# Nothing was changed.",),
        confidence=Confidence.POSSIBLE,
        rank=0.0,
    )


def _title(judged: judging.JudgedRow) -> str:
    if judged.dead:
        names = list(dict.fromkeys(sysctl_name(setting.path) for setting in judged.dead))
        shown = ", ".join(names[:_PLACES]) + (f" and {len(names) - _PLACES} more" if len(names) > _PLACES else "")
        return f"{shown}: set at boot, and this kernel does not have {'it' if len(names) == 1 else 'them'}"
    failed = [result for result in judged.results if result.outcome is Outcome.DOES_NOT_HOLD]
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
