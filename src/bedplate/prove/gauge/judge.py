"""From samples to a verdict, by fixed rules. Pure: the same samples and the same seed give the same verdict.

Kept is only what is shown: the primary metric gains at least 2 %, its interval lies above no gain, the sign-flip test passes
Holm's correction, and every guard metric is shown not to lose more than its margin. Harm by the same test reverts. Anything
else is "no effect"; conditions that do not allow to judge are "refused".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bedplate.model.percentile import percentile
from bedplate.model.proof import Effect, Judgement, Sample
from bedplate.prove.gauge.statistics import (
    bca_interval,
    detectable,
    deviation,
    holm,
    least_pairs,
    mean,
    sign_flip_p,
)

WITHOUT, WITH = "without", "with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number that an experiment compares, and what it is as a guard beside the primary one."""

    name: str
    unit: str
    higher_is_better: bool
    read: Callable[[Sample, float], float | None]
    """Of one sample and the quiet rate (0 when there was no quiet block); None when the sample does not have it."""
    margin: float | None
    """As a guard: how much may be lost, and shown to be no more than that. None: reported, never judged."""


def _rate(sample: Sample, _: float) -> float | None:
    # A block without one piece of work counts as half a piece: a ratio needs a number, and it is an underestimate.
    return max(sample.work, 0.5) / sample.duration_s


def _itl_p99(sample: Sample, _: float) -> float | None:
    return percentile(sample.gaps_s, 99) if sample.gaps_s else None


def _ttft_p99(sample: Sample, _: float) -> float | None:
    return percentile(sample.ttft_s, 99) if sample.ttft_s else None


def _goodput(sample: Sample, _: float) -> float | None:
    return max(sample.good, 0.5) / sample.duration_s if sample.requests else None


def _isol01(sample: Sample, quiet: float) -> float | None:
    # Half a piece of work in the worst second, for the same reason as in _rate.
    return 100 * max(percentile(sample.seconds, 1), 0.5) / quiet if sample.seconds and quiet > 0 else None


def _neighbour_work(sample: Sample, _: float) -> float | None:
    """The neighbour's own work for each CPU second that was truly left over: what it had and what nobody used."""
    if not sample.antagonist or sample.neighbour_work <= 0:
        return None
    return sample.neighbour_work / max(sample.neighbour_cpu_s + sample.idle_cpu_s, 0.01)


