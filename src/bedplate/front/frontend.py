"""The frontend: /health and /v1/models, the search for the model, what is refused, and the way to each engine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bedplate.front.access_log import render_access_log, render_known_models, render_known_path
from bedplate.front.cors import render_cors
from bedplate.front.errors import JSON_TYPE, RETRY_AFTER_S, refuse, refuse_found, render_form
from bedplate.front.keys import KeyRules, render_key_removal, render_key_rules, render_length_rules, render_visible
from bedplate.front.operation import render_metrics, render_version
from bedplate.front.routes import INFERENCE_PATHS, FrontLimits, Route

_HEADER_BYTES = 16 * 1024
_LOGGED_PATHS = (*INFERENCE_PATHS, "/health", "/v1/models", "/metrics", "/version")


def render_frontend(
    routes: Sequence[Route],
    *,
    bind: Sequence[str],
    limits: FrontLimits,
    version: str,
    cors: Sequence[str],
    keys: KeyRules | None,
    access_log: bool,
) -> str:
    """The one frontend, on these addresses: the order of its rules is the order of the checks."""
    lines = ["frontend api"]
    lines += [f"    bind {address}" for address in bind]
    lines += [
        "    # On every answer, the front's own errors too, and handed to the engine: by it both logs name one request.",
        "    unique-id-format %[uuid()]",
        "    unique-id-header x-request-id",
        "    http-after-response set-header x-request-id %[unique-id]",
        *(render_access_log() + render_known_path(_LOGGED_PATHS) if access_log else []),
        *render_form(),
        refuse(
            431,
            f"The header is larger than {_HEADER_BYTES} bytes.",
            code="header_too_large",
            when=f"{{ req.hdrs,length gt {_HEADER_BYTES} }}",
            extra="hdr Connection close",
        ),
        *render_cors(cors),
    ]
    lines += [f"    acl inference path {' '.join(INFERENCE_PATHS)}", "    acl reading method GET HEAD"]
    for index, route in enumerate(routes):
        # nbsrv counts a server as up until its first check has failed; the variable stands only after a token.
        lines += [
            f"    acl alive_{index} nbsrv({route.backend}) gt 0",
            f"    acl token_{index} var(proc.{route.token_variable}) -m found",
            f"    acl model_{index} var(txn.model) -m str {route.model}",
            f"    acl full_{index} queue({route.backend}) ge {route.queue}",
        ]
    lines += _health(routes)
    if keys is not None:
        lines += render_key_rules(keys)
    lines += render_key_removal() + render_visible([route.model for route in routes], keys)
    lines += _models(routes, filtered=keys is not None) + render_version(routes, version) + render_metrics(routes)
    lines += _find_model(routes, limits)
    if access_log:
        lines += render_known_models([route.model for route in routes])
    lines += _refuse_unknown(routes)
    if keys is not None:
        lines += render_length_rules()
    for index, route in enumerate(routes):
        lines += _refusals_of(index, route)
    lines += [f"    use_backend {route.metrics_backend} if metrics_{index}" for index, route in enumerate(routes)]
    lines += [f"    use_backend {route.backend} if model_{index}" for index, route in enumerate(routes)]
    return "\n".join(lines)


def _find_model(routes: Sequence[Route], limits: FrontLimits) -> list[str]:
    """What is refused before the model is known, and the body's `model` as txn.model."""
    return [
        refuse(
            405, "Use POST for this path.", code="method_not_allowed", when="inference !METH_POST", extra="hdr Allow POST"
        ),
        refuse(404, "This path does not exist.", kind="not_found_error", code="not_found", when="!inference"),
        refuse(
            415,
            "The body must not be compressed.",
            code="unsupported_content_encoding",
            when="{ req.fhdr(content-encoding) -m found } !{ req.fhdr(content-encoding) -i identity }",
            extra="hdr Accept-Encoding identity",
        ),
        _too_large(limits.body_bytes),
        refuse(
            503,
            "Too many connections.",
            kind="server_error",
            code="too_many_connections",
            when=f"{{ fe_conn gt {limits.connections} }}",
            # Closed, so that it does not keep one of the spare ones.
            extra=f"hdr Retry-After {RETRY_AFTER_S} hdr Connection close",
        ),
        "    http-request wait-for-body time 30s",
        _too_large(limits.body_bytes),
        # The model as txn.model; a body that is no JSON is refused.
        "    http-request lua.inspect",
        *refuse_found("txn.inspected"),
        refuse(
            400,
            "The body must be JSON with a model; /v1/models lists them.",
            code="missing_model",
            param="model",
            when="!{ var(txn.model) -m found }",
        ),
    ]


