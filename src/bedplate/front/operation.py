"""What operators read of the front: metrics of HAProxy and of each engine, and versions."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.front.errors import JSON_TYPE, refuse
from bedplate.front.routes import Route


def render_metrics(routes: Sequence[Route]) -> list[str]:
    """/metrics is HAProxy's own exporter, /metrics/MODEL what the engine of that model exports."""
    lines = ["    http-request use-service prometheus-exporter if reading { path /metrics } all_visible"]
    for index, route in enumerate(routes):
        asked = f"reading {{ path,url_dec /metrics/{route.model} }} visible_{index}"
        lines += [
            f"    acl metrics_{index} var(txn.metrics) -m str {route.model}",
            f"    http-request set-var(txn.metrics) str({route.model}) if {asked}",
        ]
    known = "{ var(txn.metrics) -m found }"
    return [
        *lines,
        refuse(
            404,
            "This model does not exist; /v1/models lists those that do.",
            kind="not_found_error",
            code="model_not_found",
            when=f"reading {{ path_beg /metrics/ }} !{known}",
        ),
        "    # Nothing else is asked of it: the rules below are about bodies.",
        f"    http-request allow if {known}",
    ]


def render_metrics_backend(route: Route) -> str:
    """The backend of an engine's metrics: one request at once, so that they never take the place of those for tokens."""
    return "\n".join(
        [
            f"backend {route.metrics_backend}",
            "    http-request set-path /metrics",
            "    timeout queue 5s",
            "    timeout server 10s",
            "    http-response del-header Server",
            "    http-response del-header Access-Control- -m beg",
            f"    server engine unix@{route.launch.socket} maxconn 1",
        ]
    )


def render_version(routes: Sequence[Route], version: str) -> list[str]:
    """/version: of bedplate and HAProxy, and the build that each engine named in its first answer; null before that.

    An engine for vectors or scores names none.
    """
    asked = "{ path /version }"
    lines: list[str] = []
    builds = []
    for index, route in enumerate(routes):
        known = f"{{ var(proc.build_{index}) -m found }} {asked}"
        lines += [
            f"    http-request set-var(txn.build_{index}) str(null) if {asked}",
            f"    http-request set-var-fmt(txn.build_{index}) '\"%[var(proc.build_{index}),json(utf8s)]\"' if {known}",
        ]
        builds.append(f'{{"model":"{route.model}","engine":"{route.engine}","build":%[var(txn.build_{index})]}}')
    body = f'{{"bedplate":"{version}","haproxy":"%[lua.haproxy_version]","engines":[{",".join(builds)}]}}'
    return [
        *lines,
        f"    http-request return status 200 {JSON_TYPE} lf-string '{body}' if reading {asked} all_visible",
    ]
