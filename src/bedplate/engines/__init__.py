"""One file an engine: a model, a placement and limits become a Launch. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from bedplate.engines import llamacpp, transformers, vllm
from bedplate.errors import ModelRefused
from bedplate.model.launch import LLAMACPP_FOOTPRINT, EngineFootprint, Format, Launch, Limits, ModelRef, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine as a row of ENGINES: which formats it reads, and the pure function that makes its command line."""

    name: str
    """Also the name of its layer: NAME_VERSION.raw, or a disk with the serial bp-NAME."""
    formats: tuple[Format, ...]
    make_launch: Callable[[ModelRef, Placement, Limits], Launch]
    check_model: Callable[[ModelRef, Collection[str], Collection[str]], None]
    """(model, architectures that the build knows or (), types of the model's tensors); raises ModelRefused."""
    footprint: EngineFootprint


ENGINES = {
    "llamacpp": Engine(
        name="llamacpp",
        formats=(Format.GGUF,),
        make_launch=llamacpp.make_launch,
        check_model=llamacpp.check_model,
        footprint=LLAMACPP_FOOTPRINT,
    ),
    # Of two that read a format the first comes first: vLLM decodes several requests at once, Transformers one.
    "vllm": Engine(
        name="vllm",
        formats=(Format.SAFETENSORS,),
        make_launch=vllm.make_launch,
        check_model=vllm.check_model,
        footprint=vllm.FOOTPRINT,
    ),
    "transformers": Engine(
        name="transformers",
        formats=(Format.SAFETENSORS,),
        make_launch=transformers.make_launch,
        check_model=transformers.check_model,
        footprint=transformers.FOOTPRINT,
    ),
}


def engines_for(model: ModelRef, *, wanted: str = "") -> tuple[Engine, ...]:
    """The engines that read the format of a model, the preferred one first; with `wanted`, that one alone.

    Raises ModelRefused when there is none, when `wanted` is no engine, and when it does not read this format.
    """
    known = "; ".join(f"{engine.name} reads {'/'.join(engine.formats)}" for engine in ENGINES.values())
    if wanted and wanted not in ENGINES:
        raise ModelRefused(
            f"{model.name}: got the engine {wanted!r}, expected one of {', '.join(ENGINES)}", hint="Correct machine.toml."
        )
    reading = tuple(engine for engine in ENGINES.values() if model.format in engine.formats)
    chosen = tuple(engine for engine in reading if wanted in ("", engine.name))
    if not chosen:
        who = wanted or "no engine"
        others = " or ".join(engine.name for engine in reading)
        raise ModelRefused(
            f"{model.name}: {who} {'does not read' if wanted else 'reads'} {model.format.value}: {known}",
            hint=f"Serve it with {others}, or get it in another format." if others else "Convert the model to GGUF.",
        )
    return chosen


def engine_for(model: ModelRef, *, wanted: str = "") -> Engine:
    """The preferred engine of `engines_for`; raises as that does."""
    return engines_for(model, wanted=wanted)[0]
