"""What the front is configured from: the models, the paths that each answers, and the bounds on what clients can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bedplate.model.instance import instance_of, token_variable_of
from bedplate.model.launch import Launch, Limits, ModelRef, ModelTask

_TOKEN_PATHS = ("/tokenize", "/detokenize")
TASK_PATHS = {
    ModelTask.GENERATE: (
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
        *_TOKEN_PATHS,
    ),
    ModelTask.EMBED: ("/v1/embeddings", *_TOKEN_PATHS),
    ModelTask.RERANK: ("/v1/rerank", *_TOKEN_PATHS),
}
"""What a model of each task answers."""
_TEXT_PATHS = ("/v1/chat/completions", "/v1/completions")
ENGINE_PATHS: dict[str, dict[ModelTask, tuple[str, ...]]] = {
    "llamacpp": TASK_PATHS,
    "vllm": {ModelTask.GENERATE: _TEXT_PATHS},
    "transformers": {ModelTask.GENERATE: _TEXT_PATHS},
}
"""What each engine answers, by the task of the model: the paths for which catalog/protocol.toml has its parameters."""
INFERENCE_PATHS = tuple(dict.fromkeys(path for paths in TASK_PATHS.values() for path in paths))

_SMALLEST_BODY = 256 * 1024  # bytes
_LARGEST_BODY = 4 * 1024**2  # bytes
_BODY_BYTES_PER_TOKEN = 16  # JSON with every character escaped takes 6 to 12 bytes a token, plain English 4 to 5
HEADER_ROOM = 32 * 1024
"""Bytes of the buffer beside the body."""
# What a client can make HAProxy hold: a request in its buffer, and the answer, or the next request, in another.
_BUFFERS_PER_CONNECTION = 2
# Of all memory. The unit has a tenth (MemoryMax=10%): after a reload the old process lives until it has answered everybody.
_MEMORY_SHARE = 32
_LEAST_CONNECTIONS = 64
_MOST_CONNECTIONS = 1024
SPARE_CONNECTIONS = 16
"""Beyond the connections that may send a body: they are answered, with 503, instead of waiting unheard."""
_SCRIPT_SHARE = 128  # of all memory
_LEAST_SCRIPT_MIB = 32
_QUEUE_PER_SLOT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One model behind the front: which engine its requests go to, and how many of them run and wait."""

    model: str
    launch: Launch
    parallel: int
    """Requests that the engine gets at once; more wait here."""
    queue: int
    """Requests that may wait; the next one gets 429."""
    task: ModelTask = ModelTask.GENERATE
    context: int = 0
    """Tokens that a request may hold here, prompt and answer together; 0 where that is not told."""
    quantisation: str = ""
    digest: str = ""
    """SHA-256 of the model's content."""
    created: int = 0
    """When the model's file was written, in seconds since 1970; 0 where that is not known."""
    trained_context: int = 0
    """Tokens that the model was made for; 0 where its header does not say."""
    parameters: int = 0
    size_bytes: int = 0
    engine: str = "llamacpp"
    """By whose rules its requests are checked (catalog/protocol.toml)."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that it answers."""
        return ENGINE_PATHS[self.engine].get(self.task, ())

    @property
    def metrics_backend(self) -> str:
        """The backend that requests for its engine's metrics go to."""
        return f"metrics-{instance_of(self.model)}"

    @property
    def backend(self) -> str:
        """The backend that its requests go to."""
        return backend_name(instance_of(self.model))

    @property
    def token_variable(self) -> str:
        """The process variable that stands once its engine has made a token."""
        return token_variable_of(instance_of(self.model))


def without_engine(route: Route) -> Route:
    """The same model while its engine is exchanged: it is listed, and each request gets 503 with Retry-After."""
    return replace(route, launch=replace(route.launch, socket=f"{route.launch.socket}.exchanged"))


def backend_name(instance: str) -> str:
    """The backend of an engine, by the instance of its model (model/instance.py)."""
    return f"engine-{instance}"


def make_route(model: ModelRef, launch: Launch, limits: Limits, *, created: int = 0, engine: str = "llamacpp") -> Route:
    """The route to this model's engine: `limits.parallel` requests run at once, and four times as many may wait."""
    return Route(
        model=model.name,
        launch=launch,
        parallel=limits.parallel,
        queue=_QUEUE_PER_SLOT * limits.parallel,
        task=model.task,
        context=limits.context,
        quantisation=model.quantisation,
        digest=model.sha256,
        created=created,
        trained_context=model.context_length,
        parameters=model.parameters,
        size_bytes=model.size_bytes,
        engine=engine,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """Bounds on what clients can make the front hold, computed for this host."""

    body_bytes: int
    """The largest request body."""
    connections: int
    """Connections that may send a body at the same time."""
    script_mib: int = _LEAST_SCRIPT_MIB
    """Memory of the script that reads bodies."""


def plan_front(contexts: Sequence[int], *, memory_bytes: int) -> FrontLimits:
    """Limits for models with these contexts, in tokens, on a host with so much memory.

    A body may have 16 bytes for each token of the longest context, between 256 KiB and 4 MiB, and no more than what leaves
    room for 64 connections. Two buffers for each connection take 1/32 of the memory at the most; the script that reads
    bodies takes 1/128, and 32 MiB at the least.
    """
    budget = memory_bytes // _MEMORY_SHARE
    affordable = budget // (_LEAST_CONNECTIONS * _BUFFERS_PER_CONNECTION) - HEADER_ROOM
    body = min(_LARGEST_BODY, affordable, _BODY_BYTES_PER_TOKEN * max(contexts, default=0))
    body = max(_SMALLEST_BODY, body)
    connections = budget // (_BUFFERS_PER_CONNECTION * (body + HEADER_ROOM)) - SPARE_CONNECTIONS
    return FrontLimits(
        body_bytes=body,
        connections=max(1, min(_MOST_CONNECTIONS, connections)),
        script_mib=max(_LEAST_SCRIPT_MIB, memory_bytes // _SCRIPT_SHARE // 1024**2),
    )
