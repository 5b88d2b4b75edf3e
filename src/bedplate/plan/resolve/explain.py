"""Why not: a minimal core as a chain of sentences with evidence, and the nearest wishes that are possible."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from bedplate.model.stack import NearestWish, ReasonLink, StackCatalogue, StackConflict, StackWish
from bedplate.plan.resolve.build import allowed_sources
from bedplate.plan.resolve.choose import choose
from bedplate.plan.resolve.core import find_core
from bedplate.plan.resolve.layout import WISH_SOURCE
from bedplate.plan.resolve.problem import Assignment, Key, Premise, PremiseRank, StackProblem

_MOST_OFFERED = 5  # releases of one component that a sentence lists
_LINES = (PremiseRank.SOURCES, PremiseRank.WISH, PremiseRank.CHOICE)


def explain_conflict(problem: StackProblem, wish: StackWish, catalogue: StackCatalogue) -> StackConflict:
    """The conflict of a problem that has no assignment: the shortest chain that was found, and what is possible instead."""
    core = find_core(problem, problem.everything())
    return StackConflict(
        chain=(*make_chain(problem, core), *_offered(problem, core, catalogue)),
        nearest=tuple(_nearest(problem, core, wish, catalogue)),
    )


def make_chain(problem: StackProblem, core: Sequence[str]) -> tuple[ReasonLink, ...]:
    """The premises of a core as sentences: lines of the wish first, then facts from the engine down to the kernel.

    The same need of several versions is one sentence.
    """
    premises = sorted((problem.premises[id] for id in core), key=lambda premise: (-premise.rank // 6, premise.order))
    lines = [premise for premise in premises if premise.rank >= PremiseRank.MACHINE or premise.rank is PremiseRank.SOURCES]
    facts = sorted((premise for premise in premises if premise not in lines), key=lambda premise: premise.order)
    lines.sort(key=lambda premise: -premise.rank)
    bounded = {line.relaxes for line in lines if line.relaxes is not None and line.id != f"wish {line.relaxes[0]}"}
    lines = [line for line in lines if line.relaxes not in bounded or line.id != f"wish {line.relaxes[0]}"]
    links = [_link(premise) for premise in lines]
    seen: set[tuple[str, str]] = set()
    unknown = [premise for premise in facts if premise.rank is PremiseRank.UNKNOWN_BUILD]
    for premise in facts:
        if premise in unknown[1:]:
            continue
        if premise in unknown:
            links.append(_unknown_builds(unknown))
            continue
        if premise.need is None:
            links.append(_link(premise))
            continue
        component, _, need = premise.need
        if (component, need) in seen:
            continue
        seen.add((component, need))
        same = [other for other in facts if other.need is not None and (other.need[0], other.need[2]) == (component, need)]
        versions = list(dict.fromkeys(other.need[1] for other in same if other.need is not None))
        evidence = tuple(dict.fromkeys(text for other in same for text in other.evidence))
        verb = "needs" if len(versions) == 1 else "need"
        links.append(ReasonLink(sentence=f"{component} {_some(versions)} {verb} {need}", evidence=evidence[:3]))
    return tuple(links)


def _unknown_builds(premises: Sequence[Premise]) -> ReasonLink:
    """That no module is known to build, as one sentence for all releases of a driver."""
    texts = list(dict.fromkeys(premise.sentence for premise in premises))
    evidence = tuple(dict.fromkeys(text for premise in premises for text in premise.evidence))
    return ReasonLink(
        sentence=f"a kernel is not taken before a build of the module for it was seen: {_some(texts)}", evidence=evidence[:3]
    )


def _link(premise: Premise) -> ReasonLink:
    return ReasonLink(sentence=premise.sentence, evidence=premise.evidence, fact=premise.fact)


def _some(texts: Sequence[str]) -> str:
    if len(texts) <= _MOST_OFFERED:
        return ", ".join(texts)
    return f"{', '.join(texts[:_MOST_OFFERED])} and {len(texts) - _MOST_OFFERED} more"


def _offered(problem: StackProblem, core: Sequence[str], catalogue: StackCatalogue) -> Iterator[ReasonLink]:
    """What is known of the components at which the chain ends, since the list of releases is a premise without a line."""
    active = frozenset(core)
    in_force = [constraint for constraint in problem.constraints if constraint.premises and constraint.premises <= active]
    narrow = [constraint for constraint in in_force if constraint.premises != {"wish sources"}]
    bounded = {constraint.right for constraint in narrow}
    starts = {constraint.left for constraint in narrow if constraint.left != constraint.right}
    whole = {constraint.left for constraint in narrow if any(problem.premises[id].any_release for id in constraint.premises)}
    for key in problem.order:
        if key not in bounded or key in starts or key in whole:
            continue
        unary = [
            constraint
            for constraint in problem.constraints
            if constraint.left == constraint.right == key and any(id.startswith("wish ") for id in constraint.premises)
        ]
        excluded = {
            number: sum(constraint.left_mask >> number & 1 for constraint in unary) for number in problem.preference[key]
        }
        numbers = sorted((number for number in problem.preference[key] if number), key=lambda number: excluded[number])
        releases = [problem.candidates[key][number] for number in numbers]
        labels = list(dict.fromkeys(release.artefact for release in releases if release is not None))
        if labels:
            yield ReasonLink(sentence=f"releases of {key[0]} in the catalogue: {_some(labels)}")
        else:
            yield ReasonLink(sentence=f"the catalogue has no release of {key[0]}")


def _nearest(
    problem: StackProblem, core: Sequence[str], wish: StackWish, catalogue: StackCatalogue
) -> Iterator[NearestWish]:
    """What is possible when one line is relaxed; two, where no single one is enough."""
    lines = [problem.premises[id] for id in core if problem.premises[id].rank in _LINES]
    for size in (1, 2):
        found = False
        for relaxed in itertools.combinations(lines, size):
            gone = {premise.id for premise in relaxed}
            chosen = choose(problem, problem.everything() - gone)
            if chosen is not None:
                found = True
                yield NearestWish(
                    line="; ".join(premise.sentence for premise in relaxed),
                    sentence="; ".join(_instead(problem, chosen, premise, wish, catalogue) for premise in relaxed),
                )
        if found:
            return


def _instead(problem: StackProblem, chosen: Assignment, premise: Premise, wish: StackWish, catalogue: StackCatalogue) -> str:
    if premise.relaxes is not None:
        release = problem.candidates[premise.relaxes][chosen[premise.relaxes]]
        return f"without {premise.relaxes[0]}" if release is None else f"with {release.label}"
    if premise.rank is PremiseRank.WISH:  # a model
        return "without it"
    allowed = allowed_sources(wish, catalogue)
    return "with " + _some(_outside(problem, chosen, allowed, wish.licences))


def _outside(problem: StackProblem, chosen: Assignment, allowed: Collection[str], licences: Collection[str]) -> list[str]:
    """Chosen releases that the wish's sources and licences exclude."""
    labels: list[str] = []
    for key, number in chosen.items():
        release = problem.candidates[key][number]
        if release is None or release.source == WISH_SOURCE:
            continue
        if release.source not in allowed or (licences and release.licence not in licences):
            labels.append(release.label)
    return sorted(set(labels))


def held_back_by(problem: StackProblem, premises: Collection[str], key: Key, number: int) -> str:
    """Why a candidate is not possible with these premises: the sentences of the shortest chain, in one line."""
    core = find_core(problem, premises, {key: 1 << number})
    return "; ".join(link.sentence for link in make_chain(problem, core))