METRICS = (
    Metric(name="rate", unit="/s", higher_is_better=True, read=_rate, margin=0.05),
    Metric(name="itl_p99", unit="s", higher_is_better=False, read=_itl_p99, margin=0.10),
    Metric(name="ttft_p99", unit="s", higher_is_better=False, read=_ttft_p99, margin=0.10),
    Metric(name="neighbour_work", unit="/CPU s left over", higher_is_better=True, read=_neighbour_work, margin=0.20),
    Metric(name="goodput", unit="/s", higher_is_better=True, read=_goodput, margin=None),
    Metric(name="isol01", unit="%", higher_is_better=True, read=_isol01, margin=None),
)
PRIMARIES = ("rate", "itl_p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """By what a verdict is reached. `least_effect` is a share, 0.02: 2 %; `alpha` is the level after Holm's correction."""

    primary: str = "rate"
    least_effect: float = 0.02
    alpha: float = 0.05
    families: int = 1
    """Judgements made of one question (one for each antagonist): p values count so many times more."""
    margins: dict[str, float] = field(default_factory=dict)
    """Other margins than the table's, by metric."""

    def margin(self, metric: Metric) -> float | None:
        """The share that a guard metric may lose, 0.05: 5 %; None for one that is reported and never judged."""
        return self.margins.get(metric.name, metric.margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEffects:
    """A verdict, why, and the effects that it rests on, the primary metric's first; some miss where too few blocks count."""

    judgement: Judgement
    because: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two blocks of one round, without and with the change: neither was rejected."""

    without: Sample
    with_: Sample


def pair_up(samples: Sequence[Sample]) -> tuple[Pair, ...]:
    """Blocks of one round, both of which count."""
    valid = {(sample.round, sample.arm): sample for sample in samples if not sample.rejected and sample.round > 0}
    return tuple(
        Pair(without=sample, with_=valid[number, WITH])
        for (number, arm), sample in sorted(valid.items())
        if arm == WITHOUT and (number, WITH) in valid
    )


def quiet_rate(samples: Sequence[Sample]) -> float:
    """Work a second without a neighbour, the median of the quiet blocks; 0 when there were none."""
    rates = [
        sample.work / sample.duration_s
        for sample in samples
        if sample.round == 0 and not sample.antagonist and not sample.rejected
    ]
    return percentile(rates, 50) if rates else 0.0


def judge(samples: Sequence[Sample], *, seed: int, rules: Rules | None = None) -> JudgedEffects:
    """The verdict over the blocks of one subject beside one antagonist. Round 0 are quiet blocks, pairs count from 1."""
    rules = rules or Rules()
    pairs, quiet = pair_up(samples), quiet_rate(samples)
    effects: list[Effect] = []
    logs: dict[str, tuple[float, ...]] = {}
    for metric in sorted(METRICS, key=lambda metric: metric.name != rules.primary):
        found = _log_ratios(pairs, metric, quiet)
        if len(found) >= 2 and len(found) == len(pairs):
            logs[metric.name] = found
            effects.append(_effect(metric, pairs, found, quiet, seed=seed))
    judged = [metric for metric in METRICS if metric.name in logs and rules.margin(metric) is not None]
    tests = (len(judged) or 3) * rules.families  # without any pair: as many as an emulated victim has
    needed = least_pairs(alpha=rules.alpha, tests=tests)
    if len(pairs) < needed or rules.primary not in logs:
        return JudgedEffects(
            judgement=Judgement.REFUSED,
            because=_why_too_few(samples, pairs, needed, missing=rules.primary if len(pairs) >= needed else ""),
            effects=tuple(effects),
        )
    by_name = {effect.metric: effect for effect in effects}
    adjusted = dict(
        zip(
            [metric.name for metric in judged],
            (min(1.0, p * rules.families) for p in holm([by_name[metric.name].p for metric in judged])),
            strict=True,
        )
    )
    verdict, because = _decide(judged, by_name, adjusted, rules, logs[rules.primary])
    return JudgedEffects(judgement=verdict, because=because, effects=tuple(effects))


def _decide(
    judged: Sequence[Metric], effects: dict[str, Effect], adjusted: dict[str, float], rules: Rules, primary: Sequence[float]
) -> tuple[Judgement, str]:
    harmed, open_guards = [], []
    for metric in judged:
        effect, margin = effects[metric.name], rules.margin(metric) or 0.0
        sure = adjusted[metric.name] < rules.alpha
        worst, best = _loss_bounds(effect)
        # The primary harms when it loses 2 % or more for certain; a guard when it loses more than its margin for certain.
        if metric.name == rules.primary:
            if sure and best > 0 and _loss(effect) >= rules.least_effect:
                harmed.append(effect)
        else:
            if sure and best > margin:
                harmed.append(effect)
            if worst > margin:
                open_guards.append((metric, effect, margin))
    first = effects[rules.primary]
    said = describe(first, adjusted[rules.primary])
    if harmed:
        return Judgement.REVERT, "It harms: " + "; ".join(
            describe(effect, adjusted[effect.metric]) for effect in harmed
        ) + "."
    gain, (worst, _) = -_loss(first), _loss_bounds(first)
    shown = adjusted[rules.primary] < rules.alpha and worst < 0 and gain >= rules.least_effect
    if shown and not open_guards:
        return Judgement.KEEP, f"A gain was shown: {said}; no guard metric loses more than its margin."
    if shown:
        what = "; ".join(f"{describe(effect, None)}, margin {margin:.0%}" for _, effect, margin in open_guards)
        return Judgement.NO_EFFECT, f"A gain ({said}) was shown, but a cost cannot be ruled out: {what}."
    seen = detectable(deviation_of_pairs=deviation(primary), pairs=len(primary))
    because = (
        f"No gain of {rules.least_effect:.0%} or more was shown: {said}."
        f" {len(primary)} pairs as noisy as these would have shown one of {max(seen, rules.least_effect):.1%}."
    )
    return Judgement.NO_EFFECT, because


def describe(effect: Effect, p: float | None) -> str:
    """One effect in words: "rate x2.94 (2.71 to 3.10), p 0.008"."""
    text = f"{effect.metric} x{effect.ratio:.3g} ({effect.low:.3g} to {effect.high:.3g})"
    return text if p is None else f"{text}, p {p:.2g} over {effect.pairs} pairs"


def _loss(effect: Effect) -> float:
    """Share lost, negative for a gain: rate x0.9 -> 0.1; itl_p99 x1.1 -> 0.1."""
    return 1 - effect.ratio if effect.higher_is_better else effect.ratio - 1


def _loss_bounds(effect: Effect) -> tuple[float, float]:
    """The largest and the smallest loss that the interval allows."""
    if effect.higher_is_better:
        return 1 - effect.low, 1 - effect.high
    return effect.high - 1, effect.low - 1


def _log_ratios(pairs: Sequence[Pair], metric: Metric, quiet: float) -> tuple[float, ...]:
    found = []
    for pair in pairs:
        without, with_ = metric.read(pair.without, quiet), metric.read(pair.with_, quiet)
        if without is not None and with_ is not None and without > 0 and with_ > 0:
            found.append(math.log(with_ / without))
    return tuple(found)


def _effect(metric: Metric, pairs: Sequence[Pair], logs: Sequence[float], quiet: float, *, seed: int) -> Effect:
    without = [value for pair in pairs if (value := metric.read(pair.without, quiet)) is not None]
    with_ = [value for pair in pairs if (value := metric.read(pair.with_, quiet)) is not None]
    low, high = bca_interval(logs, seed=seed)
    return Effect(
        metric=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        without=percentile(without, 50),
        with_=percentile(with_, 50),
        ratio=math.exp(mean(logs)),
        low=math.exp(low),
        high=math.exp(high),
        p=sign_flip_p(logs, seed=seed),
        pairs=len(logs),
    )


def _why_too_few(samples: Sequence[Sample], pairs: Sequence[Pair], needed: int, *, missing: str) -> str:
    if missing:
        return f"{missing} could not be measured in every block: the tokens came in bursts, or none came."
    reasons: dict[str, int] = {}
    for sample in samples:
        if sample.rejected:
            kind = sample.rejected.partition(":")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
    why = "; ".join(f"{count} blocks: {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return f"{len(pairs)} valid pairs, at least {needed} are needed to judge" + (f" ({why})." if why else ".")
