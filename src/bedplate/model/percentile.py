"""One definition of a percentile for what judges samples and for what draws them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (type 7, as numpy's default). Raises ValueError without values."""
    if not values:
        raise ValueError("no values have no percentile")
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is not between 0 and 100")
    ordered = sorted(values)
    where = (len(ordered) - 1) * percent / 100
    below = math.floor(where)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (where - below)
