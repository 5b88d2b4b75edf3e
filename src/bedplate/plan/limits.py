"""How much one engine may take: context, requests at once, memory; or the refusal, with its arithmetic. Pure.

need = weights + KV pool + buffers, by the arithmetic of plan/cache.py. The buffers are an upper bound: ModelRef does not
carry the size of the vocabulary. So is the KV pool of a model with windows, whose record has one number for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from bedplate.errors import ModelTooLarge
from bedplate.model.instance import BATCH_TOKENS
from bedplate.model.launch import LLAMACPP_FOOTPRINT, EngineFootprint, Format, Limits, ModelRef, Placement
from bedplate.model.serving_host import MemoryBudget
from bedplate.model.units import KIB, render_size
from bedplate.plan.cache import mask_bytes, pad, pool_cells
from bedplate.plan.shares import reserve_bytes

SMALLEST_CONTEXT = 512
DEFAULT_CONTEXT = 8192
UNKNOWN_CONTEXT = 4096  # tokens, for a model whose header does not say
_LARGEST_VOCABULARY = 160_000  # tokens; Qwen 3 has 151 936, Llama 3 128 256
_LEAST_WEIGHTS_PER_TOKEN = 256  # embedding length of the smallest models, so that a tiny one is not charged for a big table
_UNKNOWN_KV_BYTES = 128 * KIB  # a token, where the header does not say; Llama 3 8B has just this


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What an engine holds in memory, in three parts; `buffers_bytes` is an upper bound, with the process itself in it."""

    weights_bytes: int
    kv_bytes: int
    buffers_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum that must fit into what engines may have on this machine (`usable_bytes`)."""
        return self.weights_bytes + self.kv_bytes + self.buffers_bytes

    def render(self) -> str:
        """The arithmetic for people: "1.2 GiB weights + 512.0 MiB KV cache + 300.0 MiB buffers = 2.0 GiB"."""
        return (
            f"{render_size(self.weights_bytes)} weights + {render_size(self.kv_bytes)} KV cache"
            f" + {render_size(self.buffers_bytes)} buffers = {render_size(self.total_bytes)}"
        )


def plan_limits(
    model: ModelRef,
    placement: Placement,
    memory: MemoryBudget,
    *,
    promised_bytes: int = 0,
    context: int | None = None,
    parallel: int | None = None,
    footprint: EngineFootprint = LLAMACPP_FOOTPRINT,
) -> Limits:
    """The limits of one engine, where promised_bytes are spoken for by engines planned before it.

    Without a wish, parallel is the number of CPUs between 2 and 8, within what the engine decodes at once; the context is
    what the model was made for, up to 8192 tokens, halved until it fits. A wished context is never cut. Raises ModelTooLarge
    with the arithmetic.
    """
    requests = parallel if parallel is not None else min(8, max(2, len(placement.cpus)))
    requests = min(requests, footprint.most_parallel or requests)
    wanted = context if context is not None else min(DEFAULT_CONTEXT, model.context_length or UNKNOWN_CONTEXT)
    usable = usable_bytes(memory) - promised_bytes
    tokens = wanted
    while True:
        need = memory_need(model, context=tokens, parallel=requests, footprint=footprint, amx=placement.amx)
        if need.total_bytes <= usable:
            return Limits(context=tokens, parallel=requests, memory_bytes=need.total_bytes, kv_bytes=need.kv_bytes)
        if context is not None or tokens // 2 < SMALLEST_CONTEXT:
            break
        tokens //= 2
    others = f" after {render_size(promised_bytes)} for the models before it" if promised_bytes else ""
    raise ModelTooLarge(
        f"{model.name}: does not fit: {need.render()} for {requests} requests of {tokens} tokens,"
        f" but {render_size(max(0, usable))} of {render_size(memory.total_bytes)} is available{others}",
        missing_bytes=need.total_bytes - usable,
        hint="Give the machine more memory, or serve a smaller or more quantised model.",
    )


_AMX_GROWTH = Fraction(38, 34)
"""The most by which llama.cpp's layout for AMX is larger than the file: 8-bit weights get a sum of 4 bytes a block of 34."""


def memory_need(
    model: ModelRef, *, context: int, parallel: int, footprint: EngineFootprint = LLAMACPP_FOOTPRINT, amx: bool = False
) -> MemoryNeed:
    """What an engine will hold in memory and cannot give back. amx: whether its CPUs have it, which llama.cpp uses.

    With AMX, an embedding that is the output matrix too is held twice, which the index of models does not say: it is within
    what MemoryMax= leaves above the need.
    """
    per_token = model.kv_bytes_per_token or _UNKNOWN_KV_BYTES
    vocabulary = min(_LARGEST_VOCABULARY, model.parameters // _LEAST_WEIGHTS_PER_TOKEN)
    logits_bytes = 4 * vocabulary * BATCH_TOKENS  # 32-bit floats for each token of a batch
    cells = pool_cells(context, parallel)
    if block := footprint.block_tokens:
        cells = parallel * pad(context, block) + 2 * block  # one for the probe, and one that the engine never gives out
    return MemoryNeed(
        weights_bytes=int(model.size_bytes * _AMX_GROWTH) if amx and model.format is Format.GGUF else model.size_bytes,
        kv_bytes=per_token * cells,
        buffers_bytes=footprint.process_bytes + logits_bytes + mask_bytes(cells, BATCH_TOKENS),
    )


def usable_bytes(memory: MemoryBudget) -> int:
    """What engines may have in all: what is available now, with what engines hold already, less the system's reserve."""
    return memory.available_bytes + memory.engines_bytes - reserve_bytes(memory.total_bytes)


def memory_ceiling_bytes(limits: Limits, memory: MemoryBudget) -> int:
    """MemoryMax= of an engine: half as much again as it needs, so that a leak ends the engine and not the host."""
    return min(limits.memory_bytes * 3 // 2, memory.total_bytes)
