"""A small load client for OpenAI-compatible engines: streams, a clock for each token, its own lateness. Standard library.

Open loop: requests are sent when the trace says so, whatever the engine does. Steady: so many streams, each with its next
request as soon as the last one ended. One thread with one event loop; the answer is read as it comes. What the client
itself was late is measured and reported, since a late client cannot judge. Why this exists beside guidellm:
docs/decisions/0045-small-load-client.md.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bedplate.engines.client import Endpoint
from bedplate.prove.gauge.arrivals import Arrival

_LINE_LIMIT = 1 << 20
_CONNECT_S = 10.0
_WORDS = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "with", "on", "by", "at", "this", "from", "be")
_LAG_EVERY_S = 0.010


@dataclass(slots=True, kw_only=True)
class RequestLog:
    """One request as it went; times are of time.monotonic()."""

    due_s: float
    wanted_tokens: int
    stream: int | None = None
    """Of a steady load: its requests follow one another. None in a replay."""
    sent_s: float = 0.0
    token_s: list[float] = field(default_factory=list)
    ended_s: float = 0.0
    counted: int | None = None
    """Tokens that the engine says it made (usage.completion_tokens)."""
    problem: str = ""

    @property
    def tokens(self) -> int:
        """Made in all: by the engine's own count, else one a piece of the stream."""
        return self.counted if self.counted is not None else len(self.token_s)

    @property
    def ttft_s(self) -> float | None:
        """Seconds from when the request was due, so that a late client is not left out; None before the first token."""
        return self.token_s[0] - self.due_s if self.token_s else None

    @property
    def tpot_s(self) -> float | None:
        """(e2e - TTFT) / (n - 1), without the first token; None for fewer than two tokens, or none that was seen to come."""
        if self.tokens < 2 or not self.token_s:
            return None
        return (self.ended_s - self.token_s[0]) / (self.tokens - 1)


def make_prompt(tokens: int, *, seed: int) -> str:
    """About so many tokens of plain words; the first ones differ with the seed, so that no prefix cache answers."""
    chance = random.Random(seed)
    return " ".join([f"{chance.getrandbits(40):x}", *chance.choices(_WORDS, k=max(1, tokens - 4))])


async def send(endpoint: Endpoint, log: RequestLog, prompt: str, *, timeout_s: float) -> None:
    """One streamed request; fills the log, and says in it what went wrong. Never raises for what the engine does."""
    log.sent_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            await _stream(endpoint, log, prompt)
    except TimeoutError:
        log.problem = f"no end after {timeout_s:g} s"
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        log.problem = f"{type(error).__name__}: {error}"
    if not log.problem and not log.token_s and not log.counted:  # a token may be half a character, and show nothing
        log.problem = "the stream contained no token"
    log.ended_s = time.monotonic()


async def replay(
    endpoint: Endpoint, arrivals: Sequence[Arrival], logs: list[RequestLog], *, seed: int, timeout_s: float = 300.0
) -> float:
    """Send each request when it is due, wait for all to end, and return the client's lag (99th percentile, seconds)."""
    lags: list[float] = []
    watch = asyncio.create_task(_watch_lag(lags))
    begin = time.monotonic() + 0.05
    tasks: list[asyncio.Task[None]] = []
    try:
        for number, arrival in enumerate(arrivals):
            due = begin + arrival.at_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            log = RequestLog(due_s=due, wanted_tokens=arrival.output_tokens)
            logs.append(log)
            lags.append(time.monotonic() - due)
            prompt = make_prompt(arrival.input_tokens, seed=seed + number)
            tasks.append(asyncio.create_task(send(endpoint, log, prompt, timeout_s=timeout_s)))
        await asyncio.gather(*tasks)
    finally:
        for task in [watch, *tasks]:
            task.cancel()
    return _p99(lags)


async def stream_steadily(
    endpoint: Endpoint,
    logs: list[RequestLog],
    lags: list[tuple[float, float]],
    *,
    streams: int,
    input_tokens: int,
    output_tokens: int,
    stop: Callable[[], bool],
    timeout_s: float = 300.0,
) -> None:
    """So many streams without a pause until stop() says so; a request that fails waits a moment before the next."""

    async def one_stream(number: int) -> None:
        turn = 0
        while not stop():
            log = RequestLog(due_s=time.monotonic(), wanted_tokens=output_tokens, stream=number)
            logs.append(log)
            prompt = make_prompt(input_tokens, seed=number * 1_000_003 + turn)
            await send(endpoint, log, prompt, timeout_s=timeout_s)
            turn += 1
            if log.problem:
                await asyncio.sleep(0.2)

    tasks = [asyncio.create_task(one_stream(number)) for number in range(streams)]
    try:
        while not stop():
            due = time.monotonic() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            now = time.monotonic()
            lags.append((now, now - due))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stream(endpoint: Endpoint, log: RequestLog, prompt: str) -> None:
    async with asyncio.timeout(_CONNECT_S):
        if endpoint.socket:
            reader, writer = await asyncio.open_unix_connection(endpoint.socket, limit=_LINE_LIMIT)
        else:
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, limit=_LINE_LIMIT)
    try:
        writer.write(_request(endpoint, prompt, log.wanted_tokens))
        await writer.drain()
        status, chunked = await _head(reader)
        if status != 200:
            body = (await reader.read(300)).decode(errors="replace")
            raise ValueError(f"status {status}: {' '.join(body.split())[:200]}")
        rest = b""
        while True:
            data = await _chunk(reader) if chunked else await reader.read(65536)
            now = time.monotonic()
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            if any(_take_line(line, log, now) for line in lines):
                break
    finally:
        writer.close()


def _request(endpoint: Endpoint, prompt: str, tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": endpoint.model or "default",
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "cache_prompt": False,
        }
    ).encode()
    head = (
        f"POST {endpoint.prefix}/v1/chat/completions HTTP/1.1\r\nHost: {endpoint.host}:{endpoint.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError(f"no HTTP answer: {head[:60]!r}")
    chunked = any(
        line.partition(":")[0].strip().lower() == "transfer-encoding" and "chunked" in line.lower()
        for line in head.split("\r\n")
    )
    return int(words[1]), chunked


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline()).split(b";")[0].strip() or b"0", 16)
    data = await reader.readexactly(size) if size else b""
    await reader.readline()
    return data


def _take_line(line: bytes, log: RequestLog, now: float) -> bool:
    """One line of server-sent events; True at [DONE]."""
    if not line.startswith(b"data:"):
        return False
    text = line[5:].strip()
    if text == b"[DONE]":
        return True
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("an event that is not a JSON object")
    if record.get("error"):
        raise ValueError(f"the engine reported {str(record['error'])[:200]}")
    usage = record.get("usage")
    if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
        log.counted = usage["completion_tokens"]
    choices = record.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    if delta.get("content") or delta.get("reasoning_content"):
        log.token_s.append(now)
    return False


async def _watch_lag(lags: list[float]) -> None:
    while True:
        due = time.monotonic() + _LAG_EVERY_S
        await asyncio.sleep(_LAG_EVERY_S)
        lags.append(time.monotonic() - due)


def _p99(lags: Sequence[float]) -> float:
    ordered = sorted(lags)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0
