"""HAProxy's configuration for the models of this host: routes by the JSON `model` field, bounds, probes, errors.

Pure text. Source: configuration.txt of HAProxy 3.0. What the rules rely on, each with a test against the real program:
`req.body` reaches to the end of the buffer, so a body is refused (413) before it could be larger than that, and the model is
found wherever it stands in it; a response is passed on as it comes. An engine is ready once a request has made a token, and
alive as long as its own loop answers, which it does between two batches of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.model.instance import instance_of
from bedplate.model.launch import Launch, Limits, ModelRef, ModelTask

PORT = 8080
STATS_SOCKET = "/run/bedplate/haproxy/stats.sock"
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
INFERENCE_PATHS = tuple(dict.fromkeys(path for paths in TASK_PATHS.values() for path in paths))

_SMALLEST_BODY = 256 * 1024  # bytes
_LARGEST_BODY = 4 * 1024**2  # bytes
_BODY_BYTES_PER_TOKEN = 16  # JSON with every character escaped takes 6 to 12 bytes a token, plain English 4 to 5
_HEADER_ROOM = 32 * 1024  # bytes of the buffer beside the body
# What a client can make HAProxy hold: a request in its buffer, and the answer, or the next request, in another.
_BUFFERS_PER_CONNECTION = 2
# Of all memory. The unit has a tenth (MemoryMax=10%): at a reload the old process lives beside the new one for a minute.
_MEMORY_SHARE = 32
_LEAST_CONNECTIONS = 64
_MOST_CONNECTIONS = 1024
_SPARE_CONNECTIONS = 16
"""Beyond the connections that may send a body: they are answered, with 503, instead of waiting unheard."""
_QUEUE_PER_SLOT = 4
_RETRY_AFTER_S = 5

_JSON = "content-type application/json"
_LOG_FORMAT = (
    '    log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r %ID"'
)


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


def make_route(model: ModelRef, launch: Launch, limits: Limits) -> Route:
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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """Bounds on what clients can make the front hold, computed for this host."""

    body_bytes: int
    """The largest request body."""
    connections: int
    """Connections that may send a body at the same time."""


def plan_front(contexts: Sequence[int], *, memory_bytes: int) -> FrontLimits:
    """Limits for models with these contexts, in tokens, on a host with so much memory.

    A body may have 16 bytes for each token of the longest context, between 256 KiB and 4 MiB, and no more than what leaves
    room for 64 connections. Two buffers for each connection take 1/32 of the memory at the most.
    """
    budget = memory_bytes // _MEMORY_SHARE
    affordable = budget // (_LEAST_CONNECTIONS * _BUFFERS_PER_CONNECTION) - _HEADER_ROOM
    body = min(_LARGEST_BODY, affordable, _BODY_BYTES_PER_TOKEN * max(contexts, default=0))
    body = max(_SMALLEST_BODY, body)
    connections = budget // (_BUFFERS_PER_CONNECTION * (body + _HEADER_ROOM)) - _SPARE_CONNECTIONS
    return FrontLimits(body_bytes=body, connections=max(1, min(_MOST_CONNECTIONS, connections)))


# As OpenAI's clients read it; the engine's own has a number as its code.
_OVERFLOW = (
    '{"error":{"message":"%[var(txn.said),json(utf8s)]","type":"invalid_request_error","param":"messages",'
    '"code":"context_length_exceeded"}}'
)


def render_haproxy(
    routes: Sequence[Route],
    *,
    limits: FrontLimits,
    bind: Sequence[str] = (f"*:{PORT}",),
    stats_socket: str | None = STATS_SOCKET,
) -> str:
    """haproxy.cfg for these models; the same input gives the same text."""
    parts = [
        _global(limits, stats_socket),
        _defaults(),
        _frontend(routes, bind, limits),
        *(_backend(index, route) for index, route in enumerate(routes)),
    ]
    return "\n\n".join(parts) + "\n"


def render_error(message: str, *, kind: str, code: str | None, param: str | None = None) -> str:
    """An error in the form of OpenAI's API; message and code are ours and need no escaping."""
    shown = ",".join(
        f'"{key}":{"null" if value is None else chr(34) + value + chr(34)}'
        for key, value in (("message", message), ("type", kind), ("param", param), ("code", code))
    )
    return '{"error":{' + shown + "}}"


def _global(limits: FrontLimits, stats_socket: str | None) -> str:
    lines = [
        "# Written by `bedplate serve prepare` at each boot; changes here are lost.",
        "global",
        "    log stdout format raw daemon err",
        "    # Connections times buffers: what clients can make this process hold (plan_front).",
        f"    maxconn {limits.connections + _SPARE_CONNECTIONS}",
        # One thread passes some ten thousand requests a second on; the other CPUs belong to the engines.
        "    nbthread 1",
        "    hard-stop-after 60s",
        "    # The first checks are spread over the longest interval otherwise, which is an hour.",
        "    max-spread-checks 100ms",
        "    # The model is looked up in a body that is whole in the buffer: the largest body, and room for the header.",
        f"    tune.bufsize {limits.body_bytes + _HEADER_ROOM}",
        "    tune.maxrewrite 1024",
    ]
    if stats_socket is not None:
        lines.append(f"    stats socket {stats_socket} mode 660 level user")
    return "\n".join(lines)


