"""Bodies and connections as unusual clients send them, errors in both forms, web pages of other origins, and what operators
read."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.serving.conftest import Stack

pytestmark = pytest.mark.build

MakeStack = Callable[..., contextlib.AbstractContextManager[Stack]]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("tiny", "Lab/slow:v1", context=2048) as running:
        running.start_all()
        yield running


def exchange(stack: Stack, *pieces: bytes, half_close: bool = False) -> bytes:
    """All that comes back for these bytes, until the front closes the connection."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=300) as client:
        for piece in pieces:
            client.sendall(piece)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def request(body: str, *, version: str = "1.1", path: str = CHAT, header: str = "") -> bytes:
    content = body.encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n{header}\r\n"
    return head.encode() + content


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"model":"tiny","model":"Lab/slow:v1","messages":[]}', 400, "duplicate_parameter"),
        (b'{"model":"tiny","mod\\u0065l":"tiny","messages":[]}', 400, "duplicate_parameter"),
        (b'{"model":"tiny","messages":[],"tools":[{"type":"web","type":"function"}]}', 400, "duplicate_parameter"),
        (b'{"model":"tiny","messages":[],"tools":[web]}', 400, "invalid_json"),
        (b'{"model":"tiny","messages":[],"user":"\x00"}', 400, "invalid_utf8"),
        (b'{"model":"tiny","messages":[],"user":"\xff"}', 400, "invalid_utf8"),
        (b'{"model":"tiny","messages":[],"user":"\xed\xa0\x80"}', 400, "invalid_utf8"),
        (b'{"model":"\\ud800","messages":[]}', 400, "invalid_json"),
        (b'{"model":"tiny","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "json_too_deep"),
        (b'{"model":"tiny","messages":' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}", 400, "json_too_deep"),
        (b'{"model":"tiny","messages":[]}{}', 400, "invalid_json"),
        (b'{"model":"tiny","messages":[],}', 400, "invalid_json"),
        (b'{"model":"tiny" "messages":[]}', 400, "invalid_json"),
        (
            b'{"model":"tiny","messages":[],' + b",".join(b'"p%d":1' % n for n in range(300)) + b"}",
            400,
            "too_many_parameters",
        ),
        (b"\xef\xbb\xbf" + b'{"model":"tiny","messages":[]}', 400, "invalid_json"),
    ],
)
def test_a_body_that_two_readers_could_read_differently_is_refused(
    stack: Stack, body: bytes, status: int, code: str
) -> None:
    answer = stack.ask(CHAT, body)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    "body",
    [
        '{"mod\\u0065l":"t\\u0069ny","messages":[{"role":"user","content":"x"}],"max_tokens":1}',
        '{"messages":[{"role":"user","content":"\\"model\\":\\"nobody\\" \\\\"}],"model":"tiny","max_tokens":1}',
        '\n\t{ "messages" : [ { "role" : "user" , "content" : "\\ud83d\\ude00" } ] , "model" : "tiny", "max_tokens" : 1 }\n',
        '{"messages":[{"role":"user","content":"x","model":"nobody"}],"max_tokens":null,"n_predict":1,"model":"tiny"}',
    ],
)
def test_the_model_is_found_however_json_is_written(stack: Stack, body: str) -> None:
    assert stack.ask(CHAT, body).status == 200


def test_a_schema_of_many_levels_does_not_hide_the_model(stack: Stack) -> None:
    schema: dict[str, object] = {"type": "boolean"}
    for _ in range(20):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    format = {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}
    answer = stack.ask(CHAT, {"messages": HELLO, "response_format": format, "max_tokens": 1, "model": "tiny"})
    assert answer.status == 200, answer.text


def test_a_body_that_the_front_has_no_memory_for_is_refused_and_the_next_is_served(make_stack: MakeStack) -> None:
    with make_stack("tiny", script_mib=1) as stack:
        stack.start_all()
        small = {"model": "tiny", "messages": HELLO, "max_tokens": 1}
        escaped = '{"model":"' + "\\n" * 100_000 + '"}'
        answers = [stack.ask(CHAT, escaped) for _ in range(3)]
        assert {(answer.status, answer.code) for answer in answers} == {(503, "front_busy")}
        assert answers[0].headers["retry-after"] == "5"
        assert stack.ask(CHAT, small).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br", "gzip, identity"])
def test_a_compressed_body_is_415(stack: Stack, encoding: str) -> None:
    answer = stack.ask(CHAT, b"\x1f\x8b", **{"Content-Encoding": encoding})
    assert (answer.status, answer.code) == (415, "unsupported_content_encoding")
    assert answer.headers["accept-encoding"] == "identity"


def test_a_body_that_is_said_to_be_as_it_is_is_read(stack: Stack) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 1}
    assert stack.ask(CHAT, body, **{"Content-Encoding": "identity"}).status == 200


def test_a_large_header_is_431(stack: Stack) -> None:
    answer = stack.ask("/v1/models", method="GET", **{"X-Large": "a" * 20_000})
    assert (answer.status, answer.code) == (431, "header_too_large")


def test_a_client_of_http_1_0_gets_a_stream_that_ends_with_the_connection(stack: Stack) -> None:
    body = json.dumps({"model": "tiny", "messages": HELLO, "max_tokens": 3, "stream": True, "ignore_eos": True})
    head, _, content = exchange(stack, request(body, version="1.0")).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b" 200 OK")
    assert b"transfer-encoding" not in head.lower()
    assert content.startswith(b"data: {") and content.endswith(b"data: [DONE]\n\n")


