"""The backends of an engine: how requests reach it, how its errors are told, and how its life is checked."""

from __future__ import annotations

from bedplate.front.errors import JSON_TYPE
from bedplate.front.routes import Route
from bedplate.model.instance import instance_of

# As OpenAI's clients read it; the engine's own has a number as its code.
_OVERFLOW = (
    '{"error":{"message":"%[var(txn.said),json(utf8s)]","type":"invalid_request_error","param":"messages",'
    '"code":"context_length_exceeded"}}'
)


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
        # The engine names itself and lets every web page in; the front speaks for it.
        "    http-response del-header Server",
        "    http-response del-header Access-Control- -m beg",
        # What the engine answers with 500 is mostly the client's mistake (an image to a model of text), and the same the
        # next time. OpenAI's and Anthropic's libraries, which try three times, read this.
        "    http-response set-header x-should-retry false if { status 500 501 }",
        "    http-response wait-for-body time 10s if { status 400 }",
        "    acl overflow res.body -m sub exceed_context_size_error",
        "    http-response set-var(txn.said) res.body,json_query('$.error.message') if { status 400 } overflow",
        f"    http-response return status 400 {JSON_TYPE} lf-string '{_OVERFLOW}' if {{ var(txn.said) -m found }}",
        f"    server engine unix@{route.launch.socket} maxconn {route.parallel} {check} {observe}",
        "",
        f"backend first-token-{instance_of(route.model)}",
        "    option httpchk",
        f"    timeout check {round(probe.deadline_s * 1000)}ms",
        f"    http-check send {send}",
        "    http-check expect status 200",
        # No `rstring`: HAProxy compiles a regular expression to machine code, which MemoryDenyWriteExecute= forbids.
        f"    http-check expect string '{probe.expect}'",
        f"    http-check set-var(proc.token_{index}) date()",
        f"    server engine unix@{route.launch.socket} check inter 1h fastinter 1h downinter 250ms rise 1 fall 1",
    ]
    return "\n".join(lines)
