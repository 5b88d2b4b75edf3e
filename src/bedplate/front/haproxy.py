"""HAProxy's configuration for the models of this host: routes by the JSON `model` field, bounds, probes, errors.

Pure text. Source: configuration.txt of HAProxy 3.0. What the rules rely on, each with a test against the real program:
`req.body` reaches to the end of the buffer, so a body is refused (413) before it could be larger than that, and the model is
found wherever it stands in it; a response is passed on as it comes. An engine is ready once a request has made a token, and
alive as long as its own loop answers, which it does between two batches of work.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.front.backend import render_backend
from bedplate.front.errors import JSON_TYPE, PROXY_ERRORS, RETRY_AFTER_S, render_error
from bedplate.front.frontend import render_frontend
from bedplate.front.keys import KeyRules, render_key_tables
from bedplate.front.operation import render_metrics_backend
from bedplate.front.routes import HEADER_ROOM, SPARE_CONNECTIONS, FrontLimits, Route
from bedplate.model.instance import FRONT_SCRIPT, FRONTS_AT_ONCE, token_variable_of

STATS_SOCKET = "/run/bedplate/haproxy/stats.sock"
MASTER_SOCKET = "/run/bedplate/haproxy/master.sock"
"""Of HAProxy's master process, which reloads, and reaches the former processes too."""

_LOG_FORMAT = (
    '    log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r %ID"'
)


def render_haproxy(
    routes: Sequence[Route],
    *,
    limits: FrontLimits,
    bind: Sequence[str] = ("*:8080",),
    stats_socket: str | None = STATS_SOCKET,
    admin_socket: str | None = None,
    script: str = FRONT_SCRIPT,
    version: str = "",
    cors: Sequence[str] = (),
    keys: KeyRules | None = None,
    access_log: bool = False,
) -> str:
    """haproxy.cfg for these models; the same input gives the same text.

    script: path of what `render_script` made. version: of bedplate. cors: origins of web pages that may call the front.
    keys: None answers everybody. Raises UsageError for an origin that is none.
    """
    parts = [
        _global(limits, stats_socket, admin_socket, script),
        _defaults(),
        render_frontend(routes, bind=bind, limits=limits, version=version, cors=cors, keys=keys, access_log=access_log),
        *([render_key_tables()] if keys is not None else []),
        *(render_backend(index, route) for index, route in enumerate(routes)),
        *(render_metrics_backend(route) for route in routes),
    ]
    return "\n\n".join(parts) + "\n"


NO_TOKENS = "# Written by `bedplate serve prepare`: no reload is under way.\n"
"""The second file of configuration at any other time: what starts by itself knows of no token."""


def render_tokens(instances: Sequence[str]) -> str:
    """A second file of configuration: the engines of these instances have made a token for the process before this one.

    A reload starts a new process, which would refuse requests to every model until its engine makes one more token, for as
    long as a prompt of somebody else takes.
    """
    lines = ["# Written by `bedplate serve prepare`: a reload is under way.", "global"]
    lines += [f"    set-var proc.{token_variable_of(instance)} int(1)" for instance in instances]
    return "\n".join(lines) + "\n"


def _global(limits: FrontLimits, stats_socket: str | None, admin_socket: str | None, script: str) -> str:
    lines = [
        "# Written by `bedplate serve prepare` at each boot; changes here are lost.",
        "global",
        "    log stdout format raw daemon err",
        "    # Connections times buffers: what clients can make this process hold (plan_front).",
        f"    maxconn {limits.connections + SPARE_CONNECTIONS}",
        # One thread passes some ten thousand requests a second on; the other CPUs belong to the engines.
        "    nbthread 1",
        "    # After a reload the former process answers what it has begun, for as long as an answer may take.",
        "    hard-stop-after 1h",
        f"    mworker-max-reloads {FRONTS_AT_ONCE - 1}",
        "    # The first checks are spread over the longest interval otherwise, which is an hour.",
        "    max-spread-checks 100ms",
        "    # The model is looked up in a body that is whole in the buffer: the largest body, and room for the header.",
        f"    tune.bufsize {limits.body_bytes + HEADER_ROOM}",
        "    tune.maxrewrite 1024",
        "    # Reads the model and the parameters of a body (catalog/request.lua); holds a copy of the body meanwhile.",
        f"    lua-load {script}",
        f"    tune.lua.maxmem {limits.script_mib}",
    ]
    if stats_socket is not None:
        lines.append(f"    stats socket {stats_socket} mode 660 level operator")
    if admin_socket is not None:
        lines.append(f"    stats socket {admin_socket} mode 600 level admin")
    return "\n".join(lines)


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
        "    # After a reload a kept connection learns from its next answer that it closes: no request meets a closed one.",
        "    option idle-close-on-response",
        "    # In HTTP/2 one connection holds a buffer for each of its 100 streams.",
        "    option disable-h2-upgrade",
        "    retries 0",
        "    timeout connect 2s",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 10s",
        "    timeout queue 60s",
        "    # A whole answer without streaming may take this long. The heartbeat, not a timeout, finds a hung engine.",
        "    timeout client 1h",
        "    timeout server 1h",
    ]
    for status, (message, kind, code) in PROXY_ERRORS.items():
        retry = f" hdr Retry-After {RETRY_AFTER_S}" if status in (502, 503) else ""
        lines.append(
            f"    http-error status {status} {JSON_TYPE} lf-string '{render_error(message, kind=kind, code=code)}'{retry}"
        )
    return "\n".join(lines)
