"""Which weight gives which share of the CPUs when all are busy. Pure.

    engine   = OTHERS * (100 - floor) / floor       so that one sibling at OTHERS is sure of the floor; MOST without a floor
    system   = engine * share / (100 - share)       so that the service manager and logins are sure of theirs

A weight is a share among siblings (cgroup-v2.rst, cpu.weight). The engine's comes down to a floor, the others' do not go up:
whatever has no weight of its own has OTHERS, and threads of the kernel itself (reclaim, writeback, the reaper of the OOM
killer) stand beside the slices with the same 100. At 10000 all of them together had a hundredth of the CPUs, and a compile
beside a busy engine finished no file in ten seconds.
"""

from __future__ import annotations

OTHERS = 100
"""cpu.weight of everything that nobody weighed, and of a thread of the kernel."""
MOST = 10_000


def engine_weight(floor_pct: int) -> int:
    """Weight of an engine's group at each level where a sibling at OTHERS is to be sure of the floor, in percent.

    0 is no floor. Rounded down: the floor holds.
    """
    return min(MOST, OTHERS * (100 - floor_pct) // floor_pct) if floor_pct else MOST


def system_weight(engine: int, share_pct: int) -> int:
    """Weight of the service manager and of logins beside an engine of this weight; more than OTHERS in any case."""
    return max(OTHERS + 1, -(-engine * share_pct // (100 - share_pct)))
