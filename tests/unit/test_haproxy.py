"""The front's configuration as reviewed text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from tests.golden_file import compare

from bedplate.engines.llamacpp import make_launch
from bedplate.errors import UsageError
from bedplate.front.errors import render_error
from bedplate.front.haproxy import render_haproxy
from bedplate.front.keys import KeyRules
from bedplate.front.routes import FrontLimits, Route, make_route, plan_front
from bedplate.model.launch import Format, Limits, ModelRef, Placement
from bedplate.model.units import GIB, KIB, MIB


def make(name: str) -> Route:
    model = ModelRef(
        name=name,
        sha256="0" * 64,
        path="/m",
        format=Format.GGUF,
        size_bytes=7_400_000,
        architecture="llama",
        parameters=3_670_000,
        quantisation="F16",
        context_length=512,
        kv_bytes_per_token=4096,
    )
    limits = Limits(context=512, parallel=2, memory_bytes=1)
    return make_route(model, make_launch(model, Placement(cpus=(0, 1)), limits), limits)


def fill(text: str, *, form: str = "", server: str = "server_error") -> str:
    """What HAProxy makes of a log-format string, with a text for each variable that a client or an engine fills."""
    known = {"txn.form": form, "txn.type_server": server, "txn.type_missing": "not_found_error", "txn.build_0": "null"}
    for variable, value in known.items():
        text = text.replace(f"%[var({variable})]", value)
    return re.sub(r"%\[[^]]*\]", "told", text)


def test_the_configuration_for_two_models() -> None:
    text = render_haproxy([make("known-answer"), make("Qwen/Qwen3-8B")], limits=plan_front([512], memory_bytes=2 * GIB))
    compare("haproxy.cfg", text)


def test_without_models_everything_is_answered_and_nothing_routed() -> None:
    text = render_haproxy([], limits=plan_front([], memory_bytes=2 * GIB), stats_socket=None)
    assert "use_backend" not in text
    assert '{"object":"list","data":[]}' in text
    assert "path,url_dec /health" in text and 'status 200 content-type application/json string \'{"status"' not in text


def test_every_answer_is_json() -> None:
    text = render_haproxy([make("known-answer")], limits=FrontLimits(body_bytes=1000, connections=10))
    bodies = re.findall(r"string '(\{.*?\})'", text)
    assert len(bodies) > 30
    for body in bodies:
        assert json.loads(fill(body))


@pytest.mark.parametrize("keys", [None, KeyRules(refusals_per_minute=20)])
def test_what_a_models_disk_calls_its_quantisation_stays_inside_of_its_string(keys: KeyRules | None) -> None:
    """The index of a disk is read before anybody has verified it: no word of it may become a rule or an expression."""
    said = "F16' if FALSE %[var(proc.x)] %%\n    http-request allow"
    route = replace(make("known-answer"), quantisation=said)
    text = render_haproxy([route], limits=plan_front([512], memory_bytes=2 * GIB), keys=keys)
    rows = re.findall(r"(\{\"id\":\"known-answer\".*?\}\})[^\n]*'", text)
    assert rows and all(json.loads(row)["quantisation"] == said for row in rows)
    assert not any("'" in row or "%" in row for row in rows)


@pytest.mark.parametrize(
    ("contexts", "memory", "body", "connections"),
    [
        ([], 2 * GIB, 256 * KIB, 97),
        ([512], 2 * GIB, 256 * KIB, 97),
        ([512, 32_768], 4 * GIB, 512 * KIB, 104),
        ([512, 32_768], 2 * GIB, 480 * KIB, 48),  # a larger body would leave less than 64 connections
        ([10_000_000], 64 * GIB, 4 * MIB, 238),
        ([10_000_000], 1024 * GIB, 4 * MIB, 1024),
        ([512], GIB // 2, 256 * KIB, 12),
        ([512], 64 * MIB, 256 * KIB, 1),
    ],
)
def test_bodies_and_connections_follow_context_and_memory(
    contexts: list[int], memory: int, body: int, connections: int
) -> None:
    limits = plan_front(contexts, memory_bytes=memory)
    assert (limits.body_bytes, limits.connections) == (body, connections)


@pytest.mark.parametrize("memory", [GIB // 2, 2 * GIB, 24 * GIB, 2048 * GIB])
@pytest.mark.parametrize("context", [512, 8192, 131_072, 1 << 24])
def test_what_clients_can_make_the_front_hold_is_a_share_of_the_memory(memory: int, context: int) -> None:
    text = render_haproxy([], limits=plan_front([context], memory_bytes=memory))
    most = {key: int(re.search(rf"^    {key} (\d+)$", text, re.MULTILINE)[1]) for key in ("maxconn", "tune.bufsize")}  # type: ignore[index]
    assert 2 * most["maxconn"] * most["tune.bufsize"] <= memory // 32
    assert "option disable-h2-upgrade" in text  # with it a connection could hold 100 buffers


def test_an_error_has_openai_s_form() -> None:
    assert json.loads(fill(render_error("No.", kind="invalid_request_error", code=None))) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}
    }


def test_an_error_has_anthropic_s_form_around_it() -> None:
    assert json.loads(
        fill(render_error("No.", kind="server_error", code="busy"), form='"type":"error",', server="api_error")
    ) == {
        "type": "error",
        "error": {"message": "No.", "type": "api_error", "param": None, "code": "busy"},
    }


@pytest.mark.parametrize(
    "origin", ["", "chat.example", "https://a/", "https://a b", "https://a\n", "ftp://a", "https://*", "null"]
)
def test_what_is_not_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(UsageError, match=r"is not an origin: expected https://HOST"):
        render_haproxy([], limits=plan_front([], memory_bytes=2 * GIB), cors=[origin])


def test_without_origins_nothing_of_cors_is_configured() -> None:
    text = render_haproxy([make("known-answer")], limits=plan_front([], memory_bytes=2 * GIB))
    assert "Access-Control-Allow" not in text
