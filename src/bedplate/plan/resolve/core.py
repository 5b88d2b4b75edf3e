"""The smallest set of premises that is impossible: without any one of them the wish could be met.

Deletion: premises are given up in a fixed order, each for good if what remains is still impossible. Many are given up at
once where that is possible, which gives the same set with fewer questions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bedplate.plan.resolve.problem import Key, StackProblem
from bedplate.plan.resolve.solver import solve


def find_core(problem: StackProblem, premises: Collection[str], pinned: Mapping[Key, int] | None = None) -> tuple[str, ...]:
    """Ids of a minimal impossible set, by rank; () where it is impossible without any premise.

    The caller knows that all of `premises` together are impossible.
    """
    waiting = sorted(premises, reverse=True)
    waiting.sort(key=lambda id: (problem.premises[id].rank, -problem.premises[id].order))
    needed: list[str] = []
    step = len(waiting)
    while waiting:
        step = min(step, len(waiting))
        dropped, rest = waiting[:step], waiting[step:]
        if solve(problem, [*needed, *rest], pinned) is None:
            waiting = rest
            step *= 2
        elif step == 1:
            needed += dropped
            waiting = rest
        else:
            step = (step + 1) // 2
    return tuple(needed)
