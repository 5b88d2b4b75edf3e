"""Errors of the front in the form of OpenAI's API, and the rules that answer with them."""

from __future__ import annotations

RETRY_AFTER_S = 5
JSON_TYPE = "content-type application/json"

# status: (what an operator should read, OpenAI's type, code); HAProxy answers these by itself
PROXY_ERRORS = {
    400: ("The request is not valid HTTP.", "invalid_request_error", "bad_request"),
    408: ("The request did not arrive in time.", "invalid_request_error", "request_timeout"),
    500: ("The front door failed.", "server_error", "internal_error"),
    502: ("The engine ended the connection before it answered.", "server_error", "engine_failed"),
    503: ("The engine does not answer now: it starts again, or all its slots were taken.", "server_error", "unavailable"),
    504: ("The engine did not answer in time.", "server_error", "engine_timeout"),
}


def render_error(message: str, *, kind: str, code: str | None, param: str | None = None) -> str:
    """An error in the form of OpenAI's API; message and code are ours and need no escaping."""
    shown = ",".join(
        f'"{key}":{"null" if value is None else chr(34) + value + chr(34)}'
        for key, value in (("message", message), ("type", kind), ("param", param), ("code", code))
    )
    return '{"error":{' + shown + "}}"


def refuse(
    status: int,
    message: str,
    *,
    code: str,
    when: str,
    kind: str = "invalid_request_error",
    param: str | None = None,
    extra: str = "",
) -> str:
    """The rule that answers with this error when the condition (in HAProxy's words) holds; extra: headers of the answer."""
    body = render_error(message, kind=kind, code=code, param=param)
    return f"    http-request return status {status} {JSON_TYPE} string '{body}'{' ' if extra else ''}{extra} if {when}"
