"""The order of blocks, how long each takes, and how long the whole will take. Pure.

Blocks come in fours, ABBA or BAAB by lot: a drift over the four cancels, and neither arm is always first. After each switch
a wash-out passes unmeasured, in which caches and queues of the other arm run empty.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from bedplate.errors import UsageError

LEAST_BLOCK_S = 1.0
QUIET_BLOCKS = 2
_WASH_SHARE, _MOST_WASH_S = 0.2, 15.0  # of a block with its wash-out
_START_S = 1.0  # starting and ending the antagonist


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a pair, with or without the change."""

    pair: int
    """From 1."""
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an experiment beside one antagonist takes: each block is measured after a wash-out that is not."""

    pairs: int
    block_s: float
    wash_s: float
    overhead_s: float = _START_S

    @property
    def blocks(self) -> int:
        """How many blocks are measured: two a pair, and the quiet ones without a neighbour."""
        return self.pairs * 2 + QUIET_BLOCKS

    @property
    def estimate_s(self) -> float:
        """Of one antagonist, when no block is rejected."""
        return self.blocks * (self.block_s + self.wash_s + self.overhead_s)


def order_blocks(pairs: int, *, seed: int, first_pair: int = 1) -> tuple[Block, ...]:
    """Blocks of so many pairs; of an odd number the last four are cut to two."""
    chance = random.Random(f"{seed}:{first_pair}")
    blocks: list[Block] = []
    for quad in range((pairs + 1) // 2):
        on = chance.random() < 0.5
        arms = (on, not on, not on, on)
        blocks += [Block(pair=first_pair + quad * 2 + index // 2, on=arm) for index, arm in enumerate(arms)]
    return tuple(blocks[: pairs * 2])


def time_blocks(
    *, budget_s: float, pairs: int, antagonists: int, block_s: float | None = None, wash_s: float | None = None
) -> Timing:
    """Block and wash-out that fit the budget; given lengths stay as they are. Raises UsageError when it is too short."""
    if pairs < 2:
        raise UsageError(f"--pairs {pairs}: expected 2 or more")
    turn_s = budget_s / antagonists / (pairs * 2 + QUIET_BLOCKS) - _START_S
    if block_s is None:
        wash_s = min(_MOST_WASH_S, turn_s * _WASH_SHARE) if wash_s is None else wash_s
        block_s = turn_s - wash_s
        if block_s < LEAST_BLOCK_S:
            least = (LEAST_BLOCK_S / (1 - _WASH_SHARE) + _START_S) * (pairs * 2 + QUIET_BLOCKS) * antagonists
            raise UsageError(
                f"--budget: {budget_s:.0f} s is too short for {pairs} pairs beside {antagonists} antagonists",
                hint=f"Give at least {least:.0f}s; blocks of a minute are better: {least * 30:.0f}s.",
            )
    if wash_s is None:
        wash_s = min(_MOST_WASH_S, block_s * _WASH_SHARE)
    if block_s < LEAST_BLOCK_S or wash_s < 0:
        raise UsageError(f"--block-s: {block_s:g} s, expected at least {LEAST_BLOCK_S:g}")
    return Timing(pairs=pairs, block_s=block_s, wash_s=wash_s)
