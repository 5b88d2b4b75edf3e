"""The page of the inference protocol: what each parameter does, path by path, and which errors there are."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.protocol import ParameterEffect, ParameterRow

_INTRODUCTION = """\
What a client may send to the front of a machine, and what becomes of it. The rows are in
`src/bedplate/catalog/protocol.toml`; the front refuses by them, and a test runs each of them against the real engine.

Nothing is ignored in silence. A parameter *works*, or it is *refused* with status 400 and its name, or it has *no effect*
for a reason that is given here. A parameter that is not on this page is refused with the code `unknown_parameter`, a value
of a wrong type with `invalid_type`. `null` means that a parameter is not given.
"""
_TRANSPORT = """\
## Requests

- The body is one JSON object in UTF-8, without compression, of at most 16 bytes for each token of the longest context
  (256 KiB to 4 MiB). Brackets may be nested a hundred deep. A name that stands twice in the object is refused, since two
  readers could choose differently.
- A header may have 16 KiB. A client of HTTP/1.0 gets a stream that ends with its connection.
- A client that closes its half of the connection after the request counts as gone: its request ends with status 400, and its
  slot is free. Clients must keep their half open until the answer is there.
- Web pages may call the front only from the origins that its configuration lists; none is listed by default.
- A tool that is chosen by its name must be called. The engine knows no such choice, so the front shows it the chosen tool
  alone and demands a call.

## Paths without a body

| path | answer |
|---|---|
| `GET /v1/models`, `GET /v1/models/MODEL` | the models, each with its context (`max_model_len`, `meta.n_ctx`) |
| `GET /health`, `GET /health/MODEL` | 200 while every model, or this one, answers; 503 otherwise |
| `GET /metrics` | HAProxy's metrics in Prometheus' format: requests, queues and times of each backend |
| `GET /metrics/MODEL` | the metrics of the engine of this model; let the scraper add the model's name as a label |
| `GET /version` | versions of bedplate and HAProxy, and the build of each engine |
"""
_ERRORS_HEAD = """\
## Errors

`{"error": {"message", "type", "param", "code"}}`, whoever made the error; `code` is always a string. On `/v1/messages` the
form is Anthropic's, `{"type": "error", "error": {...}}`, with the same members. An error in the middle of a stream is an
event of the stream, in the engine's own words. Every answer has an `x-request-id`.

HAProxy's HTTP parser answers what is not HTTP, has more than 101 header fields, or has a header that comes too slowly, with
400 or 408 in HTML. HAProxy 3.0 has no setting for that text.

| code | status | when |
|---|---|---|
"""
# (code, status, when)
ERRORS = (
    ("invalid_json", 400, "the body is not a JSON object"),
    ("invalid_utf8", 400, "the body is not UTF-8, or has a NUL byte"),
    ("json_too_deep", 400, "the body has more than a hundred brackets inside each other"),
    ("duplicate_parameter", 400, "a name stands twice"),
    ("too_many_parameters", 400, "an object has more than 256 members"),
    ("missing_model", 400, "the body names no model"),
    ("unknown_parameter", 400, "the path has no such parameter"),
    ("unsupported_parameter", 400, "the engine does not do this"),
    ("unsupported_value", 400, "the engine does not do this value of the parameter"),
    ("invalid_type", 400, "a value has another type"),
    ("invalid_value", 400, "a value is out of range, or tool_choice names no tool of the request"),
    ("invalid_request", 400, "the engine refuses the request for another reason; also 404, 413 and 415 of the engine"),
    ("context_length_exceeded", 400, "prompt and answer do not fit into the context"),
    ("unsupported_endpoint", 400, "the model is not for this path"),
    ("bad_request", 400, "the request is not valid, or its client closed the connection before the answer"),
    ("ambiguous_api_key", 400, "the request has more than one key"),
    ("max_tokens_required", 400, "the key limits the length of answers, and the request asks for no length"),
    ("max_tokens_exceeded", 400, "the request asks for a longer answer than its key allows"),
    ("missing_api_key", 401, "the request has no key, and the front asks for one"),
    ("invalid_api_key", 401, "no such key is known"),
    ("expired_api_key", 401, "the key has expired"),
    ("model_not_found", 404, "no model has this name, or the key does not allow it"),
    ("not_found", 404, "the path does not exist"),
    ("method_not_allowed", 405, "the path wants POST"),
    ("request_timeout", 408, "the body did not come in time"),
    ("request_too_large", 413, "the body is larger than the limit"),
    ("unsupported_content_encoding", 415, "the body is compressed"),
    ("queue_full", 429, "too many requests wait for this model; the answer has Retry-After"),
    ("too_many_invalid_keys", 429, "this address has sent too many keys that are not known"),
    ("rate_limit_exceeded", 429, "the key has sent more requests in a minute than it may"),
    ("concurrency_limit_exceeded", 429, "the key has more requests at the same time than it may"),
    ("header_too_large", 431, "the header has more than 16 KiB"),
    ("engine_error", 500, "the engine failed; the same request would fail again"),
    ("invalid_output", 500, "the model wrote what is not UTF-8; another try may do"),
    ("internal_error", 500, "the front failed"),
    ("engine_failed", 502, "the engine ended the connection before it answered"),
    ("keys_not_loaded", 503, "the front does not know its keys yet"),
    ("front_busy", 503, "the front has no memory or time to read the body; the answer has Retry-After"),
    ("model_not_ready", 503, "the engine is starting or stuck; the answer has Retry-After"),
    ("too_many_connections", 503, "too many connections send a body"),
    ("unavailable", 503, "the engine starts again, or a place in its queue was waited for too long"),
    ("engine_timeout", 504, "the engine did not answer in time"),
)
"""Every code that an answer of the front can have."""
_EFFECTS = {ParameterEffect.WORKS: "works", ParameterEffect.NONE: "no effect"}


def render_protocol(rows: Sequence[ParameterRow]) -> str:
    """The page in Markdown, without its first line; paths and parameters in the order of the rows."""
    engines = tuple(dict.fromkeys(row.engine for row in rows))
    parts = ["# The inference protocol\n", _INTRODUCTION, _TRANSPORT]
    for path in dict.fromkeys(path for row in rows for path in row.paths):
        parts += [f"## {path}\n", f"| parameter | type | {' | '.join(engines)} |", f"|---|---|{'---|' * len(engines)}"]
        names = dict.fromkeys(row.name for row in rows if path in row.paths)
        for name in names:
            found = {row.engine: row for row in rows if row.name == name and path in row.paths}
            kinds = " or ".join(next(iter(found.values())).kinds)
            cells = (_cell(found[engine]) if engine in found else "refused: `unknown_parameter`" for engine in engines)
            parts.append(f"| `{name}` | {kinds} | {' | '.join(cells)} |")
        parts.append("")
    parts.append(_ERRORS_HEAD + "\n".join(f"| `{code}` | {status} | {when} |" for code, status, when in ERRORS))
    return "\n".join([*parts, ""])


def _cell(row: ParameterRow) -> str:
    if row.effect is ParameterEffect.REFUSED:
        return f"refused: `unsupported_parameter`, {row.because}"
    text = _EFFECTS[row.effect]
    if row.values:
        taken = " or ".join(f"`{value}`" for value in row.values)
        return f"{text} with {taken}; others are refused: `unsupported_value`, {row.because}"
    return f"{text}: {row.because}" if row.because else text
