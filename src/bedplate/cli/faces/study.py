"""What the pages and tables of a proof show, computed once from its samples: kept shares, tails, what the neighbour kept.

"Kept" is the victim's rate beside the neighbour as a share of its rate without one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.catalog.antagonists import read_antagonists
from bedplate.model.proof import Judgement, Proof, Sample
from bedplate.prove.statistics import bca_interval, percentile

WITHOUT, WITH = "without", "with"
_SEED = 1
_ORDER = (Judgement.REVERT, Judgement.KEEP, Judgement.NO_EFFECT, Judgement.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One experiment or several, as a reader meets them."""

    title: str
    """The setting or the plan; of a table, what it compares."""
    arms: tuple[str, ...]
    """The one to compare with first, ours last."""
    cases: tuple[Case, ...]
    facts: tuple[tuple[str, str], ...]
    """What it is valid for: ("machine", "2 CPUs, 24 GiB")."""
    command: str
    """Makes it again."""
    made: str
    proofs: tuple[Proof, ...] = ()
    """() for a table of samples that nobody judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One neighbour at one level, all arms; the neighbour is "" where there was none."""

    antagonist: str
    level_pct: int
    samples: tuple[Sample, ...]
    """In the order in which they were taken; rejected ones among them."""
    quiet: tuple[Sample, ...]
    """What it is compared with: no neighbour, and the first arm."""
    outcomes: tuple[Outcome, ...]
    """One for each arm that has samples which count."""
    proof: Proof | None = None

    @property
    def words(self) -> str:
        """The neighbour in words, where the catalog has it: "matrix products on every CPU"; its name otherwise."""
        return _names().get(self.antagonist, self.antagonist) if self.level_pct == 100 else self.name

    @property
    def name(self) -> str:
        """ "cpu.matrixprod at 100%"."""
        return f"{self.antagonist} at {self.level_pct}%" if self.antagonist else "no neighbour"

    def outcome(self, arm: str) -> Outcome | None:
        """Of one arm; None when none of its blocks counts."""
        return next((one for one in self.outcomes if one.arm == arm), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    arm: str
    blocks: int
    rate: float
    """Work a second, the median over the blocks."""
    kept: float | None
    """Of the quiet rate; None without quiet blocks."""
    low: float | None
    high: float | None
    """95 % bootstrap interval of `kept`; None for fewer than two blocks."""
    gap_p50_s: float | None
    gap_p99_s: float | None
    """Median over the blocks; None where there are no gaps."""
    times_p99: float | None
    """gap_p99_s against the quiet one."""
    neighbour: float | None
    """The neighbour's own work a second as a share of the first arm's."""
    left_over: float | None
    """Share of the CPU time that the victim did not use that the neighbour got: what it was not denied."""


def study_of_proofs(proofs: Sequence[Proof]) -> Study:
    """One subject beside one antagonist or several. Raises ValueError without proofs."""
    if not proofs:
        raise ValueError("a study needs at least one proof")
    first = proofs[0]
    cases: list[Case] = []
    for proof in proofs:
        quiet = tuple(one for one in proof.samples if one.round == 0 and not one.antagonist)
        blocks = [one for one in proof.samples if one.round > 0 or one.antagonist]
        cases += [
            _make_case([one for one in blocks if _place(one) == place], quiet, (WITHOUT, WITH), proof)
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
    return Study(
        title=first.subject,
        arms=(WITHOUT, WITH),
        cases=tuple(cases),
        facts=tuple((name, text) for name, text in facts if text),
        command=first.command,
        made=first.made,
        proofs=tuple(proofs),
    )


def study_of_samples(
    samples: Sequence[Sample],
    *,
    title: str,
    arms: Sequence[str],
    facts: Sequence[tuple[str, str]] = (),
    command: str = "",
    made: str = "",
) -> Study:
    """A table of many arms ("stock", "nice -10", "bedplate"), the first of which everything is compared with.

    Samples without an antagonist are the quiet ones; those of the first arm are 100 %, and all arms' are a case.
    """
    quiet = tuple(one for one in samples if not one.antagonist and one.arm == arms[0])
    places = dict.fromkeys(map(_place, samples))
    return Study(
        title=title,
        arms=tuple(arms),
        cases=tuple(_make_case([one for one in samples if _place(one) == place], quiet, arms, None) for place in places),
        facts=tuple(facts),
        command=command,
        made=made,
    )


def overall(study: Study) -> Judgement | None:
    """Harm beside any neighbour reverts, a gain beside one and harm beside none keeps; None for a table."""
    verdicts = {one.judgement for one in study.proofs}
    return next((one for one in _ORDER if one in verdicts), None)


def worst_case(study: Study) -> Case | None:
    """Where the first arm keeps least: what the study is about. None when no case has both the first and the last arm."""
    there = [one for one in study.cases if one.outcome(study.arms[0]) and one.outcome(study.arms[-1])]
    return min(there, key=lambda one: _share(one, study.arms[0]), default=None)


def rejected_by_reason(study: Study) -> tuple[tuple[str, int], ...]:
    """(why, blocks), the most frequent first."""
    reasons: dict[str, int] = {}
    for case in study.cases:
        for one in case.samples:
            if one.rejected:
                reasons[one.rejected] = reasons.get(one.rejected, 0) + 1
    return tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def counted(study: Study) -> int:
    """Blocks beside a neighbour that count."""
    return sum(1 for case in study.cases for one in case.samples if not one.rejected)


def most_foreign(study: Study) -> float:
    """The largest share of the CPUs that others took in a block that counts, quiet ones among them."""
    blocks = [one for case in study.cases for one in (*case.quiet, *case.samples) if not one.rejected]
    return max((one.foreign_share for one in blocks), default=0.0)


def all_gaps(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Gaps of every block that counts."""
    return tuple(gap for one in samples if not one.rejected for gap in one.gaps_s)


def rate_of(samples: Sequence[Sample]) -> float | None:
    """Work a second, the median of the blocks that count; None without any."""
    rates = [one.work / one.duration_s for one in samples if not one.rejected and one.duration_s > 0]
    return percentile(rates, 50) if rates else None


@functools.cache
def _names() -> dict[str, str]:
    return {row.id: row.name for row in read_antagonists()}


def _make_case(blocks: Sequence[Sample], quiet: tuple[Sample, ...], arms: Sequence[str], proof: Proof | None) -> Case:
    antagonist, level = _place(blocks[0])
    base = rate_of(quiet)
    p99s = [percentile(one.gaps_s, 99) for one in quiet if one.gaps_s and not one.rejected]
    quiet_p99 = percentile(p99s, 50) if p99s else None
    outcomes: list[Outcome] = []
    first_work: float | None = None
    for arm in arms:
        valid = [one for one in blocks if one.arm == arm and not one.rejected and one.duration_s > 0]
        if not valid:
            continue
        works = [one.neighbour_work / one.duration_s for one in valid] if antagonist else []
        work = percentile(works, 50) if works else None
        if arm == arms[0]:
            first_work = work
        outcomes.append(_outcome(arm, valid, base, quiet_p99, work, first_work))
    return Case(
        antagonist=antagonist,
        level_pct=level,
        samples=tuple(blocks),
        quiet=quiet,
        outcomes=tuple(outcomes),
        proof=proof,
    )


def _outcome(
    arm: str, valid: Sequence[Sample], base: float | None, quiet_p99: float | None, work: float | None, first: float | None
) -> Outcome:
    rates = [one.work / one.duration_s for one in valid]
    rate = percentile(rates, 50)
    low = high = None
    if base and len(rates) >= 2:
        low, high = bca_interval([one / base for one in rates], seed=_SEED, small_sample=len(rates) > 3)
    p50s = [percentile(one.gaps_s, 50) for one in valid if one.gaps_s]
    p99s = [percentile(one.gaps_s, 99) for one in valid if one.gaps_s]
    p99 = percentile(p99s, 50) if p99s else None
    had = sum(one.neighbour_cpu_s for one in valid)
    left = had + sum(one.idle_cpu_s for one in valid)
    return Outcome(
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


def _share(case: Case, arm: str) -> float:
    outcome = case.outcome(arm)
    return float("inf") if outcome is None else outcome.kept if outcome.kept is not None else outcome.rate