def test_a_client_that_closes_its_half_of_the_connection_is_taken_for_one_that_has_gone(stack: Stack) -> None:
    """`option abortonclose` frees the slot of a client that has gone; TCP does not tell it from one that only listens."""
    body = json.dumps({"model": "Lab/slow:v1", "prompt": "a", "max_tokens": 200, "ignore_eos": True})
    ended = exchange(stack, request(body, path="/v1/completions"), half_close=True)
    assert ended.startswith(b"HTTP/1.1 400 ") and b"its client closed the connection" in ended
    # What the front answers itself comes all the same.
    refused = exchange(stack, request('{"model":"nobody"}'), half_close=True)
    assert refused.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "sent",
    [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(200)) + b"\r\n"],
)
def test_what_is_not_http_gets_400_in_html(stack: Stack, sent: bytes) -> None:
    """HAProxy's parser answers by itself, with text that no setting of 3.0 changes; the page of the protocol says so."""
    head, _, body = exchange(stack, sent).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"text/html" in head and b"<html>" in body


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "code"),
    [
        (MESSAGES, {"model": "nobody", "messages": HELLO}, 404, "not_found_error", "model_not_found"),
        (MESSAGES, {"model": "tiny", "messages": HELLO, "max_tokens": "5"}, 400, "invalid_request_error", "invalid_type"),
        (MESSAGES, {"model": "tiny", "max_tokens": 5}, 400, "invalid_request_error", "invalid_request"),
        (
            MESSAGES,
            {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "a b " * 3000}]},
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (f"{MESSAGES}/count_tokens", {"model": "nobody"}, 404, "not_found_error", "model_not_found"),
    ],
)
def test_an_error_on_anthropic_s_paths_has_anthropic_s_form(
    stack: Stack, path: str, body: object, status: int, kind: str, code: str
) -> None:
    answer = stack.ask(path, body)
    assert (answer.status, answer.json["type"], answer.error["type"], answer.code) == (status, "error", kind, code)


def test_an_engine_s_word_about_a_field_names_the_parameter(stack: Stack) -> None:
    answer = stack.ask(CHAT, {"model": "tiny", "messages": HELLO, "n": 100})
    assert (answer.status, answer.code, answer.error["param"]) == (400, "invalid_value", "n")


PAGE, OTHER = "https://chat.example", "https://evil.example"


def test_web_pages_of_the_given_origins_may_call_the_front_and_others_may_not(make_stack: MakeStack) -> None:
    with make_stack("tiny", cors=(PAGE,)) as stack:
        stack.start_all()
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        allowed = stack.ask(CHAT, method="OPTIONS", Origin=PAGE, **asked)
        assert (allowed.status, allowed.text) == (204, "")
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert allowed.headers["access-control-allow-headers"] == "authorization,content-type"
        assert allowed.headers["access-control-allow-methods"] == "GET,POST"
        for answer in (
            stack.complete("tiny", 1, user="me"),
            stack.ask(CHAT, method="OPTIONS", Origin=OTHER, **asked),
            stack.ask("/v1/models", method="GET", Origin=OTHER),
        ):
            assert "access-control-allow-origin" not in answer.headers
        for answer in (
            stack.ask("/v1/models", method="GET", Origin=PAGE),
            stack.ask(CHAT, {"model": "nobody"}, Origin=PAGE),
            stack.ask(CHAT, {"model": "tiny", "messages": HELLO, "max_tokens": 1}, Origin=PAGE),
        ):
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "origin" in answer.headers["vary"].lower()


def test_without_origins_no_web_page_is_let_in(stack: Stack) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answer = stack.ask(CHAT, method="OPTIONS", **asked)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_metrics_of_the_front_and_of_each_engine(stack: Stack) -> None:
    front = stack.ask("/metrics", method="GET").text
    assert 'haproxy_backend_http_responses_total{proxy="engine-tiny",code="2xx"}' in front
    stack.complete("tiny", 3)
    assert "llamacpp:tokens_predicted_total 0\n" not in stack.ask("/metrics/tiny", method="GET").text
    for path in ("/metrics/Lab/slow:v1", "/metrics/Lab%2Fslow:v1"):
        engine = stack.ask(path, method="GET")
        assert (engine.status, "llamacpp:tokens_predicted_total" in engine.text) == (200, True)
        assert engine.headers["content-type"].startswith("text/plain")


def test_versions_of_all_that_answers(stack: Stack) -> None:
    version = stack.ask("/version", method="GET").json
    assert version["haproxy"].startswith("3.") and version["bedplate"]
    assert [(row["model"], row["engine"]) for row in version["engines"]] == [
        ("tiny", "llamacpp"),
        ("Lab/slow:v1", "llamacpp"),
    ]
    assert all(row["build"] for row in version["engines"])


def test_a_model_s_row_has_what_clients_of_three_kinds_read(stack: Stack) -> None:
    row = stack.ask("/v1/models/tiny", method="GET").json
    assert (row["object"], row["created"], row["owned_by"]) == ("model", 1_700_000_000, "bedplate")
    assert (row["max_model_len"], row["root"], row["parent"]) == (2048, "tiny", None)
    assert row["meta"]["n_ctx"] == 2048 and row["meta"]["n_ctx_train"] == 8192 and row["meta"]["n_params"] > 0
