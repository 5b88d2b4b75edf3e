"""Speak to an OpenAI-compatible endpoint: which models it has, and one answer as it is made (server-sent events).

A key in $BEDPLATE_KEY is sent along. Certificates are verified as Python does it: $SSL_CERT_FILE names a CA.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bedplate.engines.served import parse_served
from bedplate.errors import BedplateError, NotRunningError, UsageError
from bedplate.model.launch import DEFAULT_MAX_TOKENS

_MOST_BYTES = 1 << 20  # of an answer that is read as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """http://host:port/prefix, or unix:/path/of/socket."""

    host: str
    port: int
    prefix: str = ""
    socket: str = ""
    model: str = ""
    tls: bool = False
    """TLS whose certificate is not verified: for questions whose answer anybody may know, sent without a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that was read as a whole, up to a limit."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """One question to a model, sent to /v1/chat/completions; without `system` no system message is sent."""

    endpoint: str
    model: str
    question: str
    system: str | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    timeout_s: float = 120.0
    """The longest silence, not the longest answer."""


def parse_endpoint(text: str, *, model: str = "") -> Endpoint:
    """ "http://127.0.0.1:8080/v1" or "unix:/run/engine.sock". Raises UsageError."""
    if text.startswith("unix:/"):
        return Endpoint(host="localhost", port=0, socket=text.removeprefix("unix:"), model=model)
    try:
        url = urlsplit(text)
        port = url.port or 80
    except ValueError as error:
        raise UsageError(f"{text}: not a URL: {error}") from error
    if url.scheme != "http" or not url.hostname:
        raise UsageError(f"{text}: expected http://HOST:PORT or unix:/PATH")
    return Endpoint(host=url.hostname, port=port, prefix=url.path.rstrip("/").removesuffix("/v1"), model=model)


def connect(endpoint: Endpoint, *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection that is open, to be closed by the caller. Raises OSError when nothing answers."""
    connection: http.client.HTTPConnection
    if endpoint.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port or 80, timeout=timeout_s)
    try:
        if endpoint.socket:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(timeout_s)
            connection.sock.connect(endpoint.socket)
        else:
            connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def fetch(
    endpoint: Endpoint, path: str, *, timeout_s: float, body: bytes | None = None, limit_bytes: int = _MOST_BYTES
) -> Reply:
    """The answer to a GET of a path below an endpoint; with a body of JSON, to a POST.

    Raises OSError or http.client.HTTPException when there is none, TimeoutError among them.
    """
    connection = connect(endpoint, timeout_s=timeout_s)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request("GET" if body is None else "POST", f"{endpoint.prefix}{path}", body, headers)
        response = connection.getresponse()
        return Reply(status=response.status, body=response.read(limit_bytes))
    finally:
        connection.close()


def find_model(endpoint: str, *, timeout_s: float) -> str:
    """The first model that the endpoint lists; raises as list_models does."""
    return list_models(endpoint, timeout_s=timeout_s)[0]


def list_models(endpoint: str, *, timeout_s: float) -> tuple[str, ...]:
    """The models that the endpoint lists, at least one; raises NotRunningError when nothing answers or it serves none."""
    connection = _connect(endpoint, timeout_s)
    try:
        answer = _request(connection, endpoint, "GET", "/v1/models", None)
        body = answer.read()
        if answer.status != 200:
            raise _refusal(endpoint, answer.status, body)
        models = tuple(model.id for model in parse_served(body))
    except ValueError as error:
        raise BedplateError(f"{endpoint}/v1/models: not a list of models: {error}") from error
    finally:
        connection.close()
    if not models:
        raise NotRunningError(f"{endpoint}: serves no model yet", hint="See bedplate status.")
    return models


