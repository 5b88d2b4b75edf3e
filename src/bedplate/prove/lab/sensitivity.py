"""Causal probes: a little of each resource is taken away, and how much worse the victim gets is the slope.

It ranks what this engine is sensitive to, before anything is tuned: a knob that protects a resource with a slope of 0 has
nothing to give here. Only for a machine that is otherwise idle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.host.root.root import Root
from bedplate.model.percentile import percentile
from bedplate.model.progress import Progress
from bedplate.model.proof import Sample
from bedplate.prove.gauge.sampler import MOST_FOREIGN, take_snapshot, usage_between
from bedplate.prove.gauge.statistics import bca_interval, mean
from bedplate.prove.lab.experiment import Neighbour, measure_block
from bedplate.prove.lab.schedule import Timing
from bedplate.prove.lab.victims import Victim


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """d(metric) / d(noise): by how many percent it gets worse for each percent of the resource that is taken."""

    antagonist: str
    kind: str
    level_pct: int
    latency_slope: float
    """Of the median gap between tokens or steps; 0.5: 10 % of noise made it 5 % longer."""
    latency_low: float
    latency_high: float
    tail_slope: float
    """Of the 99th percentile."""
    rate_slope: float
    """Of the work that was lost."""
    pairs: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a victim is sensitive to on this machine, and every block that says so, rejected ones too."""

    sensitivities: tuple[Sensitivity, ...]
    """The steepest first."""
    samples: tuple[Sample, ...]


def probe(
    victim: Victim,
    neighbours: Sequence[Neighbour],
    *,
    timing: Timing,
    seed: int,
    progress: Progress,
    most_foreign: float = MOST_FOREIGN,
) -> Profile:
    """Quiet and noisy blocks in turns for each neighbour, ranked by the slope of the median gap."""
    began = time.monotonic()
    samples: list[Sample] = []
    found: list[Sensitivity] = []
    for neighbour in neighbours:
        pairs: list[tuple[Sample, Sample]] = []
        for number in range(timing.pairs):
            progress.detail(f"{neighbour.antagonist.id} at {neighbour.level_pct} %, pair {number + 1} of {timing.pairs}")
            beside = (None, neighbour) if number % 2 == 0 else (neighbour, None)
            two = [
                measure_block(
                    victim, antagonist, timing, confined=antagonist is not None, began=began, most_foreign=most_foreign
                )
                for antagonist in beside
            ]
            samples += two
            quiet, noisy = two if number % 2 == 0 else (two[1], two[0])
            if not quiet.rejected and not noisy.rejected and quiet.gaps_s and noisy.gaps_s:
                pairs.append((quiet, noisy))
        one = summarise_pairs(neighbour, pairs, rejected=timing.pairs - len(pairs), seed=seed)
        if one is None:
            progress.note(
                f"{neighbour.antagonist.id}: too few blocks count ({samples[-1].rejected or samples[-2].rejected})"
            )
        else:
            found.append(one)
    found.sort(key=lambda sensitivity: -sensitivity.latency_slope)
    return Profile(sensitivities=tuple(found), samples=tuple(samples))


def summarise_pairs(
    neighbour: Neighbour, pairs: Sequence[tuple[Sample, Sample]], *, rejected: int, seed: int
) -> Sensitivity | None:
    """None with fewer than two pairs."""
    if len(pairs) < 2:
        return None
    noise = neighbour.level_pct / 100

    def slopes(percent: float) -> list[float]:
        return [
            (percentile(noisy.gaps_s, percent) / percentile(quiet.gaps_s, percent) - 1) / noise for quiet, noisy in pairs
        ]

    lost = [(1 - (noisy.work / noisy.duration_s) / (quiet.work / quiet.duration_s)) / noise for quiet, noisy in pairs]
    low, high = bca_interval(slopes(50), seed=seed)
    return Sensitivity(
        antagonist=neighbour.antagonist.id,
        kind=neighbour.antagonist.kind,
        level_pct=neighbour.level_pct,
        latency_slope=mean(slopes(50)),
        latency_low=low,
        latency_high=high,
        tail_slope=mean(slopes(99)),
        rate_slope=mean(lost),
        pairs=len(pairs),
        rejected=rejected,
    )


def busy_share(interval_s: float = 1.0) -> float:
    """Share of the machine's CPU time that is used now: the probes are for an idle one."""
    before = take_snapshot(Root())
    time.sleep(interval_s)
    return usage_between(before, take_snapshot(Root()), own=(os.getpid(),)).foreign_share
