"""Rows of the catalog that `bedplate fit` reckons with: models, accelerators, precisions, and what engines allocate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.decoder import DecoderShape
from bedplate.model.units import GIB, MIB


class Arithmetic(StrEnum):
    """The precision in which matrices are multiplied; a weight that is only stored in fewer bits is multiplied in bf16."""

    BF16 = "bf16"
    FP8 = "fp8"
    FP4 = "fp4"
    INT8 = "int8"


class Split(StrEnum):
    """How an engine spreads one model over several accelerators."""

    TENSOR = "tensor"
    """Each matrix is cut: every accelerator works on every layer (tensor parallelism)."""
    LAYERS = "layers"
    """Each accelerator has some of the layers, and they work one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights as they are published: one precision, and their size where a source gives it."""

    precision: str
    """Id of a precision row."""
    size_gib: float | None = None
    """None: the size is computed from the parameters."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One `[[model]]` of models.toml."""

    id: str
    names: tuple[str, ...] = ()
    """Names under which the model is published; they find the row, too."""
    shape: DecoderShape
    parameters: int | None = None
    """None: counted from the shape, or not known where the shape does not suffice."""
    active_parameters: int | None = None
    """Parameters that one token passes through; None: counted from the shape."""
    checkpoint: tuple[Checkpoint, ...]
    published_params: str = ""
    published_kv: str = ""
    source: str
    checked: str
    """How the row was checked, and against what."""
    date: str
    unverified: str = ""
    """What nobody has compared with a second source; "" for nothing."""
    trap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Dense operations a second, in 1e12; None where the accelerator has no such arithmetic, or no source was found."""

    bf16: float | None = None
    fp8: float | None = None
    fp4: float | None = None
    int8: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorRow:
    """One `[[accelerator]]` of accelerators.toml: what one device of it can hold and do."""

    id: str
    name: str
    pci: tuple[str, ...]
    """PCI ids, "10de:2330"."""
    device: str = ""
    """Id of the device of the stack (catalog/stack) that it is a kind of; "" where the resolver knows none."""
    arch: str
    memory_gib: float
    """As the device reports it where that is known, else as it is sold; of one device."""
    bandwidth_gbs: float
    """Memory bandwidth in 1e9 bytes a second, of one device."""
    tflops: Rates
    """Of one device."""
    devices_per_card: int = 1
    """Devices that the system sees for one card."""
    unified_memory: bool = False
    """Whether the host's programs live in the same memory."""
    source: str
    checked: str
    """How the row was checked: `two sources` names them, `one source` is not more than that."""
    date: str
    unverified: str = ""
    """Figures that rest on one source or on memory; "" for none."""
    trap: str = ""

    @property
    def memory_bytes(self) -> int:
        """`memory_gib` in bytes."""
        return int(self.memory_gib * GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """One `[[precision]]`: how many bits a parameter takes, and in which arithmetic it is multiplied."""

    id: str
    bits: float
    """Of one parameter of a matrix, scales included."""
    embedding_bits: float
    """Of one parameter of the embedding and output matrices."""
    arithmetic: Arithmetic
    engines: tuple[str, ...]
    """Ids of the engines that load it."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """One `[[engine]]` of fit_engines.toml: what an engine takes of an accelerator's memory beside weights and KV cache."""

    id: str
    title: str
    component: str
    """The component of the stack that it is."""
    vendors: tuple[str, ...]
    """PCI vendor ids of the accelerators that it runs on: "10de"."""
    on_cpu: bool
    """Whether its rules hold for a host without accelerators, too."""
    split: Split
    memory_fraction: float
    """Share of the memory that the engine uses in all, by default."""
    block_tokens: int
    """The KV cache is given out in blocks of so many tokens."""
    batch_tokens: int
    """Most tokens of prompts in one step, by default; the work buffers are for these."""
    sequences: int
    """Most sequences of one step, by default; the sampler's buffers are for these."""
    runtime_mib: int
    """Held beside all that: the context of the device, communication buffers."""
    state_bytes: int
    """Bytes of one value of a recurrent state."""
    source: str
    checked: str
    date: str
    unverified: str = ""

    @property
    def runtime_bytes(self) -> int:
        """`runtime_mib` in bytes."""
        return self.runtime_mib * MIB
