"""Whether a model fits: what is asked, and the answer for each engine, precision and set of accelerators."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.catalogued import AcceleratorRow, Arithmetic
from bedplate.model.decoder import DecoderShape


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsChoice:
    """One precision that the weights are had in."""

    precision: str
    """Id of a precision row, or what the file's own header says."""
    size_bytes: int | None
    """None: not known, so nothing can be said about memory."""
    arithmetic: Arithmetic
    engines: tuple[str, ...]
    """Ids of the engines that load it."""
    origin: str
    """Where the size comes from, for people: "the file", "computed from the parameters"."""
    amx_bytes: int | None = None
    """What they take where the engine lays them out anew for CPUs with AMX; None: the same, or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitModel:
    """A model as `fit` reckons with it, read from a file or from a row of the catalog."""

    name: str
    source: str
    shape: DecoderShape
    parameters: int | None
    active_parameters: int | None
    """Those that one token is multiplied with; None when not known: then there is no figure of speed."""
    routed_parameters: int
    """Of all routed experts, of which a step reads those that its tokens chose."""
    weights: tuple[WeightsChoice, ...]
    unverified: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTarget:
    """Some accelerators of one kind, or the memory of a host without any."""

    name: str
    row: AcceleratorRow | None
    """None: not in the catalog, so there is no figure of speed."""
    count: int
    memory_bytes: int | None
    """Of one device; None when not known."""
    engines: tuple[str, ...]
    """Ids of the engines that run on it."""
    host_memory: bool = False
    """Whether it is the host's own memory, and the engine computes on its CPUs."""
    reserve_bytes: int = 0
    """Of the host's memory: what others hold, and what is left to the system."""
    amx: bool = False
    """Whether the host's CPUs have AMX."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitWish:
    """What is asked of each target."""

    context: int
    """Tokens of one request, prompt and answer together."""
    concurrency: int
    """Requests at once, in all."""
    price_per_hour: float | None = None
    """Of all accelerators of the target together, in the caller's currency; None: no cost is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryParts:
    """The memory of one device, in bytes, in the order in which it is drawn."""

    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    buffers_bytes: int
    runtime_bytes: int
    reserve_bytes: int
    """What the engine leaves alone by default, or the system keeps."""
    total_bytes: int
    """Of the device."""

    @property
    def used_bytes(self) -> int:
        """All parts together; more than `total_bytes` where they do not fit."""
        own = self.weights_bytes + self.kv_bytes + self.state_bytes + self.buffers_bytes
        return own + self.runtime_bytes + self.reserve_bytes

    @property
    def spare_bytes(self) -> int:
        """What is left of the device; negative: what is missing."""
        return self.total_bytes - self.used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What the memory's and the arithmetic's peak allow at most; a real engine stays below. None: a figure is not known."""

    decode_one_tps: float | None
    """Tokens a second of a single request."""
    decode_all_tps: float | None
    """Tokens a second of all requests together, on the copies that have one."""
    prefill_tps: float | None
    """Tokens of prompts a second, on the copies that have a request."""
    cost_per_million: float | None
    """Of generated tokens, at `decode_all_tps` and the wished price: real costs are higher."""
    arithmetic: Arithmetic | None
    """What `prefill_tps` is computed with; None without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """The answer for one engine and precision on one target."""

    target: FitTarget
    engine: str
    precision: str
    devices: int
    """That share one copy of the model."""
    copies: int
    """Of the model on the target."""
    fits: bool | None
    """None: not known, and `reason` says why."""
    reason: str
    """Why it does not fit or is not known; "" when it fits."""
    parts: MemoryParts | None
    most_sequences: int
    """Requests of the wished context that fit at once, on all copies; 0 when none does."""
    most_context: int
    """Tokens of the longest context at the wished concurrency, at most what the model was made for; 0 when none fits."""
    ceilings: Ceilings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """All answers about one model."""

    model: FitModel
    wish: FitWish
    results: tuple[FitResult, ...]
    version: str
    """Of bedplate."""

    @property
    def holds(self) -> bool:
        """Whether one of the results fits."""
        return any(result.fits for result in self.results)
