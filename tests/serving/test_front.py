"""What a client sees of the front door: routing, refusals, streams, queues, and a health that means tokens."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bedplate.catalog.protocol import read_protocol, read_request_script
from bedplate.engines.llamacpp import make_launch
from bedplate.front.haproxy import render_haproxy
from bedplate.front.routes import make_route, plan_front
from bedplate.front.script import render_script
from bedplate.model.launch import Limits, Placement
from tests.effort import PATIENCE_S, wait_until
from tests.serving.conftest import BODY_LIMIT, Stack, model_ref

pytestmark = pytest.mark.build

MakeStack = Callable[..., contextlib.AbstractContextManager[Stack]]
SLOW = "Lab/slow:v1"
SLOW_BACKEND = "engine-Lab_slow_v1-95484f70"
CHAT = "/v1/chat/completions"


def chat(model: str, text: str, **more: object) -> dict[str, object]:
    # The order of OpenAI's own client: the messages before the model.
    return {"messages": [{"role": "user", "content": text}], "model": model, "max_tokens": 4, **more}


@pytest.mark.parametrize("model", ["tiny", SLOW])
def test_a_request_reaches_the_engine_of_its_model(stack: Stack, model: str) -> None:
    answer = stack.ask(CHAT, chat(model, "hello"))
    assert (answer.status, answer.json["model"]) == (200, model)
    assert answer.json["usage"]["completion_tokens"] >= 1
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_models_are_listed(stack: Stack) -> None:
    answer = stack.ask("/v1/models", method="GET")
    assert answer.status == 200
    assert [(row["id"], row["object"]) for row in answer.json["data"]] == [("tiny", "model"), (SLOW, "model")]
    assert stack.ask(f"/v1/models/{SLOW}", method="GET").json["id"] == SLOW


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", CHAT, {"model": "nobody", "messages": []}, 404, "model_not_found"),
        ("POST", CHAT, {"model": 'a"b\\c%[src]\n', "messages": []}, 404, "model_not_found"),
        ("POST", CHAT, {"model": "x" * 5000, "messages": []}, 404, "model_not_found"),
        ("POST", CHAT, {"model": "TINY", "messages": []}, 404, "model_not_found"),
        ("POST", CHAT, {"model": 7, "messages": []}, 400, "invalid_type"),
        ("POST", CHAT, {"messages": [{"model": "tiny"}]}, 400, "missing_model"),
        ("POST", CHAT, "hello", 400, "invalid_json"),
        ("POST", CHAT, "", 400, "invalid_json"),
        ("POST", CHAT, "[1]", 400, "invalid_json"),
        ("GET", CHAT, None, 405, "method_not_allowed"),
        ("POST", "/v1/nothing", {"model": "tiny"}, 404, "not_found"),
        ("GET", "/", None, 404, "not_found"),
        ("GET", "/slots", None, 404, "not_found"),
        ("GET", "/metrics/nobody", None, 404, "model_not_found"),
        ("POST", "/metrics", {"model": "tiny"}, 404, "not_found"),
        ("POST", "/props", {"model": "tiny"}, 404, "not_found"),
    ],
)
def test_what_cannot_be_answered_is_refused_as_openai_does(
    stack: Stack, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = stack.ask(path, body, method=method)
    assert (answer.status, answer.code) == (status, code)
    assert len(answer.text) < 1024


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"model": "tiny", "messages": [{"role": "us', "invalid_json"),
        ('{"model": "tiny", "messages": [}', "invalid_json"),
        ('{"model": "tiny", "messages": [{"role": user}]}', "invalid_request"),  # the engine reads what is inside
    ],
)
def test_a_body_that_is_no_json_is_refused(stack: Stack, body: str, code: str) -> None:
    answer = stack.ask(CHAT, body)
    assert (answer.status, answer.code, answer.error["type"]) == (400, code, "invalid_request_error")


def test_a_long_prompt_before_the_model_is_served(stack: Stack) -> None:
    answer = stack.ask(CHAT, chat("tiny", "ab " * 2500))
    assert (answer.status, answer.json["usage"]["prompt_tokens"] > 4000) == (200, True)


def test_the_model_is_found_behind_the_largest_body_and_one_byte_more_is_413(stack: Stack) -> None:
    empty = len(json.dumps(chat("tiny", "")))
    largest = json.dumps(chat("tiny", "a" * (BODY_LIMIT - empty)))
    assert len(largest) == BODY_LIMIT
    # Far over the context: the engine itself says so, which shows that it got it whole.
    answer = stack.ask(CHAT, largest)
    assert (answer.status, answer.code) == (400, "context_length_exceeded")
    answer = stack.ask(CHAT, json.dumps(chat("tiny", "a" * (BODY_LIMIT - empty + 1))))
    assert (answer.status, answer.code) == (413, "request_too_large")


@pytest.mark.parametrize(("size", "status"), [(100, 200), (BODY_LIMIT + 1000, 413)])
def test_a_chunked_body_has_the_same_limit(stack: Stack, size: int, status: int) -> None:
    body = json.dumps(chat("tiny", "a" * size)).encode()
    pieces = (body[start : start + 8192] for start in range(0, len(body), 8192))
    with contextlib.closing(stack.connect()) as connection:
        connection.request("POST", CHAT, pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == status


def test_tokens_are_passed_on_one_by_one(stack: Stack) -> None:
    """Something that gathers the answer before it passes it on gives one piece at the end, or some of 16 or 64 KiB."""
    with contextlib.closing(stack.connect()) as connection:
        body = chat(SLOW, "hello", stream=True, max_tokens=200, ignore_eos=True)
        connection.request("POST", CHAT, json.dumps(body))
        answer = connection.getresponse()
        pieces = [answer.read1(65536)]
        assert stack.queued(SLOW_BACKEND) == (0, 1), "the first piece came when the engine had made all"
        while piece := answer.read1(65536):
            pieces.append(piece)
    text = b"".join(pieces)
    assert text.rstrip().endswith(b"data: [DONE]")
    assert len(pieces) > 20, f"200 tokens, {len(text)} bytes, came in {len(pieces)} pieces"


def test_a_client_that_leaves_frees_the_engine(make_stack: MakeStack) -> None:
    with make_stack(SLOW, parallel=1, queue=4) as stack:
        stack.start_all()
        for streaming in (True, False):
            connection = stack.connect()
            body = {"model": SLOW, "prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": streaming}
            connection.request("POST", "/v1/completions", json.dumps(body))
            wait_until(lambda: stack.queued(SLOW_BACKEND) == (0, 1), "the engine works")
            if streaming:
                connection.getresponse().read(100)
            assert connection.sock is not None
            connection.sock.close()
            connection.close()
            started = time.monotonic()
            assert stack.complete(SLOW, 1).status == 200
            # 8000 tokens take more than half a minute.
            assert time.monotonic() - started < 10


def work_on_8000(stack: Stack, *, streaming: bool = False) -> http.client.HTTPConnection:
    """A request that the engine works on for half a minute on a quiet host, and until it is closed on a busy one."""
    connection = stack.connect()
    body = {"model": SLOW, "prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": streaming}
    connection.request("POST", "/v1/completions", json.dumps(body))
    wait_until(lambda: stack.queued(SLOW_BACKEND) == (0, 1), "the engine works")
    return connection


def leave(connection: http.client.HTTPConnection) -> None:
    assert connection.sock is not None
    connection.sock.close()
    connection.close()


def test_a_full_queue_sheds_and_a_queued_client_that_leaves_makes_room(make_stack: MakeStack) -> None:
    with make_stack(SLOW, parallel=1, queue=2) as stack, ThreadPoolExecutor() as pool:
        stack.start_all()
        working = work_on_8000(stack)
        waiting = pool.submit(stack.complete, SLOW, 1)
        wait_until(lambda: stack.queued(SLOW_BACKEND) == (1, 1), "one waits")
        leaving = stack.connect()
        leaving.request("POST", "/v1/completions", json.dumps({"model": SLOW, "prompt": "a", "max_tokens": 1}))
        wait_until(lambda: stack.queued(SLOW_BACKEND) == (2, 1), "two wait")

        shed = stack.complete(SLOW, 1)
        assert (shed.status, shed.code, shed.headers["retry-after"]) == (429, "queue_full", "5")
        assert stack.queued(SLOW_BACKEND) == (2, 1), "it waited for those before it"
        assert stack.ask("/health", method="GET").status == 200, "busy is not sick"

        leaving.close()
        wait_until(lambda: stack.queued(SLOW_BACKEND) == (1, 1), "the one who left is out of the queue")
        leave(working)
        assert waiting.result().status == 200


def test_a_busy_engine_is_not_taken_for_a_wedged_one(make_stack: MakeStack) -> None:
    with make_stack(SLOW, parallel=2, queue=8, deadline_s=10) as stack, ThreadPoolExecutor() as pool:
        stack.start_all()
        ends = time.monotonic() + 12  # two probes and more

        def work() -> set[int]:
            return {stack.complete(SLOW, 100).status for _ in iter(lambda: time.monotonic() < ends, False)}

        workers = [pool.submit(work) for _ in range(2)]
        seen = set()
        while not all(worker.done() for worker in workers):
            seen.add(stack.ask("/health", method="GET").status)
            time.sleep(0.1)
        assert (seen, [worker.result() for worker in workers]) == ({200}, [{200}, {200}])


def test_health_says_whether_a_token_came_lately(make_stack: MakeStack) -> None:
    with make_stack("tiny", SLOW, deadline_s=5) as stack:
        stack.start_front()
        # Before any check has failed HAProxy itself takes its servers for up: this must not show.
        assert health(stack) == {"": 503, "tiny": 503, SLOW: 503}
        answer = stack.complete("tiny", 1)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "model_not_ready", "5")

        stack.start_engine("tiny")
        wait_until(lambda: health(stack)["tiny"] == 200, "tiny made a token")
        assert health(stack) == {"": 503, "tiny": 200, SLOW: 503}
        stack.start_engine(SLOW)
        wait_until(lambda: health(stack)[""] == 200, "both made a token")

        # Wedged: it still accepts connections, and a stream is open.
        with ThreadPoolExecutor() as pool:
            open_stream = pool.submit(stream, stack, chat("tiny", "hello", stream=True, max_tokens=4000, ignore_eos=True))
            wait_until(lambda: stack.queued("engine-tiny") == (0, 1), "a stream is open")
            stack.signal("tiny", signal.SIGSTOP)
            wait_until(lambda: health(stack)["tiny"] == 503, "the wedge is seen")
            assert stack.complete("tiny", 1).status == 503
            assert stack.complete(SLOW, 1).status == 200
            stack.signal("tiny", signal.SIGCONT)
            wait_until(lambda: health(stack) == {"": 200, "tiny": 200, SLOW: 200}, "it goes on")
            open_stream.result(timeout=PATIENCE_S)  # and so does what it was at

        # Crashed, and started again.
        stack.kill(SLOW)
        wait_until(lambda: health(stack)[SLOW] == 503, "the crash is seen")
        stack.start_engine(SLOW)
        wait_until(lambda: health(stack)[""] == 200, "it is back")


def test_a_probe_leaves_no_line_in_the_log_of_the_engine(make_stack: MakeStack) -> None:
    with make_stack("known-answer") as stack:
        stack.start_all()
        before = stack.log("known-answer")
        answers = [stack.probe("known-answer") for _ in range(3)]
        assert [(answer.status, answer.json["usage"]["completion_tokens"]) for answer in answers] == [(200, 1)] * 3
        assert stack.log("known-answer") == before


def test_half_sent_bodies_hold_a_bounded_memory_and_more_are_refused(make_stack: MakeStack) -> None:
    connections = 20
    with make_stack("tiny", connections=connections) as stack, contextlib.ExitStack() as held:
        stack.start_all()
        before = stack.memory_bytes("front")
        for _ in range(connections):
            client = held.enter_context(contextlib.closing(stack.connect()))
            client.putrequest("POST", CHAT)
            client.putheader("Content-Length", str(BODY_LIMIT))
            client.endheaders(b"x" * (BODY_LIMIT - 1))
        wait_until(lambda: stack.memory_bytes("front") - before > connections * BODY_LIMIT // 2, "the front has the bodies")
        refused = stack.complete("tiny", 1)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "too_many_connections", "5")
        assert stack.ask("/health", method="GET").status == 200  # there are connections that are spared for this
        assert stack.memory_bytes("front") - before < 2 * (connections + 16) * (BODY_LIMIT + 32 * 1024)
        held.close()
        wait_until(lambda: stack.complete("tiny", 1).status == 200, "it is served again")


def test_http_2_which_holds_a_buffer_for_each_stream_is_not_spoken(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def health(stack: Stack) -> dict[str, int]:
    return {name: stack.ask(f"/health{'/' if name else ''}{name}", method="GET").status for name in ("", "tiny", SLOW)}


def stream(stack: Stack, body: dict[str, Any]) -> bytes:
    """All of a streamed answer."""
    with contextlib.closing(stack.connect()) as connection:
        connection.request("POST", CHAT, json.dumps(body))
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        return b"".join(iter(lambda: answer.read1(65536), b""))


def deny_write_execute() -> None:
    """What MemoryDenyWriteExecute= of the unit does, by prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN) of Linux 6.3."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


