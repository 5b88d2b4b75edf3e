"""The backends of an engine: how requests reach it, how its errors are told, and how its life is checked."""

from __future__ import annotations

from bedplate.front.errors import RETRY_AFTER_S, refuse, shown
from bedplate.front.routes import Route
from bedplate.model.instance import instance_of

# What llama-server 0.7.0 answers with 500 although the client is wrong: parts of its messages.
_MISTAKES = (
    "Failed to parse messages",
    "Failed to parse tools",
    "input is not supported",
    "is required",
    "Unable to generate parser",
    "must be",
    "type_error.302",
    "out_of_range.403",
)
# Parts of what engines answer with 400 to a prompt that does not fit: llama-server's type of the error; vLLM's words, and
# those of the launcher of Transformers; vLLM's about max_tokens.
_OVERFLOWS = ("exceed_context_size_error", "maximum context length", "max_model_len")
# The model wrote what is not UTF-8: nobody's mistake, and the next answer may be right.
_BROKEN_TEXT = "type_error.316"
_SAID = shown("txn.said")


def render_backend(index: int, route: Route) -> str:
    """Two backends: one for requests, whose check is the heartbeat, and one whose check is the first token.

    A request in between never reaches the second. It asks until a token has come and then once an hour: what proves that an
    engine lives from then on is its progress.
    """
    probe = route.launch.probe
    send = (
        f"meth POST uri {probe.path} ver HTTP/1.1 hdr Host localhost hdr Content-Type application/json body '{probe.body}'"
    )
    heartbeat = f"meth GET uri {probe.heartbeat} ver HTTP/1.1 hdr Host localhost"
    # While down a check is a failed connect or an early 503: four a second cost nothing and see the engine soon.
    # While up: a wedged engine is found after at most inter + fastinter + two deadlines. Its sessions are not shut down: the
    # client of a request without an answer would see its connection close without a word. The supervisor ends the engine,
    # and the client gets 502.
    check = "check inter 5s fastinter 500ms downinter 250ms rise 1 fall 2"
    # A refused connection brings the next check forward.
    observe = "observe layer4 error-limit 1 on-error fastinter"
    lines = [
        f"backend {route.backend}",
        "    option httpchk",
        f"    timeout check {round(probe.deadline_s * 1000)}ms",
        f"    http-check send {heartbeat}",
        "    http-check expect status 200",
        # The body was read as JSON, whatever its client calls it; vLLM answers 415 to one that is called otherwise.
        "    http-request set-header Content-Type application/json",
        # The engine names itself and lets every web page in; the front speaks for it.
        "    http-response del-header Server",
        "    http-response del-header Access-Control- -m beg",
        "    # A client of HTTP/1.0 knows no chunks: its answer ends with the connection.",
        "    http-request set-var(txn.old) bool(true) if HTTP_1.0",
        "    http-response del-header Transfer-Encoding if { var(txn.old) -m bool }",
        *_errors(),
        "    filter lua.rewrite",
        f"    server engine unix@{route.launch.socket} maxconn {route.parallel} {check} {observe}",
        "",
        f"backend first-token-{instance_of(route.model)}",
        "    option httpchk",
        f"    timeout check {round(probe.deadline_s * 1000)}ms",
        f"    http-check send {send}",
        "    http-check expect status 200",
        # No `rstring`: HAProxy compiles a regular expression to machine code, which MemoryDenyWriteExecute= forbids.
        f"    http-check expect string '{probe.expect}'",
        f"    http-check set-var(proc.{route.token_variable}) date()",
        f"    http-check set-var(proc.build_{index}) res.body,json_query('$.system_fingerprint')",
        f"    server engine unix@{route.launch.socket} check inter 1h fastinter 1h downinter 250ms rise 1 fall 1",
    ]
    return "\n".join(lines)


def _errors() -> list[str]:
    """The engine's errors in the front's form: its message, a status that tells whose mistake it was, a code as a string.

    A stream that has begun is passed on as it is, with the engine's own error in it.
    """
    failed = "{ status ge 400 }"
    overflows = " ".join(f"'{text}'" for text in _OVERFLOWS)
    mistakes = " ".join(f"'{text}'" for text in _MISTAKES)
    again = f"hdr Retry-After {RETRY_AFTER_S}"
    # OpenAI's and Anthropic's libraries, which try three times, read this.
    never = "hdr x-should-retry false"

    def answer(status: int, *, code: str, when: str, kind: str = "invalid_request_error", **more: str) -> str:
        return refuse(status, _SAID, code=code, when=when, kind=kind, rule="http-response", **more)

    return [
        f"    http-response wait-for-body time 10s if {failed}",
        f"    http-response set-var(txn.said) str('The engine gave no reason.') if {failed}",
        # FastAPI's form, which Transformers has; a list of problems there is no string, and leaves the sentence before.
        f"    http-response set-var(txn.said) res.body,json_query('$.detail') if {failed}",
        f"    http-response set-var(txn.said) res.body,json_query('$.error.message') if {failed}",
        r"""    http-response set-var(txn.field) "var(txn.said),field(2,\"'\")" if { var(txn.said) -m beg "Field '" }""",
        f"    acl overflow res.body -m sub {overflows}",
        f"    acl mistaken var(txn.said) -m sub {mistakes}",
        f"    acl broken_text var(txn.said) -m sub {_BROKEN_TEXT}",
        answer(400, code="context_length_exceeded", param="messages", when="{ status 400 } overflow"),
        answer(500, code="invalid_output", kind="server_error", when="{ status 400 500 } broken_text"),
        answer(400, code="invalid_value", param=shown("txn.field"), when="{ status 400 500 } { var(txn.field) -m found }"),
        answer(400, code="invalid_request", when="{ status 400 }"),
        answer(400, code="invalid_request", when="{ status 500 } mistaken"),
        answer(400, code="unsupported_endpoint", when="{ status 501 }"),
        *(answer(status, code="invalid_request", when=f"{{ status {status} }}") for status in (404, 413, 415, 422)),
        answer(503, code="model_not_ready", kind="server_error", extra=again, when="{ status 503 }"),
        answer(500, code="engine_error", kind="server_error", extra=never, when="{ status 500 }"),
    ]
