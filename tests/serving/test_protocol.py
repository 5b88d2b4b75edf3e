"""Each row of the protocol table, run against the real engine: what works is shown, what is refused is refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bedplate.catalog.protocol import read_protocol
from bedplate.front.routes import INFERENCE_PATHS
from bedplate.model.launch import ModelTask
from bedplate.model.protocol import JsonKind, ParameterEffect, ParameterRow
from tests.effort import wait_until
from tests.serving import zoo
from tests.serving.conftest import Stack, model_ref
from tests.serving.scripted_gguf import GREETING, write_scripted_model

pytestmark = pytest.mark.build

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
HELLO = [{"role": "user", "content": "hello"}]
REQUESTS: dict[str, dict[str, object]] = {
    CHAT: {"model": "scripted", "messages": HELLO, "max_tokens": 40},
    "/v1/completions": {"model": "scripted", "prompt": "a", "max_tokens": 5},
    RESPONSES: {"model": "scripted", "input": "hello", "max_output_tokens": 40},
    MESSAGES: {"model": "scripted", "messages": HELLO, "max_tokens": 40},
    "/v1/messages/count_tokens": {"model": "scripted", "messages": HELLO},
    "/v1/embeddings": {"model": "embedder", "input": "a b"},
    "/v1/rerank": {"model": "ranker", "query": "a", "documents": ["a", "b"]},
    "/tokenize": {"model": "scripted", "content": "hello"},
    "/detokenize": {"model": "scripted", "tokens": [1, 2]},
}
"""The smallest request of each path."""
OF_ANOTHER_KIND = {
    JsonKind.STRING: 5,
    JsonKind.INTEGER: "5",
    JsonKind.NUMBER: "0.5",
    JsonKind.BOOLEAN: "yes",
    JsonKind.ARRAY: 5,
    JsonKind.OBJECT: 5,
}
_SEEDS = itertools.count(1_000_000)
_RECENT_BYTES = 256 * 1024  # of the engine's log: what a request or two write
ROWS = [(path, row) for row in read_protocol() if row.engine == "llamacpp" for path in row.paths]


@pytest.fixture(scope="module")
def stack(
    make_stack: Callable[..., contextlib.AbstractContextManager[Stack]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A scripted model, whose engine writes down its settings, one for vectors and one for scores."""
    directory = tmp_path_factory.mktemp("protocol")
    scripted = model_ref("scripted", write_scripted_model(directory / "scripted"))
    embedder = model_ref("embedder", zoo.write_bert(directory / "embedder"))
    ranker = model_ref("ranker", zoo.write_bert(directory / "ranker", rank=True))
    models = (
        scripted,
        dataclasses.replace(embedder, task=ModelTask.EMBED, architecture="bert", context_length=512),
        dataclasses.replace(ranker, task=ModelTask.RERANK, architecture="bert", context_length=512),
    )
    with make_stack(*models, parallel=2, context=2048, verbosity=5) as running:
        running.start_all()
        yield running


def with_value(body: dict[str, object], name: str, value: object) -> dict[str, object]:
    """The body with a parameter, which may be a member of an object, or of each element of an array."""
    head, _, rest = name.partition(".")
    key = head.removesuffix("[]")
    if not rest:
        return {**body, key: value}
    inner: Any = body.get(key, [] if head.endswith("[]") else {})
    if head.endswith("[]"):
        return {**body, key: [with_value(element, rest, value) for element in inner]}
    return {**body, key: with_value(inner, rest, value)}


def settings(stack: Stack) -> dict[str, Any]:
    """What the engine sampled the last request with.

    It writes that down when the slot of a request gets the next one, and writes late: so each slot gets a request with a
    seed of its own, and once more, until those stand in the log.
    """
    seed = next(_SEEDS)
    for slot in (0, 1, 0, 1):
        stack.ask_engine("scripted", "/v1/completions", {"prompt": "a", "max_tokens": 1, "id_slot": slot, "seed": seed})
    states: list[dict[str, Any]] = []

    def is_written() -> bool:
        lines = stack.end_of_log("scripted", _RECENT_BYTES).split("\n")[1:-1]
        told = [line.partition("launching slot : ")[2] for line in lines if '"params":' in line]
        states[:] = [json.loads(text) for text in told if text]
        return [state["params"]["seed"] for state in states].count(seed) == 2

    wait_until(is_written, "the settings are in the log")
    last = max((state for state in states if state["params"]["seed"] != seed), key=lambda state: int(state["id_task"]))
    found: dict[str, Any] = last["params"]
    return found


def find(value: Any, place: str) -> Any:
    for part in place.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def answer_of(text: str) -> Any:
    """The JSON of an answer, or of the last event of a stream that is JSON."""
    if text.startswith(("data:", "event:")):
        return json.loads([line for line in text.splitlines() if line.startswith("data: {")][-1].removeprefix("data: "))
    return json.loads(text)