@pytest.mark.parametrize("names", [(), ("known-answer", "Qwen/Qwen3-8B")])
def test_haproxy_takes_the_configuration_in_its_sandbox(haproxy: list[str], tmp_path: Path, names: tuple[str, ...]) -> None:
    limits = Limits(context=512, parallel=2, memory_bytes=1)
    placement = Placement(cpus=(0,))
    routes = []
    for name in names:
        model = model_ref(name, Path(__file__))
        routes.append(make_route(model, make_launch(model, placement, limits), limits))
    script = tmp_path / "request.lua"
    script.write_text(render_script(read_protocol(), read_request_script()))
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        render_haproxy(
            routes,
            limits=plan_front([], memory_bytes=1 << 31),
            bind=("127.0.0.1:8080",),
            stats_socket=None,
            script=str(script),
            cors=("https://chat.example", "http://localhost:3000"),
        )
    )
    done = subprocess.run(
        [*haproxy, "-c", "-f", str(configuration)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=deny_write_execute,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_prompt_of_many_batches_is_progress_and_not_a_stuck_engine(make_stack: MakeStack) -> None:
    """A deadline of ten batches, as fast as they are on this host now, and a prompt that takes several deadlines."""
    with make_stack(SLOW, context=8192, batch=32) as stack:
        stack.start_all()
        began = time.monotonic()
        assert stack.complete(SLOW, 1, prompt="a b c d " * 64, cache_prompt=False).status == 200
        batch_s = (time.monotonic() - began) / (4 * 64 / 32)
    deadline_s = max(3, math.ceil(10 * batch_s))
    tokens = min(7900, int(32 * (3 * deadline_s + 6) / batch_s))
    with make_stack(SLOW, context=8192, batch=32, deadline_s=deadline_s) as stack, ThreadPoolExecutor() as pool:
        stack.start_all()
        began = time.monotonic()
        prompt = pool.submit(stack.complete, SLOW, 1, prompt="a b c d " * (tokens // 8), cache_prompt=False)
        seen = set()
        while not prompt.done():
            seen.add(stack.ask("/health", method="GET").status)
            time.sleep(0.1)
        answer = prompt.result()
        assert (answer.status, seen) == (200, {200}), answer.text
        assert answer.json["usage"]["prompt_tokens"] >= 16 * 32
        assert time.monotonic() - began > deadline_s, "the prompt was too short to show anything"


def test_a_request_without_an_answer_gets_502_when_its_engine_is_ended(make_stack: MakeStack) -> None:
    """What the supervisor does to a stuck engine, seen by its clients: a status, and a stream that breaks off."""
    with (
        make_stack(SLOW, deadline_s=5) as stack,
        ThreadPoolExecutor() as pool,
        contextlib.closing(stack.connect()) as client,
    ):
        stack.start_all()
        client.request("POST", CHAT, json.dumps(chat(SLOW, "hello", stream=True, max_tokens=8000, ignore_eos=True)))
        begun = client.getresponse()
        assert begun.status == 200 and begun.read(1)
        whole = pool.submit(stack.complete, SLOW, 8000)
        wait_until(lambda: stack.queued(SLOW_BACKEND) == (0, 2), "both are worked on")
        stack.signal(SLOW, signal.SIGSTOP)
        wait_until(lambda: health(stack)[SLOW] == 503, "the wedge is seen")
        assert not whole.done()  # the mark alone ends nothing
        stack.kill(SLOW)
        answer = whole.result(timeout=PATIENCE_S)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (502, "engine_failed", "5")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            begun.read()


def test_every_answer_has_a_request_id_of_its_own(stack: Stack) -> None:
    answers = [
        stack.complete("tiny", 1),
        stack.complete("no such model", 1),
        stack.ask("/v1/models", method="GET"),
        stack.ask("/nowhere", method="GET"),
        stack.ask("/v1/completions", "x" * (BODY_LIMIT + 1)),
        stack.ask("/v1/completions", {"model": "tiny", "prompt": 5}),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[0-9a-f-]{36}", name) for name in ids)


def test_the_other_forms_of_the_protocol_are_passed_on(stack: Stack) -> None:
    """OpenAI's responses, Anthropic's messages, and the tokeniser, each by the model in the body."""
    said = stack.ask("/v1/responses", {"model": "tiny", "input": "hello", "max_output_tokens": 2})
    assert (said.status, said.json["object"]) == (200, "response")
    told = stack.ask("/v1/messages", {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})
    assert (told.status, told.json["type"], told.json["usage"]["output_tokens"]) == (200, "message", 2)
    counted = stack.ask("/v1/messages/count_tokens", {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]})
    assert counted.json["input_tokens"] > 0
    tokens = stack.ask("/tokenize", {"model": "tiny", "content": "hello"}).json["tokens"]
    assert stack.ask("/detokenize", {"model": "tiny", "tokens": tokens}).json["content"] == "hello"
    refused = stack.ask("/v1/embeddings", {"model": "tiny", "input": "a"})
    assert (refused.status, refused.code) == (400, "unsupported_endpoint")


@pytest.mark.parametrize("path", ["/v1/models/Lab/slow:v1", "/v1/models/Lab%2Fslow:v1", "/v1/models/Lab%2fslow%3Av1"])
def test_a_model_s_page_is_found_by_its_name_however_it_is_written(stack: Stack, path: str) -> None:
    row = stack.ask(path, method="GET").json
    assert (row["id"], row["max_model_len"], row["task"]) == ("Lab/slow:v1", 8192, "generate")
    missing = stack.ask("/v1/models/nope", method="GET")
    assert (missing.status, missing.code) == (404, "model_not_found")


_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT, _WALL = 17, 0x4206, 0x4207, 0x40000000


def busy_threads(pid: int) -> list[int]:
    """Those that computed in the last half second."""

    def used() -> dict[int, int]:
        found = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            found[int(task.name)] = int(fields[11]) + int(fields[12])
        return found

    before = used()
    time.sleep(0.5)
    return [thread for thread, ticks in used().items() if ticks > before.get(thread, 0)]


@contextlib.contextmanager
def held(threads: list[int]) -> Iterator[None]:
    """These threads stand still, the others of their process go on: what a device that does not answer does to an engine."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for thread in threads:
        assert libc.ptrace(_PTRACE_SEIZE, thread, None, None) == 0, os.strerror(ctypes.get_errno())
        assert libc.ptrace(_PTRACE_INTERRUPT, thread, None, None) == 0
        os.waitpid(thread, _WALL)
    try:
        yield
    finally:
        for thread in threads:
            libc.ptrace(_PTRACE_DETACH, thread, None, None)


def test_an_engine_that_hangs_in_a_batch_is_found_though_its_http_threads_answer(make_stack: MakeStack) -> None:
    with make_stack(SLOW, context=8192, batch=32, deadline_s=5) as stack, ThreadPoolExecutor() as pool:
        stack.start_all()
        prompt = pool.submit(stack.complete, SLOW, 1, prompt="a b c d " * 300, cache_prompt=False)
        wait_until(lambda: len(busy_threads(stack.pid(SLOW))) > 1 or prompt.done(), "the prompt is computed")
        threads = busy_threads(stack.pid(SLOW))
        assert threads and health(stack)[SLOW] == 200, "the prompt was over too soon"
        with held(threads):
            wait_until(lambda: health(stack)[SLOW] == 503, "the hang is seen")
        wait_until(lambda: health(stack)[SLOW] == 200, "it goes on")
        assert prompt.result(timeout=PATIENCE_S).status == 200


def test_a_request_for_several_prompts_leaves_the_others_their_context(make_stack: MakeStack) -> None:
    with make_stack("tiny", parallel=2, context=2048) as stack, ThreadPoolExecutor() as pool:
        stack.start_all()
        long = pool.submit(
            stack.ask, "/v1/completions", {"model": "tiny", "prompt": "a b " * 150, "max_tokens": 1200, "ignore_eos": True}
        )
        wait_until(lambda: stack.queued("engine-tiny") == (0, 1), "it is worked on")
        several = {"model": "tiny", "prompt": ["c d " * 225] * 4, "max_tokens": 1000, "ignore_eos": True}
        wide = stack.ask("/v1/completions", several)
        assert wide.status == 200 and len(wide.json["choices"]) == 4, wide.text[:300]
        assert long.result().json["usage"]["completion_tokens"] == 1200


def test_a_prompt_that_is_too_long_is_told_in_the_code_that_clients_read(stack: Stack) -> None:
    answer = stack.complete("tiny", 1, prompt="a b " * 8000)
    assert (answer.status, answer.code) == (400, "context_length_exceeded")
    assert "exceeds the available context size" in answer.json["error"]["message"]


def test_a_mistake_of_a_client_that_the_engine_calls_its_own_is_the_client_s(stack: Stack) -> None:
    """The engine answers 500, and clients would ask three times."""
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    for messages in ([{"role": "user", "content": content}], [{"content": "x"}], [{"role": 5, "content": "x"}]):
        answer = stack.ask(CHAT, {"model": "tiny", "messages": messages})
        assert (answer.status, answer.code, answer.error["type"]) == (400, "invalid_request", "invalid_request_error")


def test_a_slash_that_is_escaped_in_the_name_is_a_slash(stack: Stack) -> None:
    body = '{"model":"Lab\\/slow:v1","prompt":"a","max_tokens":1}'
    assert "\\/" in body and stack.ask("/v1/completions", body).status == 200
