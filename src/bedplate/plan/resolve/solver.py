"""Yes or no: whether a problem has an assignment, asked of resolvelib, whose backtracking pip has used for years.

resolvelib is imported when the first question is asked, since an image has only the standard library and resolves nothing.
Every key is a root, so that no constraint is missed; a candidate's dependencies are what its constraints leave of the other
keys. The answer is the first that resolvelib finds, not the best: choose.py asks again for each better candidate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bedplate.errors import PreflightError
from bedplate.plan.resolve.problem import Assignment, Constraint, Key, StackProblem

_MOST_ROUNDS = 100_000  # a round pins one key; a real catalogue needs dozens


class _Requirement(NamedTuple):
    """What is left of a key."""

    key: Key
    mask: int


class _Candidate(NamedTuple):
    """One candidate of a key, by the number of its bit."""

    key: Key
    number: int


def solve(problem: StackProblem, premises: Collection[str], pinned: Mapping[Key, int] | None = None) -> Assignment | None:
    """An assignment of every key that keeps all constraints of these premises; None where there is none.

    `pinned` are masks that a key must be within, beside the constraints. Raises PreflightError without resolvelib.
    """
    resolvelib = _import_resolvelib()
    active = frozenset(premises)
    left = {key: problem.full(key) for key in problem.order}
    for key, mask in (pinned or {}).items():
        left[key] &= mask
    pairs: dict[Key, list[Constraint]] = {key: [] for key in problem.order}
    for constraint in problem.constraints:
        if not constraint.premises <= active:
            continue
        if constraint.left == constraint.right:
            left[constraint.left] &= ~(constraint.left_mask & constraint.right_mask)
        else:
            pairs[constraint.left].append(constraint)
            pairs[constraint.right].append(constraint)
    if not _make_consistent(problem, left, pairs):
        return None
    _drop_equals(problem, left, pairs)
    pairs = _open_pairs(left, pairs)
    found = {key: _most_wanted(problem, key, left[key]) for key in problem.order if not pairs[key]}
    asked = [_Requirement(key, left[key]) for key in problem.order if pairs[key]]
    if asked:
        provider = _make_provider(resolvelib, problem, pairs)
        resolver: Any = resolvelib.Resolver(provider, resolvelib.BaseReporter())
        try:
            result = resolver.resolve(asked, max_rounds=_MOST_ROUNDS)
        except resolvelib.ResolutionImpossible:
            return None
        found |= {key: candidate.number for key, candidate in result.mapping.items()}
    return found


def _make_consistent(problem: StackProblem, left: dict[Key, int], pairs: Mapping[Key, Sequence[Constraint]]) -> bool:
    """Take out candidates that nothing of another key goes with, until nothing changes; False when a key has none left.

    resolvelib looks one step ahead only; without this it tries thousands of pairs that cannot matter.
    """
    waiting = dict.fromkeys(problem.order)
    while waiting:
        key = next(iter(waiting))
        del waiting[key]
        if not left[key]:
            return False
        for constraint in pairs[key]:
            near, far, other = constraint.left_mask, constraint.right_mask, constraint.right
            if constraint.left != key:
                near, far, other = far, near, constraint.left
            if not left[key] & ~near and left[other] & far:
                left[other] &= ~far
                waiting[other] = None
    return all(left.values())


def _open_pairs(left: Mapping[Key, int], pairs: Mapping[Key, Sequence[Constraint]]) -> dict[Key, list[Constraint]]:
    """Constraints that still exclude something; a key without one takes what it wants, unknown to resolvelib."""
    return {
        key: [
            constraint
            for constraint in constraints
            if constraint.left_mask & left[constraint.left] and constraint.right_mask & left[constraint.right]
        ]
        for key, constraints in pairs.items()
    }


def _most_wanted(problem: StackProblem, key: Key, mask: int) -> int:
    return next(number for number in problem.preference[key] if mask >> number & 1)


def _drop_equals(problem: StackProblem, left: dict[Key, int], pairs: Mapping[Key, Sequence[Constraint]]) -> None:
    """Of candidates that the constraints do not tell apart keep the most wanted."""
    for key in problem.order:
        seen: set[tuple[bool, ...]] = set()
        for number in problem.preference[key]:
            if not left[key] >> number & 1:
                continue
            told = tuple(
                bool((constraint.left_mask if constraint.left == key else constraint.right_mask) >> number & 1)
                for constraint in pairs[key]
            )
            if told in seen:
                left[key] &= ~(1 << number)
            seen.add(told)


def _import_resolvelib() -> Any:
    try:
        import resolvelib
    except ModuleNotFoundError as error:
        raise PreflightError(
            "a stack cannot be resolved: the Python package resolvelib is not installed",
            hint="Install bedplate with its extra packages for build hosts: pip install 'bedplate[host]'.",
        ) from error
    return resolvelib


def _make_provider(resolvelib: Any, problem: StackProblem, pairs: Mapping[Key, Sequence[Constraint]]) -> Any:
    """The five questions of resolvelib, answered from masks; a class of its own, because its base comes with the import."""
    position = {key: number for number, key in enumerate(problem.order)}

    class _Provider(resolvelib.AbstractProvider):  # type: ignore[misc]
        def identify(self, requirement_or_candidate: _Requirement | _Candidate) -> Key:
            return requirement_or_candidate.key

        def get_preference(
            self, identifier: Key, resolutions: Any, candidates: Any, information: Any, backtrack_causes: Any
        ) -> tuple[int, int]:
            return sum(1 for _ in candidates[identifier]), position[identifier]  # the fewest first: dead ends show early

        def find_matches(
            self,
            identifier: Key,
            requirements: Mapping[Key, Iterator[_Requirement]],
            incompatibilities: Mapping[Key, Iterator[_Candidate]],
        ) -> list[_Candidate]:
            mask = problem.full(identifier)
            for requirement in requirements[identifier]:
                mask &= requirement.mask
            for candidate in incompatibilities[identifier]:
                mask &= ~(1 << candidate.number)
            return [_Candidate(identifier, number) for number in problem.preference[identifier] if mask >> number & 1]

        def is_satisfied_by(self, requirement: _Requirement, candidate: _Candidate) -> bool:
            return bool(requirement.mask >> candidate.number & 1)

        def get_dependencies(self, candidate: _Candidate) -> Iterable[_Requirement]:
            left: dict[Key, int] = {}
            for constraint in pairs[candidate.key]:
                near, far, key = constraint.left_mask, constraint.right_mask, constraint.right
                if constraint.left != candidate.key:
                    near, far, key = far, near, constraint.left
                if near >> candidate.number & 1:
                    left[key] = left.get(key, problem.full(key)) & ~far
            return [_Requirement(key, mask) for key, mask in left.items()]

    return _Provider()
