"""Asks the known-answer model its facts through an OpenAI-compatible endpoint and demands the exact answers.

One pass through everything: front door, limits, engine, threads, weights. Greedy decoding of a model that was made to know
these answers leaves no room for taste: one wrong character is a fault somewhere below.
"""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bedplate.catalog.facts import KnownAnswers, phrasings
from bedplate.engines.client import Endpoint, connect, fetch, parse_endpoint
from bedplate.errors import NotRunningError
from bedplate.model.progress import Progress

MAX_TOKENS = 128  # the longest answer has 60
MAX_BODY_BYTES = 1024 * 1024
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A question that did not come back with its answer. problem says why there is no answer; else it is empty."""

    question: str
    expected: str
    got: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What asking the known-answer model gave: `exact` of `asked` answers came back to the character."""

    endpoint: str
    model: str
    asked: int
    exact: int
    misses: tuple[Miss, ...]
    elapsed_s: float

    @property
    def passed(self) -> bool:
        """Whether every question came back exactly; False when none was asked."""
        return self.asked > 0 and not self.misses


def run_selftest(
    facts: KnownAnswers,
    *,
    endpoint: str,
    model: str,
    progress: Progress,
    all_phrasings: bool = False,
    parallel: int = 1,
) -> SelfTest:
    """Ask each fact once (or in every trained phrasing), so many at a time.

    Raises UsageError for an endpoint that is no http URL and NotRunningError when nothing answers there. A request that
    fails later is a miss, with its problem.
    """
    address = parse_endpoint(endpoint)
    questions = [
        (question, fact.answer)
        for fact in facts.fact
        for question in (phrasings(fact) if all_phrasings else (fact.question,))
    ]
    started = time.monotonic()
    misses: list[Miss] = []
    with progress.phase(f"ask {len(questions)} questions at {endpoint}"):
        _check_there(address, endpoint)

        def ask(item: tuple[str, str]) -> Miss | None:
            question, expected = item
            try:
                got = ask_question(address, model=model, question=question)
            except (OSError, http.client.HTTPException, ValueError) as error:
                return Miss(question=question, expected=expected, got="", problem=f"{type(error).__name__}: {error}")
            return None if got == expected else Miss(question=question, expected=expected, got=got, problem="")

        with ThreadPoolExecutor(max_workers=parallel) as pool:
            for done, miss in enumerate(pool.map(ask, questions), start=1):
                if miss is not None:
                    misses.append(miss)
                progress.detail(f"{done - len(misses)} of {done} exact")
    return SelfTest(
        endpoint=endpoint,
        model=model,
        asked=len(questions),
        exact=len(questions) - len(misses),
        misses=tuple(misses),
        elapsed_s=round(time.monotonic() - started, 3),
    )


def ask_question(endpoint: Endpoint, *, model: str, question: str) -> str:
    """One answer, decoded greedily. Raises OSError, HTTPException or ValueError when there is none."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "stream": False,
        }
    )
    reply = fetch(endpoint, "/v1/chat/completions", body=body.encode(), timeout_s=TIMEOUT_S, limit_bytes=MAX_BODY_BYTES)
    if reply.status != 200:
        raise ValueError(f"status {reply.status}: {reply.body[:200].decode(errors='replace')}")
    return _parse_answer(reply.body)


def _parse_answer(text: bytes) -> str:
    """The content of the first choice. Raises ValueError when the body is something else."""
    reply = json.loads(text)
    try:
        content = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no answer in the reply: {text[:200].decode(errors='replace')}") from error
    if not isinstance(content, str):
        raise ValueError(f"the answer is not text: {content!r}")
    return content


def _check_there(address: Endpoint, endpoint: str) -> None:
    try:
        connect(address, timeout_s=5).close()
    except OSError as error:
        raise NotRunningError(
            f"{endpoint}: no answer: {error.strerror or error}", hint="Start the machine: bedplate up."
        ) from error
