"""A sample: one value that is judged, and what it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.plan.rules.files import KnobFiles, natural_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedValue:
    """One value to judge; the text of the reading says it in words."""

    reading: Reading[str]
    where: str
    """What it is about: "pid 4711 (vllm)", a PCI address, a path."""
    name: str = ""
    """The same as a command takes it: 4711, "vllm.service"."""


FactReader = Callable[[HostFacts, KnobFiles], tuple[ObservedValue, ...]]


def make_sample(value: object, source: str, text: str, *, where: str, name: str = "") -> ObservedValue:
    """A value that is known, written as text for the row's comparison; `text` says it in words, for people."""
    return ObservedValue(reading=known(str(value), source, text), where=where, name=name)


def pass_on(reading: Reading[Any], text: str, *, where: str, name: str = "", endless: bool = False) -> ObservedValue:
    """A reading as text; endless: its absence means that there is no limit."""
    if reading.value is not None:
        value = ("off", "on")[reading.value] if isinstance(reading.value, bool) else str(reading.value)
        return ObservedValue(reading=known(value, reading.source, text.format(value)), where=where, name=name)
    if endless and reading.unknown is Unknown.ABSENT:
        return ObservedValue(reading=known("max", reading.source, text.format("no limit")), where=where, name=name)
    gone: Reading[str] = missing(reading.unknown or Unknown.ABSENT, reading.source, reading.text)
    return ObservedValue(reading=gone, where=where, name=name)


def sorted_samples(samples: Iterable[ObservedValue]) -> tuple[ObservedValue, ...]:
    """In an order that does not depend on the order of the facts."""
    return tuple(sorted(samples, key=_order))


def _order(sample: ObservedValue) -> tuple[object, ...]:
    reading = sample.reading
    return natural_key(sample.where), reading.source, str(reading.value), reading.text, sample.name
