"""One file an engine: a model, a placement and limits become a Launch. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from bedplate.engines import llamacpp
from bedplate.errors import ModelRefused
from bedplate.model.launch import Format, Launch, Limits, ModelRef, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine as a row of ENGINES: which formats it reads, and the pure function that makes its command line."""

    name: str
    """Also the name of its layer: NAME_VERSION.raw, or a disk with the serial bp-NAME."""
    formats: tuple[Format, ...]
    make_launch: Callable[[ModelRef, Placement, Limits], Launch]
    check_model: Callable[[ModelRef, Collection[str], Collection[str]], None]
    """(model, architectures that the build knows or (), types of the model's tensors); raises ModelRefused."""


ENGINES = {
    "llamacpp": Engine(
        name="llamacpp",
        formats=(Format.GGUF,),
        make_launch=llamacpp.make_launch,
        check_model=llamacpp.check_model,
    ),
}


def engine_for(model: ModelRef) -> Engine:
    """The first engine that reads the format of a model; raises ModelRefused when there is none."""
    for engine in ENGINES.values():
        if model.format in engine.formats:
            return engine
    known = ", ".join(f"{engine.name} reads {'/'.join(engine.formats)}" for engine in ENGINES.values())
    raise ModelRefused(f"{model.name}: no engine reads {model.format.value}: {known}", hint="Convert the model to GGUF.")
