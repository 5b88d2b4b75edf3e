"""Ask a model of an endpoint a question, and give its answer piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bedplate.engines.client import Chat, find_model, list_models, stream_answer
from bedplate.errors import UsageError
from bedplate.flows.endpoint import find_endpoint
from bedplate.model.launch import DEFAULT_MAX_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """The answer of a model, of which the first piece has not been waited for."""

    model: str
    pieces: Iterator[str]
    """The text as it comes. Raises NotRunningError where nothing answers, BedplateError when the engine refuses the
    question or breaks off."""


def ask(
    question: str,
    *,
    endpoint: str | None = None,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    temperature: float = 0.0,
    timeout_s: float = 120.0,
) -> Answering:
    """Put a question to a model; None: the endpoint of $BEDPLATE_ENDPOINT or of this host, the first model it lists.

    timeout_s: the longest wait for a token. Raises UsageError for a question that is empty or an endpoint that is no http
    URL, NotRunningError when nothing answers there.
    """
    if max_tokens < 1:
        raise UsageError(f"--max-tokens: got {max_tokens}, expected 1 or more")
    if not question:
        raise UsageError("the question is empty", hint='Give one: bedplate ask "What is TTFT?"')
    endpoint = endpoint or os.environ.get("BEDPLATE_ENDPOINT") or find_endpoint()
    chat = Chat(
        endpoint=endpoint,
        model=model or find_model(endpoint, timeout_s=timeout_s),
        question=question,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        timeout_s=timeout_s,
    )
    return Answering(model=chat.model, pieces=stream_answer(chat))


def choose_served(models: Sequence[str], endpoint: str, *, closed: bool) -> tuple[str, list[str]]:
    """The first of `models` that an endpoint serves now, else the first that it serves; and those that it does not serve.

    closed: the front lists its models for holders of a key alone; then all of them are taken to be there. Raises
    NotRunningError when nothing answers there.
    """
    served = models if closed else list_models(endpoint, timeout_s=60.0)
    return next((model for model in models if model in served), served[0]), [name for name in models if name not in served]