def _refuse_unknown(routes: Sequence[Route]) -> list[str]:
    """A model that is not there, and one that the client may not see, get the same answer."""
    known = " ".join(f"!model_{index}" for index in range(len(routes)))
    unseen = [f"model_{index} !visible_{index}" for index in range(len(routes))]
    return [
        refuse(
            404,
            # It is cut so that an answer cannot become as large as a request.
            "The model %[var(txn.model),bytes(0,128),json(utf8s)] does not exist.",
            kind="not_found_error",
            code="model_not_found",
            param="model",
            when=condition,
        )
        for condition in [known or "TRUE", *unseen]
    ]


def _refusals_of(index: int, route: Route) -> list[str]:
    """Of one model: the wrong path, what its engine would ignore, an engine that does not answer, a full queue."""
    lines: list[str] = []
    paths = route.paths
    lines.append(
        refuse(
            400,
            f"This model is not for this path; it answers {', '.join(paths)}.",
            code="unsupported_endpoint",
            param="model",
            when=f"model_{index} !{{ path {' '.join(paths)} }}",
        )
    )
    lines += [
        f"    http-request lua.check {route.engine} if model_{index}",
        *refuse_found("txn.checked", when=f"model_{index}"),
    ]
    for condition in (f"!alive_{index}", f"!token_{index}"):
        lines.append(
            refuse(
                503,
                "The model does not answer: its engine is starting or stuck.",
                kind="server_error",
                code="model_not_ready",
                when=f"model_{index} {condition}",
                extra=f"hdr Retry-After {RETRY_AFTER_S}",
            )
        )
    lines.append(
        refuse(
            429,
            "Too many requests are waiting for this model.",
            kind="rate_limit_error",
            code="queue_full",
            when=f"model_{index} full_{index}",
            extra=f"hdr Retry-After {RETRY_AFTER_S}",
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


def _models(routes: Sequence[Route], *, filtered: bool) -> list[str]:
    """/v1/models and /v1/models/MODEL. filtered: whether a client may see some of them alone."""
    rows = [_model_row(route) for route in routes]
    if filtered:
        asked = "reading { path,url_dec /v1/models }"
        lines = []
        for index, row in enumerate(rows):
            listed = f"'%[var(txn.listed)]%[var(txn.comma)]{row}'"
            lines += [
                f"    http-request set-var-fmt(txn.listed) {listed} if {asked} visible_{index}",
                f"    http-request set-var-fmt(txn.comma) ',' if {asked} visible_{index}",
            ]
        body = '{"object":"list","data":[%[var(txn.listed)]]}'
        lines.append(f"    http-request return status 200 {JSON_TYPE} lf-string '{body}' if {asked}")
    else:
        lines = [_answer(200, f'{{"object":"list","data":[{",".join(rows)}]}}', "/v1/models")]
    for index, (route, row) in enumerate(zip(routes, rows, strict=True)):
        lines.append(_answer(200, row, f"/v1/models/{route.model}", f"visible_{index}"))
    lines.append(
        refuse(
            404,
            "This model does not exist; /v1/models lists those that do.",
            kind="not_found_error",
            code="model_not_found",
            param="model",
            when="reading { path_beg /v1/models/ }",
        )
    )
    return lines


def _model_row(route: Route) -> str:
    """As OpenAI's, vLLM's and llama.cpp's clients read it: max_model_len, or meta.n_ctx, is what they size prompts by.

    A models disk can come from anybody, and its index says what the quantisation is called: what would end a quoted word of
    the configuration, or begin an expression in it, is written as JSON's escape.
    """
    meta = {
        "n_ctx": route.context,
        "n_ctx_train": route.trained_context,
        "n_params": route.parameters,
        "size": route.size_bytes,
    }
    row = {
        "id": route.model,
        "object": "model",
        "created": route.created,
        "owned_by": "bedplate",
        "root": route.model,
        "parent": None,
        "max_model_len": route.context or None,
        "task": str(route.task),
        "quantisation": route.quantisation or None,
        "sha256": route.digest or None,
        "meta": {key: value for key, value in meta.items() if value},
    }
    optional = ("max_model_len", "quantisation", "sha256")
    shown = {key: value for key, value in row.items() if value is not None or key not in optional}
    return json.dumps(shown, separators=(",", ":")).replace("'", "\\u0027").replace("%", "\\u0025")


def _answer(status: int, body: str, path: str, condition: str = "") -> str:
    # Decoded: a client writes the name Qwen/Qwen3-8B into a path as Qwen%2FQwen3-8B.
    answer = f"http-request return status {status} {JSON_TYPE} string '{body}'"
    return f"    {answer} if reading {{ path,url_dec {path} }} {condition}".rstrip()


def _too_large(body_limit: int) -> str:
    # Twice in the rules: by Content-Length before anything is read, and by what came of a chunked body.
    return refuse(
        413,
        f"The body is larger than {body_limit} bytes.",
        code="request_too_large",
        when=f"{{ req.body_size gt {body_limit} }}",
    )