def stream_answer(chat: Chat) -> Iterator[str]:
    """Pieces of the answer as they arrive; raises NotRunningError when nothing answers, BedplateError when it is refused."""
    messages = [{"role": "system", "content": chat.system}] if chat.system else []
    messages.append({"role": "user", "content": chat.question})
    body = {
        "model": chat.model,
        "messages": messages,
        "max_tokens": chat.max_tokens,
        "temperature": chat.temperature,
        "stream": True,
    }
    connection = _connect(chat.endpoint, chat.timeout_s)
    try:
        answer = _request(connection, chat.endpoint, "POST", "/v1/chat/completions", body)
        if answer.status != 200:
            raise _refusal(chat.endpoint, answer.status, answer.read())
        yield from parse_pieces(_lines(answer, chat))
    finally:
        connection.close()


def parse_pieces(lines: Iterator[bytes]) -> Iterator[str]:
    """Text of a stream of chat chunks: 'data: {"choices":[{"delta":{"content":"Hi"}}]}' gives "Hi"; "[DONE]" ends it.

    Raises BedplateError for an error in the stream, for a line that is not JSON, and when it ends without an end.
    """
    for raw in lines:
        line = raw.strip()
        if not line.startswith(b"data:"):
            continue  # comments, event names and the blank lines between events
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        try:
            chunk: dict[str, Any] = json.loads(data)
            if "error" in chunk:
                raise BedplateError(
                    f"the engine stopped in the middle of an answer: {_error_text(chunk)}", hint="See bedplate logs."
                )
            for choice in chunk.get("choices", ()):
                if piece := choice.get("delta", {}).get("content"):
                    yield piece
        except (ValueError, AttributeError, TypeError) as error:
            raise BedplateError(f"the engine sent {data[:80]!r}, expected a chunk of an answer") from error
    raise BedplateError("the answer is incomplete: the connection closed early", hint="See bedplate logs.")


def _connect(endpoint: str, timeout_s: float) -> http.client.HTTPConnection:
    if endpoint.startswith("unix:/"):
        try:
            return connect(parse_endpoint(endpoint), timeout_s=timeout_s)
        except OSError as error:
            raise NotRunningError(f"{endpoint}: {error}", hint="Check the machine: bedplate status") from error
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--endpoint: got {endpoint!r}, expected http://HOST:PORT")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=timeout_s)


def _request(
    connection: http.client.HTTPConnection, endpoint: str, method: str, path: str, body: dict[str, Any] | None
) -> http.client.HTTPResponse:
    path = path if endpoint.startswith("unix:/") else urlsplit(endpoint).path.rstrip("/") + path
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if key := os.environ.get("BEDPLATE_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        return connection.getresponse()
    except TimeoutError as error:
        raise BedplateError(
            f"{endpoint}: no answer in {connection.timeout:.0f} s",
            hint="Check the machine with `bedplate status`, or give a longer --timeout.",
        ) from error
    except (OSError, http.client.HTTPException, socket.gaierror) as error:
        raise NotRunningError(f"{endpoint}: {error}", hint="Check that the machine is running: bedplate status") from error


def _lines(answer: http.client.HTTPResponse, chat: Chat) -> Iterator[bytes]:
    try:
        while line := answer.readline():
            yield line
    except TimeoutError as error:
        raise BedplateError(
            f"{chat.endpoint}: silent for {chat.timeout_s:.0f} s in the middle of an answer", hint="See bedplate logs."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise BedplateError(f"{chat.endpoint}: the answer is incomplete: {error}", hint="See bedplate logs.") from error


def _refusal(endpoint: str, status: int, body: bytes) -> BedplateError:
    try:
        text = _error_text(json.loads(body))
    except (ValueError, TypeError):
        text = body.decode(errors="replace").strip()[:200]
    hint = {
        401: "Put a key of it (bedplate key add) into BEDPLATE_KEY.",
        404: "See the models that it has: bedplate status",
        429: "It is full; ask again in a moment.",
        503: "It is not ready, or full; see bedplate status.",
    }.get(status)
    return BedplateError(f"{endpoint}: refused with {status}: {text or http.client.responses.get(status, '')}", hint=hint)


def _error_text(record: dict[str, Any]) -> str:
    error = record.get("error", record)
    return str(error.get("message", error) if isinstance(error, dict) else error)
