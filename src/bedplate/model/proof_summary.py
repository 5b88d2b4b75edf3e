"""What several proofs, or a table of samples, say together: the values that a terminal and a page show.

prove/lab/summary.py computes them from the samples. "Kept" is the victim's rate beside the neighbour as a share of its rate
without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.model.proof import Judgement, Proof, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofSummary:
    """One experiment or several, as a reader meets them."""

    title: str
    """The setting or the plan; of a table, what it compares."""
    arms: tuple[str, ...]
    """The one to compare with first, ours last."""
    scenarios: tuple[Scenario, ...]
    facts: tuple[tuple[str, str], ...]
    """What it is valid for: ("machine", "2 CPUs, 24 GiB")."""
    command: str
    """Makes it again."""
    made: str
    proofs: tuple[Proof, ...] = ()
    """() for a table of samples that nobody judged."""
    judgement: Judgement | None = None
    """Of all proofs together; None for such a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One neighbour at one level, all arms; the neighbour is "" where there was none."""

    antagonist: str
    level_pct: int
    neighbour_name: str
    """What the catalog calls the neighbour: "matrix products on every CPU"; its id where the catalog lacks it."""
    samples: tuple[Sample, ...]
    """In the order in which they were taken; rejected ones among them."""
    quiet: tuple[Sample, ...]
    """What it is compared with: no neighbour, and the first arm."""
    results: tuple[ArmResult, ...]
    """One for each arm that has samples which count."""
    proof: Proof | None = None

    @property
    def description(self) -> str:
        """The neighbour in words; its name where the level is not the full one, which the words describe."""
        return self.neighbour_name if self.level_pct == 100 else self.name

    @property
    def name(self) -> str:
        """ "cpu.matrixprod at 100%"."""
        return f"{self.antagonist} at {self.level_pct}%" if self.antagonist else "no neighbour"

    def result(self, arm: str) -> ArmResult | None:
        """Of one arm; None when none of its blocks counts."""
        return next((result for result in self.results if result.arm == arm), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What one arm of a scenario reached, over its blocks that count."""

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


def worst_scenario(summary: ProofSummary) -> Scenario | None:
    """Where the first arm keeps least; None when no scenario has both the first and the last arm."""
    there = [
        scenario for scenario in summary.scenarios if scenario.result(summary.arms[0]) and scenario.result(summary.arms[-1])
    ]
    return min(there, key=lambda scenario: _share(scenario, summary.arms[0]), default=None)


def rejected_by_reason(summary: ProofSummary) -> tuple[tuple[str, int], ...]:
    """(why, blocks), the most frequent first."""
    reasons: dict[str, int] = {}
    for scenario in summary.scenarios:
        for sample in scenario.samples:
            if sample.rejected:
                reasons[sample.rejected] = reasons.get(sample.rejected, 0) + 1
    return tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def counted(summary: ProofSummary) -> int:
    """Blocks beside a neighbour that count."""
    return sum(1 for scenario in summary.scenarios for sample in scenario.samples if not sample.rejected)


def most_foreign(summary: ProofSummary) -> float:
    """The largest share of the CPUs that others took in a block that counts, quiet ones among them."""
    blocks = [
        sample for scenario in summary.scenarios for sample in (*scenario.quiet, *scenario.samples) if not sample.rejected
    ]
    return max((block.foreign_share for block in blocks), default=0.0)


def all_gaps(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Gaps of every block that counts."""
    return tuple(gap for sample in samples if not sample.rejected for gap in sample.gaps_s)


def _share(scenario: Scenario, arm: str) -> float:
    result = scenario.result(arm)
    return float("inf") if result is None else result.kept if result.kept is not None else result.rate
