"""What an engine is asked to do and how it is started: ModelRef, Placement, Limits -> Launch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.units import MIB

KNOWN_ANSWER = "known-answer"
"""Name of the model that ships, and that `up` serves unless it is told otherwise."""
DEFAULT_MAX_TOKENS = 512
"""Of one answer to a question that bedplate asks."""


class Format(StrEnum):
    """The format of a model's file; what each header says is read by weights/gguf.py and weights/safetensors.py."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"


class ModelTask(StrEnum):
    """What a model is made for, by its header; each has endpoints of its own."""

    GENERATE = "generate"
    """Text, token by token: chat and completions."""
    EMBED = "embed"
    """A vector for a text."""
    RERANK = "rerank"
    """A score for each document, of how well it answers a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model of the store, as its own header describes it."""

    name: str
    """The name that clients put into the `model` field."""
    sha256: str
    """Hex digest of the file; the identity of the model."""
    path: str
    """Where the engine will find it."""
    format: Format
    size_bytes: int
    architecture: str
    parameters: int
    quantisation: str
    context_length: int
    """Tokens the model was made for; 0 when the header does not say."""
    kv_bytes_per_token: int
    """K and V of all layers at 16 bits for one token; 0 when the header does not say."""
    task: ModelTask = ModelTask.GENERATE
    main: str = ""
    """Of a directory: the file in it that an engine is given, the first part of a split model. "" where `path` is what it is
    given."""
    projector: str = ""
    """Of a directory: the file in it that turns images into what the model reads (mmproj); "" without one."""
    adapters: tuple[str, ...] = ()
    """Of a directory: LoRA adapters in it, which are applied whenever the model is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an engine may run. cpus holds the CPUs that are really available: cpuset and quota already applied."""

    cpus: tuple[int, ...]
    cpu_quota: float | None = None
    """CPUs' worth of time that the cgroup grants; None without a quota."""
    because: str = ""
    amx: bool = False
    """Whether the CPUs have AMX, for which llama.cpp lays weights out anew, in memory of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one engine gets of this machine; plan/limits.py makes them so that the engine fits into its memory."""

    context: int
    """Tokens a request may hold, prompt and answer together."""
    parallel: int
    """Requests decoded at once."""
    memory_bytes: int
    """What the engine may use in all."""
    kv_bytes: int = 0
    """What of it is for the KV cache; 0 in a plan of a bedplate that did not write it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFootprint:
    """What an engine holds and does whatever the model; plan/limits.py reckons with it."""

    process_bytes: int
    """All of its processes, without a model."""
    block_tokens: int = 0
    """Its KV cache has blocks of so many tokens, and each request has blocks of its own; 0: one pool as of llama.cpp."""
    most_parallel: int | None = None
    """Requests that it decodes at once; None: as many as are planned."""


LLAMACPP_FOOTPRINT = EngineFootprint(process_bytes=48 * MIB)
"""llama-server 0.7.0 itself: 25 MiB anonymous and 26 MiB of libraries with a 9 MiB model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How the front asks an engine whether it is ready, once, and whether it still makes progress, from then on.

    A request that it answers only when it makes tokens, 200 with `expect` in the body, says that it is ready. A heartbeat
    that is answered with 200 within the deadline says that it lives.
    """

    path: str
    body: str
    expect: str
    """Text that the body must hold."""
    heartbeat: str
    """Path that the engine's own loop answers, between two batches of work, and no thread beside it."""
    deadline_s: float
    """For either: the longest batch, and room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one engine for one model."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    probe: Probe
    memory_bytes: int
    """What the launch is expected to use: weights, KV cache and work buffers."""
    socket: str
    """Path of the Unix socket that it will listen on."""
    drop_in: str = ""
    """Path, in the image, of what this engine needs beside the common unit: a drop-in of systemd.unit(5); "" for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """What an engine was planned with when it was started. It keeps this while its model stays the same: memory and CPUs as
    they are later would give other limits, and an engine that restarts for those of its neighbour cuts its requests."""

    sha256: str
    path: str
    limits: Limits
    placement: Placement
    engine: str = "llamacpp"
    """Name of the engine (engines/__init__.py); each reckons its memory differently."""

    def is_of(self, model: ModelRef) -> bool:
        """Whether it was made for this content at this place."""
        return (self.sha256, self.path) == (model.sha256, model.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityResult:
    """What verifying a model of the store found; problem is empty when the content is what it was when it was added."""

    model: ModelRef
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreObstacle:
    """A record or list of the store without which it is unknown which content is still needed, so none is removed."""

    path: str
    problem: str
    """A clause whose subject is the file: "is damaged"."""
    repair: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A model that no longer has its name, and whether the disk got its space back."""

    model: ModelRef
    kept_bytes: int
    """Content that no record needs and that obstacles keep: of this model and of earlier ones; 0 without obstacles."""
    obstacles: tuple[StoreObstacle, ...]
