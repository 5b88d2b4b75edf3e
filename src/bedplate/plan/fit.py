"""Which accelerators and engines hold a model, at which context and concurrency, and the ceilings of its speed. Pure.

A device holds weights, KV cache, recurrent states, work buffers and the engine's runtime, within the share of its memory
that the engine uses. The smallest number of devices for one copy is taken; the others hold further copies. What is not known
gives no number.

Ceilings are a roofline: a step takes at least as long as its bytes take at the memory's peak, and as its multiplications
take at the arithmetic's peak (dense). Tokens are taken to spread evenly over a mixture's experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from bedplate.model.catalogued import AcceleratorRow, Arithmetic, EngineRow, Precision, Split
from bedplate.model.fit import Ceilings, FitModel, FitResult, FitTarget, FitWish, MemoryParts, WeightsChoice
from bedplate.model.units import GIB
from bedplate.plan.cache import PROCESS_BYTES, buffer_bytes, kv_cache_bytes, layer_share, read_bytes, state_bytes
from bedplate.plan.parameters import ParameterCount

_MOST_CONTEXT = 1 << 27  # tokens; above every model's


def weights_bytes(count: ParameterCount | None, parameters: int | None, precision: Precision) -> int | None:
    """Size of the weights in a precision; without a count of the embedding all parameters are taken for matrices'."""
    if count is not None and parameters in (None, count.total):
        return int((count.total - count.embedding) * precision.bits / 8 + count.embedding * precision.embedding_bits / 8)
    return None if parameters is None else int(parameters * precision.bits / 8)


def plan_fit(
    model: FitModel, targets: Sequence[FitTarget], engines: Iterable[EngineRow], wish: FitWish
) -> tuple[FitResult, ...]:
    """One answer for each target, engine and precision that go together, in that order."""
    by_id = {engine.id: engine for engine in engines}
    return tuple(
        _judge(model, weights, target, by_id[id], wish)
        for target in targets
        for id in target.engines
        if id in by_id
        for weights in model.weights
        if id in weights.engines
    )