# status: (what an operator should read, OpenAI's type, code); HAProxy answers these by itself
_OWN_ERRORS = {
    400: ("The request is not valid HTTP.", "invalid_request_error", "bad_request"),
    408: ("The request did not arrive in time.", "invalid_request_error", "request_timeout"),
    500: ("The front door failed.", "server_error", "internal_error"),
    502: ("The engine ended the connection before it answered.", "server_error", "engine_failed"),
    503: ("The engine does not answer now: it starts again, or all its slots were taken.", "server_error", "unavailable"),
    504: ("The engine did not answer in time.", "server_error", "engine_timeout"),
}


def _defaults() -> str:
    lines = [
        "defaults",
        "    mode http",
        "    log global",
        "    # As `option httplog`, and the id that the answer has.",
        _LOG_FORMAT,
        "    option log-separate-errors",
        "    # Each token goes out as it comes.",
        "    option http-no-delay",
        "    # A client that has gone frees its place in the queue and its slot in the engine.",
        "    option abortonclose",
        "    option clitcpka",
        "    # An idle connection would keep one of the engine's HTTP threads.",
        "    option http-server-close",
        "    # In HTTP/2 one connection holds a buffer for each of its 100 streams.",
        "    option disable-h2-upgrade",
        "    retries 0",
        "    timeout connect 2s",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 10s",
        "    timeout queue 60s",
        "    # A whole answer without streaming may take this long; a wedged engine is found by the probe, not by these.",
        "    timeout client 1h",
        "    timeout server 1h",
    ]
    for status, (message, kind, code) in _OWN_ERRORS.items():
        retry = f" hdr Retry-After {_RETRY_AFTER_S}" if status in (502, 503) else ""
        lines.append(f"    http-error status {status} {_JSON} string '{render_error(message, kind=kind, code=code)}'{retry}")
    return "\n".join(lines)


def _frontend(routes: Sequence[Route], bind: Sequence[str], limits: FrontLimits) -> str:
    lines = ["frontend api"]
    lines += [f"    bind {address}" for address in bind]
    lines += [
        "    # On every answer, the front's own errors too, and handed to the engine: by it both logs name one request.",
        "    unique-id-format %[uuid()]",
        "    unique-id-header x-request-id",
        "    http-after-response set-header x-request-id %[unique-id]",
    ]
    lines += [f"    acl inference path {' '.join(INFERENCE_PATHS)}", "    acl reading method GET HEAD"]
    for index, route in enumerate(routes):
        # nbsrv counts a server as up until its first check has failed; the variable stands only after a token.
        lines += [
            f"    acl alive_{index} nbsrv({_backend_name(route)}) gt 0",
            f"    acl token_{index} var(proc.token_{index}) -m found",
            f"    acl model_{index} var(txn.model) -m str {route.model}",
            f"    acl full_{index} queue({_backend_name(route)}) ge {route.queue}",
        ]
    lines += _health(routes) + _models(routes)
    lines += _find_model(routes, limits)
    lines.append(_refuse_unknown(routes))
    for index, route in enumerate(routes):
        lines += _refusals_of(index, route)
    lines += [f"    use_backend {_backend_name(route)} if model_{index}" for index, route in enumerate(routes)]
    return "\n".join(lines)


def _find_model(routes: Sequence[Route], limits: FrontLimits) -> list[str]:
    """What is refused before the model is known, and the body's `model` as txn.model."""
    return [
        _refuse(
            405, "Use POST for this path.", code="method_not_allowed", when="inference !METH_POST", extra="hdr Allow POST"
        ),
        _refuse(404, "This path does not exist.", code="not_found", when="!inference"),
        _too_large(limits.body_bytes),
        _refuse(
            503,
            "Too many connections.",
            kind="server_error",
            code="too_many_connections",
            when=f"{{ fe_conn gt {limits.connections} }}",
            # Closed, so that it does not keep one of the spare ones.
            extra=f"hdr Retry-After {_RETRY_AFTER_S} hdr Connection close",
        ),
        "    http-request wait-for-body time 30s",
        _too_large(limits.body_bytes),
        "    http-request set-var(txn.model) req.body,json_query('$.model')",
        # json_query does not know the slash that PHP's json_encode() escapes.
        *(
            f"    http-request set-var(txn.model) str({route.model}) if !{{ var(txn.model) -m found }}"
            f' {{ req.body -m sub \'"model":"{route.model.replace("/", chr(92) + "/")}"\' }}'
            for route in routes
            if "/" in route.model
        ),
        _refuse(
            400,
            "The body must be JSON with a model; /v1/models lists them.",
            code="missing_model",
            param="model",
            when="!{ var(txn.model) -m found }",
        ),
    ]


