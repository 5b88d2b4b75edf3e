"""Make room before a model is refused: whose memory is asked for first, and how much. Pure.

Reclaim comes before the load instead of during it, where the engine itself would stall in it. Only background work and
neighbours are asked, in this order; never the system, never an engine. What cannot be written to swap stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.room import Reclaim

YIELDING = ("background.slice", "neighbour.slice")
_MARGIN = 1.1  # what is reclaimed comes partly back before the load is over


def plan_room(missing_bytes: int, held: Sequence[tuple[str, int]]) -> tuple[Reclaim, ...]:
    """What to reclaim, in order, so that missing_bytes more are available; () when the yielding groups hold less than that.

    held is (group, memory.current). plan_room(100, [("background.slice", 80), ("neighbour.slice", 500)]) asks for 80 bytes
    of the first and 30 of the second: a tenth is for what comes back.
    """
    wanted = int(missing_bytes * _MARGIN)
    holds = dict(held)
    if missing_bytes <= 0 or sum(holds.get(group, 0) for group in YIELDING) < missing_bytes:
        return ()
    asked: list[Reclaim] = []
    for group in YIELDING:
        size = min(holds.get(group, 0), wanted)
        if size > 0:
            asked.append(Reclaim(group=group, size_bytes=size))
            wanted -= size
    return tuple(asked)
