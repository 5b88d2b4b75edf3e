"""Verdicts over made samples: what is kept, reverted, left, refused; and how often chance alone would be kept."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from bedplate.model.proof import Effect, Judgement, Sample
from bedplate.prove.gauge.judge import WITH, WITHOUT, Rules, judge, pair_up

QUIET = Sample(
    arm=WITHOUT,
    antagonist="",
    level_pct=0,
    round=0,
    started_s=0.0,
    duration_s=10.0,
    work=1000.0,
    seconds=(100.0,) * 10,
    gaps_s=(0.010,) * 1000,
    ttft_s=(),
    e2e_s=(),
    requests=0,
    failed=0,
    late_s=0.0,
    neighbour_work=0.0,
    neighbour_cpu_s=0.0,
    idle_cpu_s=16.0,
    foreign_share=0.0,
)


def block(number: int, arm: str, *, rate: float, gap: float, nb_work: float = 1000.0, nb_cpu: float = 15.0) -> Sample:
    return replace(
        QUIET,
        arm=arm,
        antagonist="cpu.matrixprod",
        level_pct=100,
        round=number,
        work=rate * 10,
        seconds=(rate,) * 10,
        gaps_s=(gap,) * 100,
        neighbour_work=nb_work,
        neighbour_cpu_s=nb_cpu,
        idle_cpu_s=16.0 - nb_cpu,
    )


def experiment(
    pairs: int,
    *,
    seed: int,
    rate: float = 1.0,
    gap: float = 1.0,
    nb_work: float = 1.0,
    nb_cpu: float = 15.0,
    noise: float = 0.02,
) -> tuple[Sample, ...]:
    """Blocks in which the change multiplies rate, ITL and the neighbour's work, with noise of each block."""
    chance = random.Random(seed)

    def some() -> float:
        return math.exp(chance.gauss(0, noise))

    samples = [QUIET, QUIET]
    for number in range(1, pairs + 1):
        samples.append(block(number, WITHOUT, rate=50 * some(), gap=0.02 * some(), nb_work=1000 * some()))
        samples.append(
            block(
                number,
                WITH,
                rate=50 * rate * some(),
                gap=0.02 * gap * some(),
                nb_work=1000 * nb_work * some(),
                nb_cpu=nb_cpu,
            )
        )
    return tuple(samples)


def effect(effects: tuple[Effect, ...], name: str) -> Effect:
    return next(effect for effect in effects if effect.metric == name)


def test_a_clear_gain_is_kept() -> None:
    judged = judge(experiment(10, seed=1, rate=1.9, gap=0.5), seed=1)
    assert judged.judgement is Judgement.KEEP
    assert judged.effects[0].metric == "rate"
    assert judged.effects[0].low < 1.9 < judged.effects[0].high
    assert judged.effects[0].ratio == pytest.approx(1.9, rel=0.03)
    assert effect(judged.effects, "isol01").without == pytest.approx(50, rel=0.1)  # percent of the quiet rate
    assert "rate x1.9" in judged.because


def test_a_clear_loss_is_reverted() -> None:
    judged = judge(experiment(10, seed=2, rate=0.7, gap=1.5), seed=1)
    assert judged.judgement is Judgement.REVERT
    assert "rate x0.69" in judged.because and "itl_p99" in judged.because


def test_nothing_is_no_effect_and_says_what_would_have_been_seen() -> None:
    judged = judge(experiment(10, seed=3), seed=1)
    assert judged.judgement is Judgement.NO_EFFECT
    assert "pairs as noisy as these would have shown" in judged.because


def test_a_true_gain_below_two_percent_is_never_claimed() -> None:
    judged = judge(experiment(40, seed=4, rate=1.012, noise=0.002), seed=1)
    assert judged.effects[0].p < 0.001 and judged.effects[0].low > 1
    assert judged.judgement is Judgement.NO_EFFECT


def test_a_gain_that_costs_latency_is_not_kept() -> None:
    judged = judge(experiment(10, seed=5, rate=1.2, gap=2.0), seed=1)
    assert judged.judgement is Judgement.REVERT
    assert "itl_p99" in judged.because