@pytest.mark.parametrize(("path", "row"), [pytest.param(path, row, id=f"{path}-{row.name}") for path, row in ROWS])
def test_a_parameter_does_what_its_row_says(stack: Stack, path: str, row: ParameterRow) -> None:
    base = {**REQUESTS[path], **json.loads(row.request)}
    if row.example:
        body = with_value(base, row.name, json.loads(row.example))
        answer = stack.ask(path, body)
        if row.effect is ParameterEffect.REFUSED:
            assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_parameter", row.name)
            return
        assert answer.status == 200, answer.text
        if row.setting:
            found = settings(stack)[row.setting]
            if row.becomes == "*":
                assert found
            else:
                assert found == json.loads(row.becomes or row.example)
        if row.shows:
            place, _, wanted = row.shows.partition("=")
            shown = find(answer_of(answer.text), place)
            assert shown not in (None, "", [], {}) if not wanted else shown == json.loads(wanted)
    else:
        assert stack.ask(path, base).status == 200
    wrong = with_value(base, row.name, OF_ANOTHER_KIND[row.kinds[0]])
    answer = stack.ask(path, wrong)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_type", row.name)
    if row.other:
        answer = stack.ask(path, with_value(base, row.name, json.loads(row.other)))
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_value", row.name)


@pytest.mark.parametrize("path", REQUESTS)
def test_a_parameter_without_a_row_is_refused_by_name(stack: Stack, path: str) -> None:
    answer = stack.ask(path, {**REQUESTS[path], "max_token": 5, "another": 1})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unknown_parameter", "max_token")


def test_every_path_of_the_front_has_rows() -> None:
    assert {path for path, _ in ROWS} == set(INFERENCE_PATHS) == set(REQUESTS)


PARAMETERS = {
    "type": "object",
    "properties": {"day": {"type": "integer"}},
    "required": ["day"],
    "additionalProperties": False,
}
NAMES = ("alpha", "beta", "gamma")


def calls(path: str, answer: Any) -> list[tuple[str, Any]]:
    """(name, arguments) of the calls in an answer."""
    if path == CHAT:
        found = answer["choices"][0]["message"].get("tool_calls", ())
        return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]
    if path == MESSAGES:
        return [(part["name"], part["input"]) for part in answer["content"] if part["type"] == "tool_use"]
    return [(part["name"], json.loads(part["arguments"])) for part in answer["output"] if part["type"] == "function_call"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_a_tool_that_is_chosen_by_its_name_is_called(stack: Stack, path: str, name: str) -> None:
    """The engine does not know a choice by name; the front leaves it the named tool alone, and it must call one."""
    tools, choice = {
        CHAT: (
            [{"type": "function", "function": {"name": tool, "parameters": PARAMETERS}} for tool in NAMES],
            {"type": "function", "function": {"name": name}},
        ),
        RESPONSES: (
            [{"type": "function", "name": tool, "parameters": PARAMETERS} for tool in NAMES],
            {"type": "function", "name": name},
        ),
        MESSAGES: ([{"name": tool, "input_schema": PARAMETERS} for tool in NAMES], {"type": "tool", "name": name}),
    }[path]
    for body in (
        {**REQUESTS[path], "tools": tools, "tool_choice": choice},
        {"tool_choice": choice, "tools": tools, **REQUESTS[path]},
    ):
        answer = stack.ask(path, body)
        assert answer.status == 200, answer.text
        assert calls(path, answer.json) == [(name, {"day": 1})]
    missing = json.loads(json.dumps(choice).replace(name, "delta"))
    answer = stack.ask(path, {**REQUESTS[path], "tools": tools, "tool_choice": missing})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_value", "tool_choice")


def test_a_tool_is_chosen_in_a_body_that_fills_the_buffer_in_pieces(stack: Stack) -> None:
    tools = [
        {"type": "function", "function": {"name": tool, "description": "x" * 60_000, "parameters": PARAMETERS}}
        for tool in ("alpha", "beta")
    ]
    tools.append({"type": "function", "function": {"name": "gamma", "parameters": PARAMETERS}})
    body = json.dumps(
        {**REQUESTS[CHAT], "tools": tools, "tool_choice": {"type": "function", "function": {"name": "gamma"}}}
    ).encode()
    with contextlib.closing(stack.connect()) as connection:
        pieces = (body[start : start + 999] for start in range(0, len(body), 999))
        connection.request("POST", CHAT, pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200
        assert calls(CHAT, json.loads(answer.read())) == [("gamma", {"day": 1})]


def test_the_result_of_a_tool_leads_to_an_answer(stack: Stack) -> None:
    tool = {"type": "function", "function": {"name": "alpha", "parameters": PARAMETERS}}
    called = stack.ask(CHAT, {**REQUESTS[CHAT], "tools": [tool]}).json["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "sunny"}
    answer = stack.ask(CHAT, {**REQUESTS[CHAT], "tools": [tool], "messages": [*HELLO, called, result]})
    assert answer.json["choices"][0]["message"]["content"] == GREETING
