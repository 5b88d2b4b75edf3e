"""The resolver against brute force, over a thousand small random catalogues: same answer, best stack, minimal core.

The oracle reads the rows themselves and knows no masks: it tries every combination of releases, absent ones included.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from bedplate.model.stack import (
    CheckedBy,
    FactKind,
    ModuleBuild,
    StackCatalogue,
    StackComponent,
    StackDevice,
    StackFact,
    StackHardware,
    StackLock,
    StackPolicy,
    StackRelease,
    StackSource,
    StackWish,
)
from bedplate.model.version_condition import VersionCondition, parse_condition
from bedplate.plan.resolve.build import make_problem
from bedplate.plan.resolve.core import find_core
from bedplate.plan.resolve.problem import Key
from bedplate.plan.resolve.resolve import judge_stack, resolve
from bedplate.plan.resolve.solver import solve

CATALOGUES = 1000
NAMES = ("engine", "library", "driver", "kernel")
Stack = Mapping[str, StackRelease | None]


def made(**values: Any) -> dict[str, Any]:
    return {"checked": CheckedBy.INVENTED, "date": "2026-11-28", "evidence": ("made for a test",), **values}


def random_condition(rng: random.Random, names: tuple[str, ...]) -> VersionCondition:
    text = rng.choice(names)
    if rng.random() < 0.8:
        text += f" {rng.choice(('==', '!=', '>=', '<='))}{rng.randint(1, 3)}"
        if rng.random() < 0.2:
            text = text.replace(" ", " absent | ", 1)
    return parse_condition(text)


def random_catalogue(rng: random.Random) -> StackCatalogue:
    releases = []
    for name in NAMES:
        for version in rng.sample("123", rng.randint(1, 3)):
            others = tuple(other for other in NAMES if other != name)
            needs = tuple(random_condition(rng, others) for _ in range(rng.choice((0, 0, 1))))
            source = rng.choice(("near", "near", "far"))
            releases.append(StackRelease(**made(component=name, version=version, source=source, needs=needs)))
    facts = []
    for number in range(rng.randint(0, 4)):
        first, second = rng.sample(NAMES, 2)
        when: tuple[VersionCondition, ...] = (random_condition(rng, (first,)),)
        needs = (random_condition(rng, (second, "accelerator")),) if rng.random() < 0.7 else ()
        if not needs:
            when += (random_condition(rng, (second,)),)
        facts.append(
            StackFact(**made(id=f"fact-{number}", kind=FactKind.RULE, because=f"fact {number}", when=when, needs=needs))
        )
    modules = [
        ModuleBuild(
            **made(
                id=f"module-{number}",
                module=(random_condition(rng, ("driver",)),),
                kernel=parse_condition(f"kernel {rng.choice(('==', '<='))}{rng.randint(1, 3)}"),
                builds=rng.random() < 0.7,
                because="it does not build",
            )
        )
        for number in range(rng.randint(0, 3))
    ]
    return StackCatalogue(
        sources=(StackSource(id="near", title="near", default=True), StackSource(id="far", title="far")),
        components=tuple(
            StackComponent(id=name, title=name, scope="layer" if name in ("engine", "library") else "host", order=order)
            for order, name in enumerate(NAMES)
        ),
        devices=(),
        releases=tuple(releases),
        facts=tuple(facts),
        modules=tuple(modules),
        digest="",
    )


def random_wish(rng: random.Random) -> StackWish:
    return StackWish(
        engines=(random_condition(rng, ("engine",)),),
        require=tuple(random_condition(rng, NAMES[1:]) for _ in range(rng.randint(0, 2))),
        sources=rng.choice(((), ("near",), ("near", "far"))),
        policy=StackPolicy.NEWEST,
    )


def holds(condition: VersionCondition, stack: Stack, hardware: StackHardware) -> bool:
    if condition.component == "accelerator":
        return all(condition.holds_for((device.id,)) for device in hardware.accelerators)
    release = stack.get(condition.component)
    return condition.absent if release is None else condition.holds_for((release.version,))


def allowed(stack: Stack, wish: StackWish, hardware: StackHardware, catalogue: StackCatalogue) -> bool:
    """The rows and the wish, read one after the other."""
    sources = set(wish.sources or ("near",))
    if stack["kernel"] is None or any(release and release.source not in sources for release in stack.values()):
        return False
    if stack["engine"] is None and not wish.engines[0].absent:
        return False
    for condition in (*wish.engines, *wish.require):
        release = stack[condition.component]
        if release is None and not condition.absent:
            return False
        if release is not None and condition.bounds != "absent" and not condition.holds_for((release.version,)):
            return False
    for release in stack.values():
        if release is not None and not all(holds(need, stack, hardware) for need in release.needs):
            return False
    for fact in catalogue.facts:
        met = bool(fact.needs) and all(holds(need, stack, hardware) for need in fact.needs)
        if all(holds(condition, stack, hardware) for condition in fact.when) and not met:
            return False
    driver, kernel = stack["driver"], stack["kernel"]
    if driver is not None and catalogue.modules:
        rows = [row for row in catalogue.modules if row.module[0].holds_for((driver.version,))]
        known = [row for row in rows if row.kernel.holds_for((kernel.version,))]
        if not any(row.builds for row in known) or any(not row.builds for row in known):
            return False
    return True


def every_stack(catalogue: StackCatalogue) -> Iterator[Stack]:
    choices = [[None, *(row for row in catalogue.releases if row.component == name)] for name in NAMES]
    for releases in itertools.product(*choices):
        yield dict(zip(NAMES, releases, strict=True))


def wanted_more(stack: Stack) -> tuple[int, ...]:
    """Smaller is better: absent first, then the newest, engines before the rest."""
    releases = [stack[name] for name in NAMES]
    return tuple(0 if release is None else 10 - int(release.version) for release in releases)


def random_case(seed: int) -> tuple[StackWish, StackHardware, StackCatalogue]:
    rng = random.Random(seed)
    devices = tuple(
        StackDevice(**made(id=str(number), title=f"device {number}")) for number in range(1, 1 + rng.randint(0, 2))
    )
    return random_wish(rng), StackHardware(accelerators=devices), random_catalogue(rng)


def test_the_answer_is_that_of_brute_force() -> None:
    """A lock is the best of all that are possible and violates no row; a no has a minimal core."""
    possible = 0
    for seed in range(CATALOGUES):
        wish, hardware, catalogue = random_case(seed)
        right = [stack for stack in every_stack(catalogue) if allowed(stack, wish, hardware, catalogue)]
        result = resolve(wish, hardware, catalogue)
        assert isinstance(result, StackLock) is bool(right), f"seed {seed}"
        if isinstance(result, StackLock):
            possible += 1
            releases: dict[Key, StackRelease] = {
                (choice.release.component, choice.layer): choice.release for choice in result.choices
            }
            chosen: dict[str, StackRelease | None] = dict.fromkeys(NAMES)
            chosen.update({component: release for (component, _), release in releases.items()})
            assert wanted_more(chosen) == min(map(wanted_more, right)), f"seed {seed}"
            assert chosen in right, f"seed {seed}"
            assert judge_stack(releases, hardware, catalogue) == (), f"seed {seed}"
            continue
        problem = make_problem(wish, hardware, catalogue)
        core = find_core(problem, problem.everything())
        assert solve(problem, core) is None, f"seed {seed}"
        for dropped in core:
            assert solve(problem, [id for id in core if id != dropped]) is not None, f"seed {seed}: {dropped}"
    assert CATALOGUES / 10 < possible < CATALOGUES * 9 / 10  # both answers were tried
