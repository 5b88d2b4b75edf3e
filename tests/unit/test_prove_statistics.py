"""The arithmetic of proofs, against published numbers and by what must hold of any samples."""

from __future__ import annotations

import math
import random

import pytest

from bedplate.model.percentile import percentile
from bedplate.prove.gauge.statistics import (
    bca_interval,
    detectable,
    geometric_mean,
    holm,
    least_p,
    least_pairs,
    mean,
    pairs_needed,
    sign_flip_p,
    student_quantile,
)

# Efron and Tibshirani 1993, table 14.1: spatial test data A; theta is the plug-in variance, 171.5.
SPATIAL_A = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]


def plug_in_variance(values: object) -> float:
    numbers = [float(value) for value in values]  # type: ignore[attr-defined]
    centre = mean(numbers)
    return sum((number - centre) ** 2 for number in numbers) / len(numbers)


def test_the_interval_of_the_book() -> None:
    assert plug_in_variance(SPATIAL_A) == pytest.approx(171.5, abs=0.1)
    low, high = bca_interval(
        SPATIAL_A, seed=1, confidence=0.90, statistic=plug_in_variance, small_sample=False, resamples=8000
    )
    assert low == pytest.approx(115.8, abs=4)  # table 14.2: BCa (115.8, 259.6)
    assert high == pytest.approx(259.6, abs=8)


def test_darwins_maize() -> None:
    # Fisher 1935: 15 pairs; of 2**15 sums 1726 are as far from 0 as the observed one, p = 0.0527.
    differences = [6.125, -8.375, 1.0, 2.0, 0.75, 2.875, 3.5, 5.125, 1.75, 3.625, 7.0, 3.0, 9.375, 7.5, -6.0]
    assert sign_flip_p(differences, seed=3) == pytest.approx(0.0527, abs=0.005)  # drawn: more than 14 pairs


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),
        ([1.0] * 8, 2 / 256),
        ([-0.5] * 6, 2 / 64),
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([3.0, -1.0, 2.0], 4 / 8),
    ],
)
def test_exact_p_of_few_pairs(differences: list[float], p: float) -> None:
    assert sign_flip_p(differences, seed=0) == pytest.approx(p)


def test_drawn_flips_agree_with_all_of_them() -> None:
    chance = random.Random(5)
    few = [chance.gauss(0.4, 1) for _ in range(14)]
    many = [*few, 0.0]  # a pair without a difference changes no sum, but the signs are drawn
    assert sign_flip_p(many, seed=9) == pytest.approx(sign_flip_p(few, seed=9), abs=0.015)


def test_p_does_not_depend_on_the_direction_or_the_order() -> None:
    chance = random.Random(6)
    for count in (3, 9, 20):
        values = [chance.gauss(0.3, 1) for _ in range(count)]
        assert sign_flip_p(values, seed=1) == pytest.approx(sign_flip_p([-value for value in values], seed=1), abs=0.02)
        assert sign_flip_p(sorted(values), seed=1) == pytest.approx(sign_flip_p(values, seed=1), abs=0.02)


def test_false_positives_are_no_more_than_alpha() -> None:
    chance = random.Random(7)
    trials = 400
    wrong = sum(sign_flip_p([chance.gauss(0, 0.05) for _ in range(10)], seed=0) < 0.05 for _ in range(trials))
    assert wrong <= trials * 0.05 + 3 * math.sqrt(trials * 0.05 * 0.95)
    assert wrong > 0  # and it is no test that never rejects


def test_heavy_tails_do_not_make_more_of_them() -> None:
    chance = random.Random(8)
    trials = 600
    wrong = sum(
        sign_flip_p([chance.gauss(0, 1) / max(0.05, chance.random()) for _ in range(8)], seed=0) < 0.05
        for _ in range(trials)
    )
    assert wrong <= trials * 0.05 + 3 * math.sqrt(trials * 0.05 * 0.95)


def test_intervals_of_eight_pairs_cover_the_truth() -> None:
    chance = random.Random(11)
    trials, covered = 200, 0
    for trial in range(trials):
        low, high = bca_interval([chance.gauss(0.1, 0.05) for _ in range(8)], seed=trial, resamples=800)
        covered += low <= 0.1 <= high
    assert covered / trials >= 0.90  # 95 % wanted; a plain bootstrap has 88


def test_an_interval_holds_its_mean_and_is_seeded() -> None:
    values = [0.1, 0.12, 0.09, 0.2, 0.11, 0.1]
    low, high = bca_interval(values, seed=4)
    assert low < mean(values) < high
    assert bca_interval(values, seed=4) == (low, high)
    assert bca_interval([0.5] * 5, seed=4) == (0.5, 0.5)


@pytest.mark.parametrize(("freedom", "quantile"), [(5, 2.571), (7, 2.365), (9, 2.262), (19, 2.093), (120, 1.980)])
def test_students_t(freedom: int, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=0.01)


def test_holm_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.6, 0.7]) == (1.0, 1.0)


def test_holm_never_lowers_and_keeps_the_order() -> None:
    chance = random.Random(12)
    for _ in range(100):
        values = [chance.random() for _ in range(chance.randint(1, 8))]
        adjusted = holm(values)
        assert all(before <= after for before, after in zip(values, adjusted, strict=True))
        order = sorted(range(len(values)), key=lambda index: values[index])
        assert [adjusted[index] for index in order] == sorted(adjusted)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([1, 2, 3, 4], 50, 2.5), ([1, 2, 3, 4], 100, 4), ([5], 99, 5), (range(101), 99, 99), ([4, 1], 25, 1.75)],
)
def test_percentiles(values: list[float], percent: float, expected: float) -> None:
    assert percentile(list(values), percent) == pytest.approx(expected)


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="positive"):
        geometric_mean([1.0, 0.0])


def test_how_many_pairs() -> None:
    assert pairs_needed(spread=0.02, effect=0.03) == 10  # 40 minutes of blocks of a minute and its wash-out
    assert pairs_needed(spread=0.02, effect=0.01) == 85  # why nothing below 2 % is claimed
    assert least_pairs(alpha=0.05, tests=1) == 6
    assert least_pairs(alpha=0.05, tests=4) == 8
    assert least_p(8) == 2 / 256


def test_what_was_detectable_would_have_been_shown() -> None:
    chance = random.Random(13)
    effect, shown = math.log1p(detectable(deviation_of_pairs=0.05, pairs=10)), 0
    for _ in range(200):
        shown += sign_flip_p([chance.gauss(effect, 0.05) for _ in range(10)], seed=0) < 0.05
    assert shown / 200 > 0.75  # 90 % in the normal approximation; less with 10 pairs
