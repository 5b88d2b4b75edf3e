"""The arithmetic of a proof: paired sign flips, bootstrap intervals, Holm, how many pairs are needed. Pure.

Randomness comes from a seed that is passed in, so that the same samples always give the same verdict. Sources: Fisher 1935
(randomisation test); Efron and Tibshirani 1993, chapter 14 (BCa); Hesterberg 2015, "What teachers should know about the
bootstrap" (small samples); Holm 1979.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import NormalDist

from bedplate.model.percentile import percentile

EXACT_PAIRS = 14  # 2**14 sign patterns take 5 ms; above it, chance is sampled
FLIPS = 20_000
RESAMPLES = 2_000
_NORMAL = NormalDist()


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, summed exactly. Raises ValueError without values."""
    if not values:
        raise ValueError("no values have no mean")
    return math.fsum(values) / len(values)


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers; raises ValueError for anything else."""
    if any(value <= 0 for value in values):
        raise ValueError("a geometric mean needs positive numbers")
    return math.exp(mean([math.log(value) for value in values]))


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of fewer than two values."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def sign_flip_p(differences: Sequence[float], *, seed: int) -> float:
    """Two-sided p of the paired sign-flip test: how often chance alone gives a sum at least as far from 0.

    Exact for up to 14 pairs (the smallest p is then 2 / 2**n), 20,000 seeded flips above. 1 for differences that are all 0.
    Raises ValueError without any.
    """
    if not differences:
        raise ValueError("a test needs at least one pair")
    observed = abs(math.fsum(differences))
    edge = observed - 1e-9 * math.fsum(abs(difference) for difference in differences)  # sums differ in their last bits
    if len(differences) <= EXACT_PAIRS:
        sums = [0.0]
        for difference in differences:
            sums = [total + difference for total in sums] + [total - difference for total in sums]
        return sum(abs(total) >= edge for total in sums) / len(sums)
    chance = random.Random(seed)
    count = len(differences)
    hits = 0
    for _ in range(FLIPS):
        bits = chance.getrandbits(count)
        total = sum(-difference if bits >> index & 1 else difference for index, difference in enumerate(differences))
        hits += abs(total) >= edge
    return (hits + 1) / (FLIPS + 1)


def least_p(pairs: int) -> float:
    """The smallest p that so many pairs can give: none at all below it, however large the effect."""
    return 2 / 2**pairs if pairs <= EXACT_PAIRS else 1 / (FLIPS + 1)


def least_pairs(*, alpha: float, tests: int) -> int:
    """The fewest pairs with which the best of `tests` can pass Holm's correction at alpha."""
    pairs = 1
    while least_p(pairs) * tests >= alpha:
        pairs += 1
    return pairs


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p values in the order given: reject those below alpha, and at most alpha of all families err."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return tuple(adjusted)


def bca_interval(
    values: Sequence[float],
    *,
    seed: int,
    confidence: float = 0.95,
    statistic: Callable[[Sequence[float]], float] = mean,
    small_sample: bool = True,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of a statistic.

    small_sample widens the levels as Student's t and n/(n-1) would: a plain bootstrap of 8 values that says 95 % covers 88.
    Raises ValueError for fewer than two values.
    """
    count = len(values)
    if count < 2:
        raise ValueError("an interval needs at least two values")
    theta = statistic(values)
    left_out = [statistic([*values[:index], *values[index + 1 :]]) for index in range(count)]
    if all(value == left_out[0] for value in left_out):
        return theta, theta
    chance = random.Random(seed)
    drawn = sorted(statistic(chance.choices(values, k=count)) for _ in range(resamples))
    below = sum(value < theta for value in drawn) + sum(value == theta for value in drawn) / 2
    bias = _NORMAL.inv_cdf(min(max(below / resamples, 0.5 / resamples), 1 - 0.5 / resamples))
    centre = mean(left_out)
    cubes = math.fsum((centre - value) ** 3 for value in left_out)
    squares = math.fsum((centre - value) ** 2 for value in left_out)
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    tail = (1 - confidence) / 2
    if small_sample:
        tail = _NORMAL.cdf(-math.sqrt(count / (count - 1)) * student_quantile(1 - tail, count - 1))

    def bound(level: float) -> float:
        score = _NORMAL.inv_cdf(level)
        shift = bias + (bias + score) / (1 - acceleration * (bias + score))
        return percentile(drawn, 100 * min(1.0, max(0.0, _NORMAL.cdf(shift))))

    return bound(tail), bound(1 - tail)


def student_quantile(level: float, freedom: int) -> float:
    """Quantile of Student's t, by the expansion of Abramowitz and Stegun 26.7.5; within 1 % from 5 degrees of freedom on."""
    x = _NORMAL.inv_cdf(level)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def pairs_needed(*, spread: float, effect: float, alpha: float = 0.05, power: float = 0.9) -> int:
    """How many pairs show an effect (0.03 is 3 %) where blocks of one arm have this coefficient of variation.

    pairs_needed(spread=0.02, effect=0.03) == 10; for 1 % it is 85, and therefore nothing below 2 % is ever claimed. Raises
    ValueError for an effect that is not positive, and for a negative spread.
    """
    if effect <= 0 or spread < 0:
        raise ValueError("expected a positive effect and a spread of at least 0")
    scores = _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)
    return max(2, math.ceil((scores * math.sqrt(2) * spread / effect) ** 2))


def detectable(*, deviation_of_pairs: float, pairs: int, alpha: float = 0.05, power: float = 0.9) -> float:
    """The smallest effect that so many pairs would have shown, from the standard deviation of their log ratios."""
    scores = _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)
    return math.expm1(scores * deviation_of_pairs / math.sqrt(pairs))