def test_a_gain_without_proof_that_the_guards_hold_is_not_kept() -> None:
    judged = judge(experiment(10, seed=6, rate=1.5, gap=1.09), seed=1)  # margin 10 %: the interval reaches over it
    assert judged.judgement is Judgement.NO_EFFECT
    assert "a cost cannot be ruled out" in judged.because


def test_killing_the_neighbour_is_no_win() -> None:
    judged = judge(experiment(10, seed=7, rate=1.9, gap=0.5, nb_work=0.2, nb_cpu=3.0), seed=1)
    assert judged.judgement is Judgement.REVERT
    assert "neighbour_work" in judged.because


def test_a_neighbour_that_makes_room_for_the_engine_alone_is_fair() -> None:
    """Its work falls to 60 % because the engine needs the rest: nothing is left idle."""
    samples = [
        replace(sample, neighbour_work=sample.neighbour_work * 0.6, neighbour_cpu_s=9.0, idle_cpu_s=0.6)
        if sample.arm == WITH
        else sample
        for sample in experiment(10, seed=8, rate=1.9, gap=0.5)
    ]
    assert judge(samples, seed=1).judgement is Judgement.KEEP


def test_too_few_pairs_are_refused_and_the_reason_is_told() -> None:
    samples = [
        replace(sample, rejected="foreign load: 12% of the CPUs") if sample.round > 4 else sample
        for sample in experiment(10, seed=9, rate=1.9)
    ]
    judged = judge(samples, seed=1)
    assert judged.judgement is Judgement.REFUSED
    assert "4 valid pairs, at least 7" in judged.because
    assert "12 blocks: foreign load" in judged.because


def test_bursts_leave_no_latency_to_judge() -> None:
    samples = [replace(sample, gaps_s=()) for sample in experiment(10, seed=10, rate=1.9)]
    judged = judge(samples, seed=1)
    assert judged.judgement is Judgement.KEEP
    assert all(effect.metric != "itl_p99" for effect in judged.effects)
    assert judge(samples, seed=1, rules=Rules(primary="itl_p99")).judgement is Judgement.REFUSED


def test_latency_can_be_the_primary_metric() -> None:
    judged = judge(experiment(10, seed=11, gap=0.6), seed=1, rules=Rules(primary="itl_p99"))
    assert judged.judgement is Judgement.KEEP
    assert judged.effects[0].metric == "itl_p99"


def test_several_antagonists_count_the_p_values_more_often() -> None:
    samples = experiment(8, seed=12, rate=1.9, gap=0.5)
    assert judge(samples, seed=1).judgement is Judgement.KEEP
    assert judge(samples, seed=1, rules=Rules(families=3)).judgement is Judgement.REFUSED  # 8 pairs cannot show it


def test_a_standstill_is_a_small_rate_and_no_error() -> None:
    samples = [
        replace(sample, work=0.0, seconds=(0.0,) * 10) if sample.arm == WITHOUT and sample.round else sample
        for sample in experiment(8, seed=13)
    ]
    assert judge(samples, seed=1).judgement is Judgement.KEEP


def test_pairs_need_both_blocks() -> None:
    samples = experiment(3, seed=14)
    assert len(pair_up(samples)) == 3
    assert len(pair_up([*samples[:2], replace(samples[2], rejected="late"), *samples[3:]])) == 2


def test_chance_alone_is_seldom_kept_or_reverted() -> None:
    """Placebos: the primary, both latencies' and the neighbour's noise of 5 % a block."""
    trials = 80
    verdicts = [judge(experiment(10, seed=100 + number, noise=0.05), seed=number).judgement for number in range(trials)]
    assert verdicts.count(Judgement.KEEP) <= trials * 0.05
    assert verdicts.count(Judgement.REVERT) <= trials * 0.08  # any of four metrics may seem to harm


def test_drift_over_an_abba_quad_cancels() -> None:
    from bedplate.prove.lab.schedule import order_blocks

    def drifting(noise: Callable[[int], float]) -> list[Sample]:
        return [
            block(planned.pair, WITH if planned.on else WITHOUT, rate=50 * noise(index), gap=0.02)
            for index, planned in enumerate(order_blocks(12, seed=3))
        ]

    judged = judge(drifting(lambda index: 1 + 0.02 * index), seed=1)
    assert judged.judgement is Judgement.NO_EFFECT
    assert judged.effects[0].ratio == pytest.approx(1, abs=0.002)
