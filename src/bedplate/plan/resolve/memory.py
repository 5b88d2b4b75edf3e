"""Whether an engine can hold a model in a machine's accelerators: the arithmetic of `bedplate fit` as links of a chain.

A "no" needs everything to be known: the number and the memory of all accelerators, the size of each precision. An engine
that computes on CPUs, too, has the host's memory as well, which a wish does not state: of it nothing is said. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bedplate.model.catalogued import EngineRow
from bedplate.model.fit import FitModel, FitResult, FitTarget, FitWish
from bedplate.model.stack import CountedAccelerators, MemoryConflict, ReasonLink
from bedplate.model.units import render_size
from bedplate.plan.fit import plan_fit
from bedplate.plan.limits import DEFAULT_CONTEXT, UNKNOWN_CONTEXT

_MORE = (2, 4, 8, 16, 32, 64)  # devices of one kind, tried for the sentence that says how many would do


def judge_memory(
    name: str, model: FitModel, counted: Sequence[CountedAccelerators], engines: Sequence[EngineRow]
) -> tuple[MemoryConflict, ...]:
    """The engines that cannot hold the model with one request on any of the kinds of accelerators; () where none is known.

    name: the model as the wish writes it. The request has as many tokens as `bedplate fit` takes without --context.
    """
    wish = FitWish(context=min(DEFAULT_CONTEXT, model.shape.context or UNKNOWN_CONTEXT), concurrency=1)
    conflicts: list[MemoryConflict] = []
    for engine in engines:
        if engine.on_cpu or not counted or any(kind.vendor not in engine.vendors for kind in counted):
            continue
        results = plan_fit(model, [_target(kind, engine) for kind in counted], [engine], wish)
        if not results or not all(map(_is_certain, results)):
            continue  # it fits, or of one kind or precision nothing is known
        nearest = max(results, key=lambda result: result.parts.spare_bytes if result.parts is not None else 0)
        conflicts.append(_conflict(name, model, nearest, engine, wish, counted))
    return tuple(conflicts)


def _is_certain(result: FitResult) -> bool:
    """Whether it is known that the model does not fit, however the engine spreads it.

    Where tensor parallelism leaves devices over (one of three), layers could be spread over all of them: then only weights
    that are too large for all together are a no.
    """
    parts, target = result.parts, result.target
    if result.fits is not False or parts is None:
        return False
    usable = target.count * (parts.total_bytes - parts.reserve_bytes)
    return result.devices == target.count or parts.weights_bytes * result.devices > usable


def _target(kind: CountedAccelerators, engine: EngineRow) -> FitTarget:
    return FitTarget(name=kind.name, row=kind.row, count=kind.count, memory_bytes=kind.memory_bytes, engines=(engine.id,))


def _conflict(
    name: str,
    model: FitModel,
    nearest: FitResult,
    engine: EngineRow,
    wish: FitWish,
    counted: Sequence[CountedAccelerators],
) -> MemoryConflict:
    parts = nearest.parts
    assert parts is not None
    own = render_size(parts.used_bytes - parts.reserve_bytes)
    where = "of one device" if nearest.devices == 1 else f"of each of {nearest.devices} devices"
    need = (
        f"{name} in {nearest.precision}, the precision nearest to fitting, takes {own} {where} in {engine.title}"
        f" with one request of {wish.context} tokens"
    )
    usable = render_size(parts.total_bytes - parts.reserve_bytes)
    have = ", ".join(f"{kind.count} x {kind.name} with {render_size(kind.memory_bytes or 0)} each" for kind in counted)
    memory = f"the machine has {have}, and {engine.title} uses {usable} of each {nearest.target.name}"
    enough = _enough(model, nearest.target, engine, wish)
    rows = [kind.row for kind in counted if kind.row is not None]
    return MemoryConflict(
        component=engine.component,
        need=ReasonLink(sentence=need, evidence=(model.source, engine.source)),
        memory=ReasonLink(
            sentence=f"{memory}; {enough} of them would hold it" if enough else memory,
            evidence=tuple(dict.fromkeys(row.source for row in rows)),
        ),
    )


def _enough(model: FitModel, target: FitTarget, engine: EngineRow, wish: FitWish) -> int:
    """The fewest devices of the kind that hold the model; 0 where up to 64 do not."""
    for count in _MORE:
        if count > target.count:
            results = plan_fit(model, [replace(target, count=count)], [engine], wish)
            if any(result.fits for result in results):
                return count
    return 0
