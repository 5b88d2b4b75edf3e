"""Which components are in question: what the wish names, and what rows and releases bind to those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from bedplate.errors import UsageError
from bedplate.model.stack import (
    FIXED_SUBJECTS,
    HOST,
    FactKind,
    StackCatalogue,
    StackComponent,
    StackFact,
    StackHardware,
    StackRelease,
    StackWish,
)
from bedplate.model.version_condition import VersionCondition
from bedplate.plan.resolve.problem import Key

KERNEL = "kernel"
BASE = "base"
"""The layer of a wish without an engine."""
WISH_SOURCE = "wish"
"""The source of what only the wish names; no list of sources excludes it."""


def layer_names(wish: StackWish) -> tuple[str, ...]:
    """Names of the layers: one for each engine, or one for all; "base" without an engine."""
    engines = tuple(condition.component for condition in wish.engines)
    if not engines:
        return (BASE,)
    return ("+".join(engines),) if wish.one_layer else engines


def engine_layers(wish: StackWish, layers: tuple[str, ...]) -> Iterator[tuple[VersionCondition, str]]:
    """Each engine of a wish with the layer that it is in."""
    for number, condition in enumerate(wish.engines):
        yield condition, layers[0 if wish.one_layer else number]


def find_keys(
    wish: StackWish,
    hardware: StackHardware,
    catalogue: StackCatalogue,
    releases: Mapping[str, tuple[StackRelease, ...]],
    layers: tuple[str, ...],
) -> tuple[Key, ...]:
    """Every key in question, in the order in which components are chosen.

    Raises UsageError for a component that the catalogue does not have.
    """
    components = {component.id: component for component in catalogue.components}
    waiting = [(KERNEL, "")]
    for condition, layer in engine_layers(wish, layers):
        _known(condition, components)
        waiting.append((condition.component, layer))
    for condition in wish.require:
        _known(condition, components)
        waiting += _keys_of(condition.component, layers, components)
    for device in hardware.accelerators:
        for need in device.needs:
            waiting += _keys_of(need.component, layers, components)
    general = [fact for fact in catalogue.facts if fact.kind is not FactKind.CAUTION]
    for fact in general:
        if all(condition.component in FIXED_SUBJECTS for condition in fact.when):
            for need in fact.needs:
                waiting += _keys_of(need.component, layers, components)
    found: set[Key] = set()
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        for other in _needs_of(key[0], releases, general):
            if components[other].scope == HOST:
                waiting.append((other, ""))
            else:
                waiting += [(other, key[1])] if key[1] else [(other, layer) for layer in layers]
    return tuple(sorted(found, key=lambda key: (components[key[0]].order, key)))


def _known(condition: VersionCondition, components: Mapping[str, StackComponent]) -> None:
    if condition.component not in components:
        import difflib

        near = difflib.get_close_matches(condition.component, components, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Components are: {', '.join(sorted(components))}."
        raise UsageError(f"{condition}: the catalogue has no component {condition.component!r}", hint=hint)


def _keys_of(component: str, layers: tuple[str, ...], components: Mapping[str, StackComponent]) -> list[Key]:
    """The keys of a component; none for what is fixed."""
    if component in FIXED_SUBJECTS:
        return []
    return [(component, "")] if components[component].scope == HOST else [(component, layer) for layer in layers]


def _needs_of(component: str, releases: Mapping[str, tuple[StackRelease, ...]], facts: Iterable[StackFact]) -> Iterator[str]:
    """Components that may have to be there because this one is."""
    for release in releases.get(component, ()):
        yield from (need.component for need in release.needs if need.component not in FIXED_SUBJECTS)
    for fact in facts:
        if any(condition.component == component for condition in fact.when):
            yield from (need.component for need in fact.needs if need.component not in FIXED_SUBJECTS)
            # "not without": where absence is forbidden, too, only its presence can help
            yield from (other.component for other in fact.when if other.absent and other.component not in FIXED_SUBJECTS)


def named_releases(wish: StackWish, catalogue: StackCatalogue) -> tuple[StackRelease, ...]:
    """Releases that only the wish names: "kernel ==7.5.1" of a component that may be newer than the catalogue."""
    opened = {component.id for component in catalogue.components if component.open}
    named: list[StackRelease] = []
    for condition in (*wish.engines, *wish.require):
        if condition.component not in opened or condition.name or len(condition.alternatives) != 1:
            continue
        (bounds,) = condition.alternatives
        if len(bounds) != 1 or bounds[0].operator != "==":
            continue
        of_component = [release for release in catalogue.releases if release.component == condition.component]
        if not any(condition.holds_for(release.values("")) for release in of_component):
            named.append(
                replace(
                    of_component[0],
                    version=bounds[0].value,
                    source=WISH_SOURCE,
                    needs=(),
                    file="",
                    sha256="",
                    evidence=("named by the wish alone",),
                    note="no row of the catalogue has it",
                )
            )
    return tuple(named)
