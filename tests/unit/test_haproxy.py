"""The front's configuration as reviewed text."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from bedplate.engines.llamacpp import make_launch
from bedplate.front.haproxy import Route, body_limit_bytes, make_route, render_error, render_haproxy
from bedplate.model.launch import Format, Limits, ModelRef, Placement

GOLDEN = Path(__file__).parents[1] / "golden/haproxy.cfg"


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


def test_the_configuration_for_two_models() -> None:
    text = render_haproxy([make("known-answer"), make("Qwen/Qwen3-8B")], body_limit=body_limit_bytes([512]))
    if "BEDPLATE_WRITE_GOLDEN" in os.environ:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "BEDPLATE_WRITE_GOLDEN=1 writes it again; read the diff"


def test_without_models_everything_is_answered_and_nothing_routed() -> None:
    text = render_haproxy([], body_limit=body_limit_bytes([]), stats_socket=None)
    assert "use_backend" not in text
    assert '{"object":"list","data":[]}' in text
    assert "path /health" in text and 'status 200 content-type application/json string \'{"status"' not in text


def test_every_answer_is_json() -> None:
    text = render_haproxy([make("known-answer")], body_limit=1000)
    bodies = re.findall(r"string '(\{.*?\})'", text)
    assert len(bodies) > 15
    for body in bodies:
        json.loads(body)


@pytest.mark.parametrize(
    ("contexts", "limit"), [([], 262144), ([512], 262144), ([512, 32768], 524288), ([10_000_000], 4194304)]
)
def test_the_body_limit_follows_the_longest_context(contexts: list[int], limit: int) -> None:
    assert body_limit_bytes(contexts) == limit


def test_an_error_has_openai_s_form() -> None:
    assert json.loads(render_error("No.", kind="invalid_request_error", code=None)) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}
    }