def _refuse_unknown(routes: Sequence[Route]) -> str:
    known = " ".join(f"!model_{index}" for index in range(len(routes)))
    unknown = render_error(
        "The model NAME does not exist.", kind="invalid_request_error", code="model_not_found", param="model"
    )
    # The json converter escapes what the client wrote; it is cut so that an answer cannot become as large as a request.
    shown = unknown.replace("NAME", "%[var(txn.model),bytes(0,128),json(utf8s)]")
    return f"    http-request return status 404 {_JSON} lf-string '{shown}'" + (f" if {known}" if known else "")


def _refusals_of(index: int, route: Route) -> list[str]:
    """Of one model: the wrong path, an engine that does not answer, a queue that is full."""
    lines: list[str] = []
    paths = TASK_PATHS[route.task]
    lines.append(
        _refuse(
            400,
            f"This model is not for this path; it answers {', '.join(paths)}.",
            code="unsupported_endpoint",
            param="model",
            when=f"model_{index} !{{ path {' '.join(paths)} }}",
        )
    )
    for condition in (f"!alive_{index}", f"!token_{index}"):
        lines.append(
            _refuse(
                503,
                "The model does not answer: its engine is starting or stuck.",
                kind="server_error",
                code="model_not_ready",
                when=f"model_{index} {condition}",
                extra=f"hdr Retry-After {_RETRY_AFTER_S}",
            )
        )
    lines.append(
        _refuse(
            429,
            "Too many requests are waiting for this model.",
            kind="rate_limit_error",
            code="queue_full",
            when=f"model_{index} full_{index}",
            extra=f"hdr Retry-After {_RETRY_AFTER_S}",
        )
    )
    return lines


def _health(routes: Sequence[Route]) -> list[str]:
    """/health is 200 when every model has made a token and lives, /health/MODEL when that one does."""
    ready = [f"alive_{index} token_{index}" for index in range(len(routes))]
    checks = [(f"/health/{route.model}", condition) for route, condition in zip(routes, ready, strict=True)]
    lines: list[str] = []
    for path, condition in [*checks, ("/health", " ".join(ready))]:
        if condition:
            lines.append(_answer(200, '{"status":"ok"}', path, condition))
        lines.append(_answer(503, '{"status":"unavailable"}', path))
    return lines


def _models(routes: Sequence[Route]) -> list[str]:
    rows = [_model_row(route) for route in routes]
    lines = [_answer(200, f'{{"object":"list","data":[{",".join(rows)}]}}', "/v1/models")]
    for route, row in zip(routes, rows, strict=True):
        lines.append(_answer(200, row, f"/v1/models/{route.model}"))
    lines.append(
        _refuse(
            404,
            "This model does not exist; /v1/models lists those that do.",
            code="model_not_found",
            param="model",
            when="reading { path_beg /v1/models/ }",
        )
    )
    return lines


def _model_row(route: Route) -> str:
    """As vLLM's and llama.cpp's clients read it: max_model_len is what they size prompts by. All values are ours or checked,
    and need no escaping."""
    told = f',"max_model_len":{route.context}' if route.context else ""
    told += "".join(
        f',"{key}":"{value}"'
        for key, value in (("task", route.task), ("quantisation", route.quantisation), ("sha256", route.digest))
        if value
    )
    return f'{{"id":"{route.model}","object":"model","created":0,"owned_by":"bedplate"{told}}}'


def _answer(status: int, body: str, path: str, condition: str = "") -> str:
    # Decoded: a client writes the name Qwen/Qwen3-8B into a path as Qwen%2FQwen3-8B.
    rule = (
        f"    http-request return status {status} {_JSON} string '{body}' if reading {{ path,url_dec {path} }} {condition}"
    )
    return rule.rstrip()


def _too_large(body_limit: int) -> str:
    # Twice in the rules: by Content-Length before anything is read, and by what came of a chunked body.
    return _refuse(
        413,
        f"The body is larger than {body_limit} bytes.",
        code="request_too_large",
        when=f"{{ req.body_size gt {body_limit} }}",
    )


def _refuse(
    status: int,
    message: str,
    *,
    code: str,
    when: str,
    kind: str = "invalid_request_error",
    param: str | None = None,
    extra: str = "",
) -> str:
    body = render_error(message, kind=kind, code=code, param=param)
    return f"    http-request return status {status} {_JSON} string '{body}'{' ' if extra else ''}{extra} if {when}"


def backend_name(instance: str) -> str:
    """The backend of an engine, by the instance of its model (model/instance.py)."""
    return f"engine-{instance}"


def _backend_name(route: Route) -> str:
    return backend_name(instance_of(route.model))


def _backend(index: int, route: Route) -> str:
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
        f"backend {_backend_name(route)}",
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
        f"    http-response return status 400 {_JSON} lf-string '{_OVERFLOW}' if {{ var(txn.said) -m found }}",
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
