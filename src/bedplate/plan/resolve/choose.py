"""The best stack of those that are possible: the first in the order of preference, component after component.

resolvelib's answer is only the start. For each component, in order, each candidate that is wanted more than the answer's is
tried; the first that is still possible is taken. So the result is the lexicographic optimum, whatever resolvelib found.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace

from bedplate.model.stack import StackRelease
from bedplate.plan.resolve.build import same_release
from bedplate.plan.resolve.problem import Assignment, Constraint, Key, Premise, PremiseRank, StackProblem
from bedplate.plan.resolve.solver import solve

_MOST_CHANGED = 3  # components of a present lock whose sets are tried one by one; past that the lock is made from the top


def choose(problem: StackProblem, premises: Collection[str], pinned: Mapping[Key, int] | None = None) -> Assignment | None:
    """The first assignment in the order of preference; None where there is none."""
    found = solve(problem, premises, pinned)
    if found is None:
        return None
    fixed = dict(pinned or {})
    for key in problem.order:
        for number in problem.preference[key]:
            mask = 1 << number
            if not mask & fixed.get(key, mask):
                continue
            if number == found[key]:
                fixed[key] = mask
                break
            better = solve(problem, premises, {**fixed, key: mask})
            if better is not None:
                found, fixed = better, {**fixed, key: mask}
                break
    return found


def choose_near(problem: StackProblem, premises: Collection[str], present: Mapping[Key, StackRelease]) -> Assignment | None:
    """As `choose`, with as few components as possible that differ from the present ones.

    Sets of up to three components are released one by one; where that is not enough, each component keeps its present
    release where the components before it allow.
    """
    pins = present_masks(problem, present)
    for size in range(min(_MOST_CHANGED, len(pins)) + 1):
        for changed in itertools.combinations(pins, size):
            kept = {key: mask for key, mask in pins.items() if key not in changed}
            if solve(problem, premises, kept) is not None:
                return choose(problem, premises, kept)
    return choose(problem, premises)


def present_masks(problem: StackProblem, present: Mapping[Key, StackRelease]) -> dict[Key, int]:
    """The candidate of each key that a present lock has; keys and releases that the problem does not know are left out."""
    masks: dict[Key, int] = {}
    for key in problem.order:
        if key in present:
            for number, release in enumerate(problem.candidates[key]):
                if release is not None and same_release(release, present[key]):
                    masks[key] = 1 << number
    return masks


def with_choices(problem: StackProblem, chosen: Mapping[Key, int], *, why: str) -> StackProblem:
    """The problem with each of these choices as a premise: "vllm 0.19.1 (cuda, pypi) is chosen" for why="is chosen"."""
    premises = dict(problem.premises)
    constraints: list[Constraint] = []
    for key, number in chosen.items():
        release = problem.candidates[key][number]
        name = f"{key[0]} ({key[1] or 'host'}) absent" if release is None else release.label
        premise = Premise(id=f"choice {key} {name}", rank=PremiseRank.CHOICE, sentence=f"{name} {why}", relaxes=key)
        premises[premise.id] = premise
        others = problem.full(key) & ~(1 << number)
        constraints.append(
            Constraint(premises=frozenset({premise.id}), left=key, left_mask=others, right=key, right_mask=others)
        )
    return replace(problem, premises=premises, constraints=(*problem.constraints, *constraints))