def _judge(model: FitModel, weights: WeightsChoice, target: FitTarget, engine: EngineRow, wish: FitWish) -> FitResult:
    unknown = _unknown(weights, target)
    if unknown:
        return _result(target, engine, weights, devices=1, copies=0, fits=None, reason=unknown)
    degrees = list(_degrees(model, target, engine))
    for devices in degrees:
        copies = target.count // devices
        each = -(-wish.concurrency // copies)
        parts = memory_parts(model, weights, target, engine, context=wish.context, sequences=each, devices=devices)
        if parts.spare_bytes < 0 and devices != degrees[-1]:
            continue
        fits = parts.spare_bytes >= 0
        return _result(
            target,
            engine,
            weights,
            devices=devices,
            copies=copies,
            fits=fits,
            reason="" if fits else _missing(parts, devices),
            parts=parts,
            most_sequences=copies * _most_sequences(model, weights, target, engine, wish.context, devices),
            most_context=_most_context(model, weights, target, engine, each, devices),
            ceilings=_ceilings(model, weights, target, engine, wish, devices) if fits else None,
        )
    raise AssertionError("one device is always a degree")


def _result(
    target: FitTarget,
    engine: EngineRow,
    weights: WeightsChoice,
    *,
    devices: int,
    copies: int,
    fits: bool | None,
    reason: str,
    parts: MemoryParts | None = None,
    most_sequences: int = 0,
    most_context: int = 0,
    ceilings: Ceilings | None = None,
) -> FitResult:
    return FitResult(
        target=target,
        engine=engine.id,
        precision=weights.precision,
        devices=devices,
        copies=copies,
        fits=fits,
        reason=reason,
        parts=parts,
        most_sequences=most_sequences,
        most_context=most_context,
        ceilings=ceilings,
    )


def _unknown(weights: WeightsChoice, target: FitTarget) -> str:
    if weights.size_bytes is None:
        return "the size of the weights is not known"
    return "the memory of a device is not known" if target.memory_bytes is None else ""


def _missing(parts: MemoryParts, devices: int) -> str:
    gib = -parts.spare_bytes / GIB
    return f"{gib:.1f} GiB too large for {'the device' if devices == 1 else f'each of {devices} devices'}"


def _degrees(model: FitModel, target: FitTarget, engine: EngineRow) -> Iterator[int]:
    """Numbers of devices that one copy can be spread over: powers of two that divide the heads, or any number of layers."""
    yield 1
    if engine.split is Split.LAYERS:
        yield from range(2, min(target.count, model.shape.layers) + 1)
        return
    devices = 2
    while devices <= target.count and model.shape.heads % devices == 0:
        yield devices
        devices *= 2


def memory_parts(
    model: FitModel,
    weights: WeightsChoice,
    target: FitTarget,
    engine: EngineRow,
    *,
    context: int,
    sequences: int,
    devices: int,
) -> MemoryParts:
    """The memory of the fullest of the devices that share one copy. Sizes of weights and devices must be known."""
    assert weights.size_bytes is not None and target.memory_bytes is not None
    total = target.memory_bytes
    share = layer_share(model.shape, devices) if engine.split is Split.LAYERS else 1 / devices
    reserve = target.reserve_bytes or int(total * (1 - engine.memory_fraction))
    shape = model.shape
    packed = weights.amx_bytes if target.host_memory and target.amx and weights.amx_bytes is not None else weights.size_bytes
    return MemoryParts(
        weights_bytes=int(packed * share),
        kv_bytes=kv_cache_bytes(shape, engine, context=context, sequences=sequences, devices=devices),
        state_bytes=state_bytes(shape, engine, sequences=sequences, devices=devices),
        buffers_bytes=buffer_bytes(shape, engine, context=context, sequences=sequences, devices=devices),
        runtime_bytes=PROCESS_BYTES if target.host_memory else engine.runtime_bytes,
        reserve_bytes=reserve,
        total_bytes=total,
    )


def _most_sequences(
    model: FitModel, weights: WeightsChoice, target: FitTarget, engine: EngineRow, context: int, devices: int
) -> int:
    """The most requests of that context on one copy."""

    def fits(sequences: int) -> bool:
        parts = memory_parts(model, weights, target, engine, context=context, sequences=sequences, devices=devices)
        return parts.spare_bytes >= 0

    return _largest(fits, 1 << 20)


def _most_context(
    model: FitModel, weights: WeightsChoice, target: FitTarget, engine: EngineRow, sequences: int, devices: int
) -> int:
    """The longest context of so many requests on one copy."""

    def fits(context: int) -> bool:
        parts = memory_parts(model, weights, target, engine, context=context, sequences=sequences, devices=devices)
        return parts.spare_bytes >= 0

    return _largest(fits, model.shape.context or _MOST_CONTEXT)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to most for which fits() says yes, where all smaller ones do too; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _ceilings(
    model: FitModel, weights: WeightsChoice, target: FitTarget, engine: EngineRow, wish: FitWish, devices: int
) -> Ceilings | None:
    if target.row is None or model.active_parameters is None or model.parameters is None:
        return None
    copies = min(target.count // devices, wish.concurrency)  # the others have nothing to do
    least, more = divmod(wish.concurrency, copies)
    one = _decode_tps(model, weights, target.row, engine, wish.context, 1, devices)
    every = _decode_tps(model, weights, target.row, engine, wish.context, least, devices) * (copies - more)
    if more:
        every += _decode_tps(model, weights, target.row, engine, wish.context, least + 1, devices) * more
    arithmetic, rate = rate_of(target.row, weights.arithmetic)
    prefill = None if rate is None else rate * _working(engine, devices) * copies / (2 * model.active_parameters)
    cost = None if wish.price_per_hour is None else wish.price_per_hour / 3600 / every * 1e6
    return Ceilings(
        decode_one_tps=one,
        decode_all_tps=every,
        prefill_tps=prefill,
        cost_per_million=cost,
        arithmetic=arithmetic if rate is not None else None,
    )


def rate_of(row: AcceleratorRow, arithmetic: Arithmetic) -> tuple[Arithmetic, float | None]:
    """(arithmetic, dense operations a second); bf16 where the device has no arithmetic of that kind, or a slower one."""
    rates = row.tflops
    own = {
        Arithmetic.BF16: rates.bf16,
        Arithmetic.FP8: rates.fp8,
        Arithmetic.FP4: rates.fp4,
        Arithmetic.INT8: rates.int8,
    }[arithmetic]
    if own is not None and own >= (rates.bf16 or 0):
        return arithmetic, own * 1e12
    return Arithmetic.BF16, None if rates.bf16 is None else rates.bf16 * 1e12


def _decode_tps(
    model: FitModel,
    weights: WeightsChoice,
    row: AcceleratorRow,
    engine: EngineRow,
    context: int,
    sequences: int,
    devices: int,
) -> float:
    """Tokens a second of one copy: sequences tokens in each step."""
    assert weights.size_bytes is not None and model.parameters is not None and model.active_parameters is not None
    size = weights.size_bytes * read_share(model, sequences)
    size += read_bytes(model.shape, context=context) * sequences
    size += state_bytes(model.shape, engine, sequences=sequences)
    working = _working(engine, devices)
    step_s = size / (row.bandwidth_gbs * 1e9 * working)
    _, rate = rate_of(row, weights.arithmetic)
    if rate is not None:
        step_s = max(step_s, 2 * model.active_parameters * sequences / (rate * working))
    return sequences / step_s


def read_share(model: FitModel, tokens: int) -> float:
    """Share of the weights that a step of so many tokens reads: of the experts those that one of them chose."""
    assert model.parameters is not None and model.active_parameters is not None
    shape = model.shape
    if not model.routed_parameters:
        return min(1.0, model.active_parameters / model.parameters)
    chosen = 1 - (1 - shape.experts_per_token / shape.experts) ** tokens
    fixed = model.active_parameters - model.routed_parameters * shape.experts_per_token / shape.experts
    return min(1.0, (fixed + model.routed_parameters * chosen) / model.parameters)


def _working(engine: EngineRow, devices: int) -> int:
    """Devices that work at the same time on one copy: one, where each has some of the layers."""
    return 1 if engine.split is Split.LAYERS else devices
