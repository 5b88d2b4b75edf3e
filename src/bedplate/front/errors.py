"""Errors in one form, whoever made them, and the rules that answer with them.

The form is OpenAI's, and on Anthropic's paths Anthropic's around it: {"type":"error","error":{...}} with the same members.
Anthropic calls some types otherwise; the four variables of `render_form` hold what differs. A client's text in an error is
cut and escaped by HAProxy's own converter.
"""

from __future__ import annotations

RETRY_AFTER_S = 5
JSON_TYPE = "content-type application/json"
_ANTHROPIC = "{ path_beg /v1/messages }"
_SHOWN = "bytes(0,1000),json(utf8s)"  # of a text that a client or an engine wrote
# A type of ours: what stands in the configuration, since Anthropic has another name for it.
_TYPES = {
    "server_error": "%[var(txn.type_server)]",
    "not_found_error": "%[var(txn.type_missing)]",
    "authentication_error": "%[var(txn.type_key)]",
}

# status: (what an operator should read, OpenAI's type, code); HAProxy answers these by itself
PROXY_ERRORS = {
    400: (
        "The request is not valid HTTP, or its client closed the connection before the answer.",
        "invalid_request_error",
        "bad_request",
    ),
    408: ("The request did not arrive in time.", "invalid_request_error", "request_timeout"),
    500: ("The front door failed.", "server_error", "internal_error"),
    502: ("The engine ended the connection before it answered.", "server_error", "engine_failed"),
    503: ("The engine does not answer now: it starts again, or all its slots were taken.", "server_error", "unavailable"),
    504: ("The engine did not answer in time.", "server_error", "engine_timeout"),
}


def render_error(message: str, *, kind: str, code: str | None, param: str | None = None) -> str:
    """An error as HAProxy's log-format string; message, param and code are ours, or `shown()` of a variable.

    kind: OpenAI's type, and not_found_error for what OpenAI calls invalid_request_error and Anthropic calls so.
    """
    shown = ",".join(
        f'"{key}":{"null" if value is None else chr(34) + value + chr(34)}'
        for key, value in (("message", message), ("type", _TYPES.get(kind, kind)), ("param", param), ("code", code))
    )
    return '{%[var(txn.form)]"error":{' + shown + "}}"


def shown(variable: str) -> str:
    """The value of a variable inside a string of JSON: a thousand bytes of it, escaped."""
    return f"%[var({variable}),{_SHOWN}]"


def refuse_found(ended: str, *, when: str = "") -> list[str]:
    """The rules that answer what the script has refused (catalog/request.lua), with the parameter's name and without; and an
    action of it that was asked, `when` this holds, and failed before it could set the variable `ended`."""
    message, code, param = (shown(f"txn.refused_{part}") for part in ("message", "code", "param"))
    return [
        refuse(
            400,
            message,
            code=code,
            param=param,
            when="{ var(txn.refused_code) -m found } { var(txn.refused_param) -m found }",
        ),
        refuse(400, message, code=code, when="{ var(txn.refused_code) -m found }"),
        refuse(
            503,
            "The front has no memory or time to read the body.",
            kind="server_error",
            code="front_busy",
            when=f"!{{ var({ended}) -m found }} {when}".rstrip(),
            extra=f"hdr Retry-After {RETRY_AFTER_S}",
        ),
    ]


def render_form() -> list[str]:
    """The rules that every request passes first: they choose the form of its errors by the path."""
    return [
        "    http-request set-var(txn.type_server) str(server_error)",
        "    http-request set-var(txn.type_missing) str(invalid_request_error)",
        "    http-request set-var(txn.type_key) str(invalid_request_error)",
        f'    http-request set-var-fmt(txn.form) \'"type":"error",\' if {_ANTHROPIC}',
        f"    http-request set-var(txn.type_server) str(api_error) if {_ANTHROPIC}",
        f"    http-request set-var(txn.type_missing) str(not_found_error) if {_ANTHROPIC}",
        f"    http-request set-var(txn.type_key) str(authentication_error) if {_ANTHROPIC}",
    ]


def refuse(
    status: int,
    message: str,
    *,
    code: str,
    when: str,
    kind: str = "invalid_request_error",
    param: str | None = None,
    extra: str = "",
    rule: str = "http-request",
) -> str:
    """The rule that answers with this error when the condition (in HAProxy's words) holds; extra: headers of the answer.

    rule: "http-response" to answer so in the place of the engine.
    """
    body = render_error(message, kind=kind, code=code, param=param)
    return f"    {rule} return status {status} {JSON_TYPE} lf-string '{body}'{' ' if extra else ''}{extra} if {when}"
