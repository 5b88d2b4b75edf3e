"""How the memory of a machine is divided between its engines, their neighbours and the system. Pure; all in bytes.

    reserve  = 64 MiB + 2 % of RAM                              of what is free, for the system itself
    low      = min(1.1 * held, 0.9 * RAM - reserve)             floor under what the engines hold
    spare    = MemAvailable - cached - growth - reserve         what neighbours can still take without harm
    bound    = kept + spare                                     of one neighbour, not less than its floor

`cached` is what of MemAvailable is the engines' own: the kernel counts their mapped weights as free, because it could drop
them. `growth` is what engines are promised and do not hold yet, `kept` what the neighbour holds and cannot give back.
A bound of RAM less the engines' floors was above what was free, since the system's own memory was in it: beside a neighbour
that might grow to 1,258 MiB where 1,220 were available an engine lost half of its tokens.

This is the only place that decides these numbers: serving refuses a model by them (plan/limits.py), the audit judges a host
by them, `bedplate tune` sets them, and the guard goes no lower than the floor.
"""

from __future__ import annotations

from bedplate.model.units import GIB, MIB


def reserve_bytes(total: int) -> int:
    """What is left to the system of that which is free: page tables, the kernel's caches, its libraries, a login."""
    return 64 * MIB + total // 50


def floor_bytes(total: int) -> int:
    """What a neighbour keeps in any case: a login and a package manager live in it."""
    return min(GIB, max(128 * MIB, total // 20))


def wanted_bytes(held: int) -> int:
    """What an engine that holds so much should be sure of."""
    return held * 11 // 10


def most_protected_bytes(total: int) -> int:
    """What all engines together can be sure of."""
    return max(0, total * 9 // 10 - reserve_bytes(total))


def most_neighbour_bytes(total: int, low: int) -> int:
    """What a neighbour can have at most beside engines that are sure of low, whatever else the machine holds."""
    return max(total - low - reserve_bytes(total), floor_bytes(total))


def spare_bytes(*, total: int, available: int, cached: int, growth: int) -> int:
    """What all neighbours can still take before the kernel takes from the engines; 0 where they hold too much already.

    available is MemAvailable; cached are the engines' pages that it counts as available; growth is what engines are promised
    and do not hold yet. The kernel's watermarks and all memory that cannot be evicted are outside MemAvailable already.
    """
    return max(0, available - cached - growth - reserve_bytes(total))


def neighbour_bytes(*, total: int, kept: int, spare: int) -> int:
    """The bound on a neighbour that holds kept and cannot give it back; a bound below that would kill it at once."""
    headroom = max(64 * MIB, kept // 8)  # a plan is some seconds old when it is applied, and the group may have grown
    return max(kept + spare, kept + headroom, floor_bytes(total))


def slowed_bytes(*, total: int, kept: int, bound: int, has_swap: bool) -> int:
    """Where a neighbour with a bound is slowed before it is ended: an eighth below it with swap, not at all without.

    Without swap the kernel cannot take anonymous memory from it: past memory.high each of its threads sleeps up to two
    seconds at a time (mm/memcontrol.c, mem_cgroup_handle_over_high), and it lingers at the edge and holds all that it has.
    At the bound itself its page cache is reclaimed all the same, and then it is ended.
    """
    return min(bound, max(bound - bound // 8, kept, floor_bytes(total))) if has_swap else bound
