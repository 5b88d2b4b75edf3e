"""Proofs and samples summed up for a reader: kept shares with intervals, tails, what the neighbour kept. Pure but for the
catalog's names of antagonists.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bedplate.catalog.antagonists import read_antagonists
from bedplate.model.percentile import percentile
from bedplate.model.proof import Proof, Sample
from bedplate.model.proof_summary import ArmResult, ProofSummary, Scenario
from bedplate.prove.gauge.judge import WITH, WITHOUT
from bedplate.prove.gauge.statistics import bca_interval
from bedplate.prove.lab.experiment import overall

_SEED = 1


def summarise_proofs(proofs: Sequence[Proof]) -> ProofSummary:
    """One subject beside one antagonist or several. Raises ValueError without proofs."""
    if not proofs:
        raise ValueError("a summary needs at least one proof")
    first = proofs[0]
    scenarios: list[Scenario] = []
    for proof in proofs:
        quiet = tuple(sample for sample in proof.samples if sample.round == 0 and not sample.antagonist)
        blocks = [sample for sample in proof.samples if sample.round > 0 or sample.antagonist]
        scenarios += [
            _make_scenario([sample for sample in blocks if _place(sample) == place], quiet, (WITHOUT, WITH), proof)
            for place in dict.fromkeys(map(_place, blocks))
        ]
    facts = [
        ("machine", first.machine),
        ("kernel", first.kernel),
        ("driver", first.driver),
        ("engine", first.engine),
        ("measured on", first.victim),
        ("seed", str(first.seed)),
    ]
    return ProofSummary(
        title=first.subject,
        arms=(WITHOUT, WITH),
        scenarios=tuple(scenarios),
        facts=tuple((name, text) for name, text in facts if text),
        command=first.command,
        made=first.made,
        proofs=tuple(proofs),
        judgement=overall(proofs),
    )


def summarise_samples(
    samples: Sequence[Sample],
    *,
    title: str,
    arms: Sequence[str],
    facts: Sequence[tuple[str, str]] = (),
    command: str = "",
    made: str = "",
) -> ProofSummary:
    """A table of many arms ("stock", "nice -10", "bedplate"), the first of which everything is compared with.

    Samples without an antagonist are the quiet ones; those of the first arm are 100 %, and all arms' are a scenario.
    """
    quiet = tuple(sample for sample in samples if not sample.antagonist and sample.arm == arms[0])
    places = dict.fromkeys(map(_place, samples))
    return ProofSummary(
        title=title,
        arms=tuple(arms),
        scenarios=tuple(
            _make_scenario([sample for sample in samples if _place(sample) == place], quiet, arms, None) for place in places
        ),
        facts=tuple(facts),
        command=command,
        made=made,
    )


def rate_of(samples: Sequence[Sample]) -> float | None:
    """Work a second, the median of the blocks that count; None without any."""
    rates = [sample.work / sample.duration_s for sample in samples if not sample.rejected and sample.duration_s > 0]
    return percentile(rates, 50) if rates else None


@functools.cache
def _names() -> dict[str, str]:
    return {row.id: row.name for row in read_antagonists()}


def _make_scenario(
    blocks: Sequence[Sample], quiet: tuple[Sample, ...], arms: Sequence[str], proof: Proof | None
) -> Scenario:
    antagonist, level = _place(blocks[0])
    base = rate_of(quiet)
    p99s = [percentile(sample.gaps_s, 99) for sample in quiet if sample.gaps_s and not sample.rejected]
    quiet_p99 = percentile(p99s, 50) if p99s else None
    results: list[ArmResult] = []
    first_work: float | None = None
    for arm in arms:
        valid = [sample for sample in blocks if sample.arm == arm and not sample.rejected and sample.duration_s > 0]
        if not valid:
            continue
        works = [sample.neighbour_work / sample.duration_s for sample in valid] if antagonist else []
        work = percentile(works, 50) if works else None
        if arm == arms[0]:
            first_work = work
        results.append(_arm_result(arm, valid, base, quiet_p99, work, first_work))
    return Scenario(
        antagonist=antagonist,
        level_pct=level,
        neighbour_name=_names().get(antagonist, antagonist),
        samples=tuple(blocks),
        quiet=quiet,
        results=tuple(results),
        proof=proof,
    )


def _arm_result(
    arm: str, valid: Sequence[Sample], base: float | None, quiet_p99: float | None, work: float | None, first: float | None
) -> ArmResult:
    rates = [sample.work / sample.duration_s for sample in valid]
    rate = percentile(rates, 50)
    low = high = None
    if base and len(rates) >= 2:
        low, high = bca_interval([rate / base for rate in rates], seed=_SEED, small_sample=len(rates) > 3)
    p50s = [percentile(sample.gaps_s, 50) for sample in valid if sample.gaps_s]
    p99s = [percentile(sample.gaps_s, 99) for sample in valid if sample.gaps_s]
    p99 = percentile(p99s, 50) if p99s else None
    had = sum(sample.neighbour_cpu_s for sample in valid)
    left = had + sum(sample.idle_cpu_s for sample in valid)
    return ArmResult(
        arm=arm,
        blocks=len(valid),
        rate=rate,
        kept=rate / base if base else None,
        low=low,
        high=high,
        gap_p50_s=percentile(p50s, 50) if p50s else None,
        gap_p99_s=p99,
        times_p99=p99 / quiet_p99 if p99 is not None and quiet_p99 else None,
        neighbour=work / first if work is not None and first else None,
        left_over=had / left if left > 0 and work is not None else None,
    )


def _place(sample: Sample) -> tuple[str, int]:
    return sample.antagonist, sample.level_pct
