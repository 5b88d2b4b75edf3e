"""What the text and the page of `fit` say alike: the parts of memory, figures with their units, and where they come from."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.model.fit import FitModel, FitReport, FitResult, FitTarget, MemoryParts
from bedplate.model.units import render_size
from bedplate.report.format import clean, memory
from bedplate.report.models import render_count

_HEADS = ("Engine", "Precision", "Devices", "Holds it", "Requests", "Context", "One request", "All", "Prompts", "Cost/M")
PART_NAMES = {
    "weights": "weights",
    "kv": "KV cache",
    "state": "recurrent states",
    "buffers": "work buffers",
    "runtime": "engine's runtime",
    "reserve": "left alone",
}
"""By the class of the part, in the order in which parts are drawn."""


def parts_of(parts: MemoryParts) -> tuple[tuple[str, str, int], ...]:
    """(class, name, bytes) of each part that is not empty, in the order in which it is drawn."""
    sizes = {
        "weights": parts.weights_bytes,
        "kv": parts.kv_bytes,
        "state": parts.state_bytes,
        "buffers": parts.buffers_bytes,
        "runtime": parts.runtime_bytes,
        "reserve": parts.reserve_bytes,
    }
    return tuple((css, name, sizes[css]) for css, name in PART_NAMES.items() if sizes[css] > 0)


def used_parts(results: Iterable[FitResult]) -> set[str]:
    """Classes of the parts that are drawn for these results, which a key explains."""
    return {css for result in results if result.parts is not None for css, _, _ in parts_of(result.parts)}


def by_target(results: Iterable[FitResult]) -> tuple[tuple[FitResult, ...], ...]:
    """The results of each target, in the order of the targets."""
    found: dict[str, list[FitResult]] = {}
    for result in results:
        found.setdefault(result.target.name, []).append(result)
    return tuple(map(tuple, found.values()))


def legend(report: FitReport) -> tuple[str, ...]:
    """What the columns of the tables mean, in sentences."""
    return (*_LEGEND, _COST_LEGEND) if report.wish.price_per_hour is not None else _LEGEND


def heads(report: FitReport) -> tuple[str, ...]:
    """Heads of the columns: the cost only where there is a price."""
    return _HEADS if report.wish.price_per_hour is not None else _HEADS[:-1]


def headline(report: FitReport) -> str:
    """One sentence: whether it fits, where, and with what."""
    name = clean(report.model.name)
    wish = f"{report.wish.concurrency} x {report.wish.context} tokens"
    known = [result for result in report.results if result.fits is not None]
    if not known:
        why = report.results[0].reason if report.results else "no device was found on which an engine loads it"
        return f"{name}: nothing can be said: {why}"
    holding = [result for result in known if result.fits]
    if not holding:
        return f"{name} with {wish} fits nowhere in what was asked"
    best = min(holding, key=lambda result: result.devices)
    target = best.target
    copies = min(best.copies, report.wish.concurrency)
    where = clean(target.name) if target.host_memory else f"{copies * best.devices} x {clean(target.name)}"
    spread = f", {copies} copies" if copies > 1 else ""
    return f"{name} with {wish} fits in {where} ({best.engine}, {clean(best.precision)}{spread})"


def model_line(model: FitModel) -> str:
    """Parameters, KV cache and context in one line."""
    shape = model.shape
    words = [f"{render_count(model.parameters)} parameters" if model.parameters is not None else "parameters not known"]
    if model.active_parameters is not None and model.routed_parameters:
        words.append(f"{render_count(model.active_parameters)} of them active")
    kv = f"KV cache {render_size(shape.kv_bytes_per_token)} a token at 16 bits"
    if shape.window_layers:
        kv += f", {render_size(shape.kv_bytes_beyond_window)} beyond {shape.window} tokens"
    words.append(kv)
    if shape.state_layers:
        values = shape.state_layers * (shape.conv_values + shape.state_values)
        words.append(f"state {render_size(4 * values)} a request at 32 bits")
    if shape.context:
        words.append(f"made for {shape.context} tokens")
    return ", ".join(words)


def target_line(target: FitTarget) -> str:
    """How many of what, and how large: "8 x NVIDIA H100 SXM5 80GB, 80 GiB each"."""
    size = memory(target.memory_bytes) if target.memory_bytes is not None else "memory not known"
    if target.host_memory:
        return f"{clean(target.name)}, {size}"
    return f"{target.count} x {clean(target.name)}, {size} each"


def target_notes(target: FitTarget) -> tuple[str, ...]:
    """How the row was checked and what rests on one source; nothing of it was measured here."""
    if target.row is None:
        return (clean(target.note),) if target.note else ()
    row = target.row
    notes = [f"figures: {clean(row.checked)}"]
    if row.unverified:
        notes.append(f"unverified: {clean(row.unverified)}")
    if row.trap:
        notes.append(clean(row.trap))
    return tuple(notes)


def cells(result: FitResult) -> tuple[str, ...]:
    """One row of the table, in the order of the heads, with the cost at the end."""
    ceilings = result.ceilings
    rates = (ceilings.decode_one_tps, ceilings.decode_all_tps, ceilings.prefill_tps) if ceilings is not None else (None,) * 3
    return (
        result.engine,
        clean(result.precision),
        _devices(result),
        {True: "yes", False: "no", None: "unknown"}[result.fits],
        str(result.most_sequences) if result.most_sequences else "-",
        str(result.most_context) if result.most_context else "-",
        *(_rate(rate) for rate in rates),
        _cost(ceilings.cost_per_million if ceilings is not None else None),
    )


def _devices(result: FitResult) -> str:
    return f"{result.copies} x {result.devices}" if result.fits and result.copies > 1 else str(result.devices)


def _rate(tps: float | None) -> str:
    if tps is None:
        return "-"
    return f"{tps:.0f} tok/s" if tps < 10_000 else f"{tps / 1000:.0f}k tok/s"


def _cost(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.2f}"


_LEGEND = (
    "REQUESTS: most at once with this context. CONTEXT: longest with these requests. DEVICES: copies x devices of one copy.",
    "ONE REQUEST, ALL (generated tokens) and PROMPTS are ceilings by peak memory and arithmetic; engines are slower.",
)
_COST_LEGEND = "COST/M: cost of a million generated tokens at the ceiling, so the least; in the currency of --price."
