"""The order and the length of blocks."""

from __future__ import annotations

import pytest

from bedplate.errors import UsageError
from bedplate.prove.lab.schedule import order_blocks, time_blocks


def test_each_four_are_abba_or_baab_and_both_come() -> None:
    blocks = order_blocks(40, seed=1)
    fours = {tuple(block.on for block in blocks[first : first + 4]) for first in range(0, 80, 4)}
    assert fours == {(True, False, False, True), (False, True, True, False)}


@pytest.mark.parametrize("pairs", [1, 2, 7, 8])
def test_each_pair_has_both_arms(pairs: int) -> None:
    blocks = order_blocks(pairs, seed=5, first_pair=11)
    assert sorted((block.pair, block.on) for block in blocks) == [
        (pair, on) for pair in range(11, 11 + pairs) for on in (False, True)
    ]


def test_the_same_seed_gives_the_same_order() -> None:
    assert order_blocks(10, seed=1) == order_blocks(10, seed=1)
    assert len({order_blocks(10, seed=seed) for seed in range(20)}) > 5


def test_a_budget_is_kept() -> None:
    timing = time_blocks(budget_s=1200, pairs=10, antagonists=1)
    assert timing.estimate_s == pytest.approx(1200)
    assert 40 < timing.block_s < 50 and 9 < timing.wash_s <= 15
    assert time_blocks(budget_s=1200, pairs=10, antagonists=2).estimate_s * 2 == pytest.approx(1200)


def test_given_lengths_are_taken() -> None:
    timing = time_blocks(budget_s=1, pairs=8, antagonists=1, block_s=2.0)
    assert (timing.block_s, timing.wash_s) == (2.0, 0.4)


@pytest.mark.parametrize(
    ("budget_s", "pairs", "block_s"), [(10, 10, None), (1200, 1, None), (1200, 10, 0.5), (1200, 500, None)]
)
def test_what_cannot_be_is_refused(budget_s: float, pairs: int, block_s: float | None) -> None:
    with pytest.raises(UsageError):
        time_blocks(budget_s=budget_s, pairs=pairs, antagonists=1, block_s=block_s)
