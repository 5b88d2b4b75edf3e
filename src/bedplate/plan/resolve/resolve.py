"""The way in: a wish, the hardware and the catalogue make a lock, or a conflict that says why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bedplate.errors import UsageError
from bedplate.model.stack import (
    FIXED_SUBJECTS,
    ChosenRelease,
    FactKind,
    JudgedModel,
    ReasonLink,
    StackCatalogue,
    StackConflict,
    StackHardware,
    StackLock,
    StackPolicy,
    StackRelease,
    StackWish,
)
from bedplate.model.version_condition import VersionCondition
from bedplate.plan.resolve.build import make_problem, same_release
from bedplate.plan.resolve.choose import choose, choose_near, with_choices
from bedplate.plan.resolve.explain import explain_conflict, held_back_by, make_chain
from bedplate.plan.resolve.problem import Assignment, Constraint, Key, StackProblem, broken


def resolve(
    wish: StackWish,
    hardware: StackHardware,
    catalogue: StackCatalogue,
    present: StackLock | None = None,
    *,
    models: Sequence[JudgedModel] = (),
) -> StackLock | StackConflict:
    """The best stack that keeps every row, or the shortest chain of facts that excludes the wish.

    The same arguments always give the same answer. `present` is the lock in force: policy "stable" changes as little of it
    as possible, "pinned" nothing, "newest" ignores it. `models` are those of the wish that the catalogue has. Raises
    UsageError for what the catalogue does not know, and where "pinned" has no present lock; PreflightError where resolvelib
    is not installed.
    """
    _check_names(wish, catalogue)
    kept = {(choice.release.component, choice.layer): choice.release for choice in present.choices} if present else {}
    if wish.policy is StackPolicy.PINNED and present is None:
        raise UsageError("the policy is pinned, and there is no present lock", hint="Name the lock with --lock FILE.")
    near = {} if wish.policy is StackPolicy.NEWEST else kept
    problem = make_problem(wish, hardware, catalogue, present=near, models=models)
    if wish.policy is StackPolicy.PINNED:
        problem = with_choices(problem, _numbers(problem, kept), why="is in the present lock, and the policy is pinned")
    if wish.policy is StackPolicy.STABLE and kept:
        chosen = choose_near(problem, problem.everything(), kept)
    else:
        chosen = choose(problem, problem.everything())
    if chosen is None:
        return explain_conflict(problem, wish, catalogue)
    return _make_lock(problem, chosen, hardware, catalogue, near)


def judge_stack(
    releases: Mapping[Key, StackRelease], hardware: StackHardware, catalogue: StackCatalogue
) -> tuple[ReasonLink, ...]:
    """Each row that a set of releases violates, an installed state for example; () where no row forbids it.

    A key is a component and its layer ("" for the host). What is missing though a row needs it counts as a violation.
    """
    problem = make_problem(StackWish(), hardware, catalogue, only=releases)
    chosen = {key: 1 if key in releases else 0 for key in problem.order}
    premises = [id for id in problem.premises if not id.startswith("wish ")]
    violated = broken(problem, chosen, premises)
    ids = dict.fromkeys(id for constraint in violated for id in sorted(constraint.premises))
    return make_chain(problem, list(ids))


def _check_names(wish: StackWish, catalogue: StackCatalogue) -> None:
    known = {source.id for source in catalogue.sources} | {source.group for source in catalogue.sources} - {""}
    unknown = [source for source in wish.sources if source not in known]
    if unknown:
        raise UsageError(
            f"sources: the catalogue has no source {', '.join(map(repr, unknown))}",
            hint=f"Known: {', '.join(sorted(known))}.",
        )
    licences = {release.licence for release in catalogue.releases}
    odd = [licence for licence in wish.licences if licence not in licences]
    if odd:
        raise UsageError(
            f"licences: no release has the licence {', '.join(map(repr, odd))}",
            hint=f"Known: {', '.join(sorted(licences))}.",
        )
    for condition in wish.require:
        if condition.component in FIXED_SUBJECTS:
            raise UsageError(f"{condition}: {condition.component} is no component", hint="Use the key of its own for it.")


def _numbers(problem: StackProblem, kept: Mapping[Key, StackRelease]) -> dict[Key, int]:
    """The number of each present release; UsageError for one that the rows no longer have."""
    numbers: dict[Key, int] = {}
    for key, release in kept.items():
        if key not in problem.candidates:
            continue
        found = [
            number
            for number, candidate in enumerate(problem.candidates[key])
            if candidate is not None and same_release(candidate, release)
        ]
        if not found:
            raise UsageError(
                f"{release.label}: is in the present lock, and the catalogue no longer has it",
                hint="Use the policy stable, or add the row to a file in /etc/bedplate/catalog.d.",
            )
        numbers[key] = found[0]
    return numbers


def _make_lock(
    problem: StackProblem,
    chosen: Assignment,
    hardware: StackHardware,
    catalogue: StackCatalogue,
    kept: Mapping[Key, StackRelease],
) -> StackLock:
    choices: list[ChosenRelease] = []
    before: dict[Key, int] = {}
    for key in problem.order:
        release = problem.candidates[key][chosen[key]]
        if release is not None:
            because, held_back = _reason(problem, chosen, before, key, kept.get(key))
            needed = _needed_by(problem, chosen, key)
            because = f"{needed}; {because}" if needed else because
            choices.append(ChosenRelease(release=release, layer=key[1], because=because, held_back=held_back))
        before[key] = chosen[key]
    releases = {(choice.release.component, choice.layer): choice.release for choice in choices}
    there = {component for component, _ in releases} | set(FIXED_SUBJECTS)
    facts = [
        fact
        for fact in catalogue.facts
        if applies(fact.when, releases, hardware) and (not fact.needs or any(need.component in there for need in fact.needs))
    ]
    kernel = releases[("kernel", "")]
    modules = [
        build.id
        for build in catalogue.modules
        if build.builds
        and applies(build.module, releases, hardware)
        and build.kernel.holds_for(kernel.values(build.kernel.name))
    ]
    cautions = [fact.because for fact in facts if fact.kind is FactKind.CAUTION]
    cautions += [f"{choice.release.label}: {choice.release.note}" for choice in choices if choice.release.note]
    return StackLock(
        choices=tuple(choices),
        facts=tuple(sorted({*(fact.id for fact in facts), *modules})),
        cautions=tuple(dict.fromkeys(cautions)),
    )


def _reason(
    problem: StackProblem, chosen: Assignment, before: Mapping[Key, int], key: Key, present: StackRelease | None
) -> tuple[str, str]:
    """(why this one, what held back the newest)."""
    release = problem.candidates[key][chosen[key]]
    assert release is not None
    sources = problem.premises["wish sources"].id
    numbers = [number for number in problem.preference[key] if number and not _excluded(problem, key, number, sources)]
    if present is not None and same_release(release, present):
        numbers = [number for number in numbers if number != chosen[key]]
        return "the present lock has it, and nothing forces a change", ""
    newest = problem.candidates[key][numbers[0]] if numbers else None
    if newest is None or newest.version == release.version:
        return "the newest of the allowed sources", ""
    fixed = with_choices(problem, before, why="is chosen")
    return (
        "the newest that is possible",
        f"{newest.label} is not possible: {held_back_by(fixed, fixed.everything(), key, numbers[0])}",
    )


def _excluded(problem: StackProblem, key: Key, number: int, premise: str) -> bool:
    return any(
        constraint.premises == {premise} and constraint.left == key and constraint.left_mask >> number & 1
        for constraint in problem.constraints
    )


def _needed_by(problem: StackProblem, chosen: Assignment, key: Key) -> str:
    """The first premise that forbids the component's absence beside the other choices; "" for what the wish itself names."""
    found: list[tuple[int, Constraint]] = []
    for constraint in problem.constraints:
        mine, other, key_of_other = constraint.left_mask, constraint.right_mask, constraint.right
        if constraint.right == key:
            mine, other, key_of_other = constraint.right_mask, constraint.left_mask, constraint.left
        if key not in (constraint.left, constraint.right) or not mine & 1:
            continue
        if key_of_other == key or other >> chosen[key_of_other] & 1:
            found.append((problem.order.index(key_of_other), constraint))
    if not found:
        return ""
    first = min(found, key=lambda entry: entry[0])[1]
    sentences = [problem.premises[id].sentence for id in sorted(first.premises)]
    return "; ".join(sentences)


def applies(conditions: Iterable[VersionCondition], releases: Mapping[Key, StackRelease], hardware: StackHardware) -> bool:
    """Whether all conditions hold of a set of releases and the machine; those of a layer by components of one layer."""
    wanted: Sequence[VersionCondition] = tuple(conditions)
    layers = {layer for _, layer in releases}
    return any(all(_holds(condition, releases, hardware, layer) for condition in wanted) for layer in layers)


def _holds(condition: VersionCondition, releases: Mapping[Key, StackRelease], hardware: StackHardware, layer: str) -> bool:
    if condition.component == "accelerator":
        named = [
            device.properties.get(condition.name, ()) if condition.name else (device.id,) for device in hardware.accelerators
        ]
        return any(condition.holds_for(values) for values in named)
    if condition.component == "host":
        return condition.holds_for(hardware.properties.get(condition.name, ()))
    release = releases.get((condition.component, layer)) or releases.get((condition.component, ""))
    return condition.absent if release is None else condition.holds_for(release.values(condition.name))
