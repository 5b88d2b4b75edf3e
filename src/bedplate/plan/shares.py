"""How the memory of a machine is divided between its engines, their neighbours and the system. Pure; all in bytes.

    reserve  = max(3 % of RAM, min(2 GiB, 10 % of RAM))         for the system itself
    low      = min(1.1 * held, 0.9 * RAM - reserve)             floor under what the engines hold
    high     = RAM - low - reserve                              bound on the neighbours, not less than their floor

The audit judges a host by these, and `bedplate tune` sets them.
"""

from __future__ import annotations

from bedplate.model.units import GIB, MIB


def reserve_bytes(total: int) -> int:
    """What the system itself needs; 3 % of a large machine, a tenth of a small one."""
    return max(total * 3 // 100, min(2 * GIB, total // 10))


def floor_bytes(total: int) -> int:
    """What a neighbour keeps in any case: a login and a package manager live in it."""
    return max(128 * MIB, total // 20)


def wanted_bytes(held: int) -> int:
    """What an engine that holds so much should be sure of."""
    return held * 11 // 10


def most_protected_bytes(total: int) -> int:
    """What all engines together can be sure of."""
    return max(0, total * 9 // 10 - reserve_bytes(total))


def neighbour_bytes(total: int, low: int) -> int:
    """What neighbours may have beside engines that are sure of low."""
    return max(total - low - reserve_bytes(total), floor_bytes(total))
