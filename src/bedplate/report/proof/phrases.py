"""What a proof says in sentences and short numbers, the same on a terminal and on a page. Pure."""

from __future__ import annotations

import math

from bedplate.model.proof import Effect, Judgement
from bedplate.model.proof_summary import ArmResult, ProofSummary, most_foreign, worst_scenario

_MOST_FOREIGN = 0.05  # as prove allows unless it is told otherwise
_LEAST = 0.02  # effects below are never claimed
_NAMES = {
    "rate": "work per second",
    "itl_p99": "gap p99",
    "ttft_p99": "TTFT p99",
    "isol01": "isol-01",
    "goodput": "requests within SLOs",
    "neighbour_work": "neighbour's work",
}
_VERDICTS = {
    Judgement.KEEP: "The change helps",
    Judgement.NO_EFFECT: "No effect was shown",
    Judgement.REVERT: "The change harms",
    Judgement.REFUSED: "Not judged",
}


def verdict(summary: ProofSummary) -> str:
    """The first line: what it is worth, beside the neighbour that hurts most."""
    judged, scenario = summary.judgement, worst_scenario(summary)
    if judged is Judgement.REFUSED:
        return f"{_VERDICTS[judged]}: {next(proof.because for proof in summary.proofs if proof.judgement is judged)}"
    if scenario is None:
        return f"{_VERDICTS[judged]}." if judged is not None else "No block counts."
    before, after = scenario.result(summary.arms[0]), scenario.result(summary.arms[-1])
    assert before is not None and after is not None  # worst_scenario gives no other
    beside = f" beside {scenario.description}" if scenario.antagonist else ""
    if before.kept is None or after.kept is None:
        said = f"x{number(after.rate / before.rate)} work per second{beside}" if before.rate else f"work per second{beside}"
    elif judged is not None:
        said = f"the engine keeps {percent(after.kept)} of its quiet speed{beside}, and {percent(before.kept)} without it"
    else:
        said = f"{percent(after.kept)} with {summary.arms[-1]}, and {percent(before.kept)} with {summary.arms[0]}"
        return f"Beside {scenario.description} the engine keeps {said}."
    first = scenario.proof.effects[0] if scenario.proof is not None and scenario.proof.effects else None
    if judged is Judgement.NO_EFFECT and first is not None and is_better(first):
        return f"A gain was shown, but a cost cannot be ruled out: {said}."
    return f"{_VERDICTS[judged]}: {said}." if judged is not None else f"{said}."


def cost(summary: ProofSummary) -> str:
    """The second line: what the neighbour paid, in the same scenario; "" where there was none."""
    scenario = worst_scenario(summary)
    after = scenario.result(summary.arms[-1]) if scenario is not None else None
    if after is None or after.neighbour is None:
        return ""
    change = after.neighbour - 1
    if abs(change) < 0.02:
        said = "The neighbour did as much of its own work as before"
    else:
        said = f"The neighbour did {percent(abs(change))} {'more' if change > 0 else 'less'} of its own work"
    if after.left_over is None:
        return said + "."
    return f"{said}; it got {percent(after.left_over)} of the CPU time that the engine left over."


def foreign(summary: ProofSummary) -> str:
    """What a reader must know of other work on the machine; "" when it took no more than the default allows."""
    share = most_foreign(summary)
    if share <= _MOST_FOREIGN:
        return ""
    return (
        f"Other work took up to {percent(share)} of the CPUs in blocks that count. It slows the quiet blocks too, so a share"
        " of the quiet speed may exceed 100%."
    )


def percent(share: float) -> str:
    """Two significant digits below ten: 0.0431 -> "4.3%", 0.973 -> "97%"."""
    value = share * 100
    return f"{value:.0f}%" if abs(value) >= 9.95 or value == 0 else f"{value:.1f}%"


def number(value: float) -> str:
    """Three significant digits, without an exponent: 12345.6 -> "12,300", 0.01234 -> "0.0123"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, digits)}f}" if abs(rounded) < 1e15 else f"{rounded:.3g}"


def seconds(value: float) -> str:
    """A time in the unit that reads best: "340 µs", "27 ms", "1.06 s"."""
    if value >= 1:
        return f"{number(value)} s"
    return f"{number(value * 1e3)} ms" if value >= 1e-3 else f"{number(value * 1e6)} µs"


def interval(result: ArmResult) -> str:
    """ "97% (96..99)"; "97%" for one block, "" without a quiet rate."""
    if result.kept is None:
        return f"{number(result.rate)} /s"
    if result.low is None or result.high is None:
        return percent(result.kept)
    return f"{percent(result.kept)} ({_bare(result.low)}..{_bare(result.high)})"


def tail(result: ArmResult) -> str:
    """ "227 ms, x8.1"; "" without gaps."""
    if result.gap_p99_s is None:
        return ""
    times = f", x{number(result.times_p99)}" if result.times_p99 is not None else ""
    return seconds(result.gap_p99_s) + times


def metric_name(effect: Effect) -> str:
    """A metric as people read it, "gap p99" for itl_p99; one that has no phrase keeps the name of its record."""
    return _NAMES.get(effect.metric, effect.metric)


def metric_value(effect: Effect, value: float) -> str:
    """A value of a metric as people read it: "227 ms", "97%", or a bare number for a rate, whose name says of what."""
    if effect.unit == "s":
        return seconds(value)
    if effect.unit == "%":
        return percent(value / 100)
    return number(value)  # rates, whose names say of what


def is_better(effect: Effect) -> bool | None:
    """Whether the whole interval lies on the better side; None when it does not tell, or tells less than 2 %."""
    if abs(effect.ratio - 1) < _LEAST:
        return None
    if effect.low > 1:
        return effect.higher_is_better
    if effect.high < 1:
        return not effect.higher_is_better
    return None


def neighbour_work(result: ArmResult) -> str:
    """ "x0.59" of what it did in the first arm; "" without a neighbour."""
    return f"x{number(result.neighbour)}" if result.neighbour is not None else ""


def neighbour_had(result: ArmResult) -> str:
    """ "93%" of the CPU time that the victim did not use; "" without a neighbour."""
    return percent(result.left_over) if result.left_over is not None else ""


def _bare(share: float) -> str:
    return percent(share).removesuffix("%")
