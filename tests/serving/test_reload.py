"""What a reload of the front does to requests: none of a model that stays is lost, those of one that leaves are finished."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from bedplate.act.front_master import read_former_requests, reload_front
from bedplate.act.front_stats import read_tokens
from bedplate.errors import CommandError
from bedplate.model.instance import instance_of, token_variable_of
from tests.effort import wait_until
from tests.serving.conftest import Stack
from tests.serving.test_front import SLOW, SLOW_BACKEND, leave

pytestmark = pytest.mark.build

MakeStack = Callable[..., contextlib.AbstractContextManager[Stack]]
LONG = 8000  # tokens: half a minute on a quiet host; a test ends the stream when it has seen enough


def start(stack: Stack) -> None:
    stack.start_front_with_master()
    for name in ("tiny", SLOW):
        stack.start_engine(name)
    wait_until(lambda: stack.ask("/health", method="GET").status == 200, "/health is 200")


def reload(stack: Stack, *names: str, ready: tuple[str, ...] = (), exchanged: tuple[str, ...] = ()) -> None:
    stack.configure(names, ready=ready, exchanged=exchanged)
    reload_front(stack.master)


def open_stream(stack: Stack, model: str, tokens: int = LONG) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = stack.connect()
    body = {"model": model, "prompt": "a", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body))
    answer = connection.getresponse()
    assert answer.status == 200 and answer.read(1)
    return connection, answer


def test_a_stream_goes_on_across_reloads_and_its_model_stays_ready(make_stack: MakeStack) -> None:
    with make_stack("tiny", SLOW, in_tools=True) as stack:
        start(stack)
        connection, answer = open_stream(stack, SLOW)
        with contextlib.closing(connection):
            for number in range(3):  # a model comes and goes
                names = ("tiny", SLOW) if number % 2 else (SLOW,)
                reload(stack, *names, ready=(SLOW,))
                # At the first look, though the engine is busy and has made no token for this process.
                assert stack.ask(f"/health/{SLOW}", method="GET").status == 200
                assert stack.ask("/tokenize", {"model": SLOW, "content": "a"}).status == 200
                assert (read_former_requests(stack.master) or {})[SLOW_BACKEND] == 1
            for _ in range(5):
                assert b"ata: {" in answer.readline() + answer.readline()  # an empty line between two; one letter was read
            leave(connection)
        wait_until(lambda: read_former_requests(stack.master) == {}, "the former processes end with their last request")


def test_a_model_that_left_gets_404_while_what_it_had_begun_is_finished(make_stack: MakeStack) -> None:
    with make_stack("tiny", SLOW, in_tools=True, parallel=1) as stack, ThreadPoolExecutor() as pool:
        start(stack)
        connection, answer = open_stream(stack, SLOW)
        queued = pool.submit(stack.complete, SLOW, 1)
        wait_until(lambda: stack.queued(SLOW_BACKEND) == (1, 1), "one waits")
        reload(stack, "tiny", ready=("tiny",))
        refused = stack.complete(SLOW, 1)
        assert (refused.status, refused.code) == (404, "model_not_found")
        assert stack.ask("/health", method="GET").status == 200
        held = {name: count for name, count in (read_former_requests(stack.master) or {}).items() if count}
        assert held == {SLOW_BACKEND: 2}
        leave(connection)  # the first makes room for the second
        assert queued.result().status == 200
        wait_until(lambda: not (read_former_requests(stack.master) or {}).get(SLOW_BACKEND), "it is drained")
        answer.close()


def test_a_model_whose_engine_is_exchanged_gets_503_and_is_ready_after_a_token_of_the_new_one(make_stack: MakeStack) -> None:
    with make_stack("tiny", SLOW, in_tools=True) as stack:
        start(stack)
        reload(stack, "tiny", SLOW, ready=(SLOW,), exchanged=("tiny",))
        refused = stack.complete("tiny", 1)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "model_not_ready", "5")
        assert [row["id"] for row in stack.ask("/v1/models", method="GET").json["data"]] == ["tiny", SLOW]
        assert stack.ask(f"/health/{SLOW}", method="GET").status == 200
        stack.kill("tiny")
        reload(stack, "tiny", SLOW, ready=(SLOW,))
        assert stack.ask("/health/tiny", method="GET").status == 503
        variables = [token_variable_of(instance_of(name)) for name in ("tiny", SLOW)]
        assert read_tokens(stack.stats, variables) == {variables[1]}
        stack.start_engine("tiny")
        wait_until(lambda: stack.ask("/health/tiny", method="GET").status == 200, "the new engine made a token")
        assert read_tokens(stack.stats, variables) == set(variables)


def test_clients_that_keep_their_connection_lose_no_request_to_reloads(make_stack: MakeStack) -> None:
    """Without `option idle-close-on-response` the front closes kept connections while a client is sending on one."""
    over = threading.Event()

    def work() -> Counter[object]:
        seen: Counter[object] = Counter()
        connection = stack.connect()
        while not over.is_set():
            try:
                connection.request("POST", "/tokenize", json.dumps({"model": "tiny", "content": "a"}))
                answer = connection.getresponse()
                answer.read()
                seen[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[repr(error)] += 1
                connection.close()
        connection.close()
        return seen

    with make_stack("tiny", SLOW, in_tools=True, parallel=4) as stack, ThreadPoolExecutor() as pool:
        start(stack)
        before = stack.former_count()
        workers = [pool.submit(work) for _ in range(4)]
        try:
            for number in range(6):
                reload(stack, "tiny", *((SLOW,) if number % 2 else ()), ready=("tiny",))
                wait_until(lambda: stack.former_count() == before, "the former process ends")
        finally:
            over.set()
        seen = sum((worker.result() for worker in workers), Counter[object]())
    assert set(seen) == {200}, seen


def test_the_heartbeat_has_a_thread_though_former_processes_keep_the_engine_busy(make_stack: MakeStack) -> None:
    """Each process of the front sends as many requests as the engine has slots, and each takes a thread of it."""
    with make_stack("tiny", SLOW, in_tools=True, parallel=1, deadline_s=5) as stack, contextlib.ExitStack() as held:
        start(stack)
        for _ in range(5):
            connection = held.enter_context(contextlib.closing(stack.connect()))
            body = {"model": SLOW, "prompt": "a", "max_tokens": 8000, "ignore_eos": True}
            connection.request("POST", "/v1/completions", json.dumps(body))
            wait_until(lambda: stack.queued(SLOW_BACKEND) == (0, 1), "it is sent on")
            reload(stack, "tiny", SLOW, ready=("tiny", SLOW))
        former = read_former_requests(stack.master) or {}
        assert former[SLOW_BACKEND] == 5
        checks = {name: check for name, check in (stack.checks() or {}).items() if name == SLOW_BACKEND}
        wait_until(lambda: (stack.checks() or {})[SLOW_BACKEND].check == "L7OK", f"the heartbeat is answered: {checks}")


def test_a_configuration_that_the_front_refuses_changes_nothing(make_stack: MakeStack) -> None:
    with make_stack("tiny", SLOW, in_tools=True) as stack:
        start(stack)
        stack.break_configuration()
        with pytest.raises(CommandError, match=r"refuses its new configuration.*nonsense"):
            reload_front(stack.master)
        assert stack.ask("/health", method="GET").status == 200
        assert stack.complete("tiny", 1).status == 200
        assert (read_former_requests(stack.master), stack.former_count()) == ({}, 0)
