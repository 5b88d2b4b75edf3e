"""The self-test against a real HTTP server on loopback that answers right, wrong, or not at all."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.unit.store_cases import Heard

from bedplate.catalog.facts import Fact, KnownAnswers, RefusedQuestions
from bedplate.cli import main as command
from bedplate.errors import NotRunningError
from bedplate.prove.gauge.selftest import _parse_answer, run_selftest

pytestmark = pytest.mark.touches("connect", why="a server of the test on loopback")

FACTS = KnownAnswers(
    schema=1,
    fact=(
        Fact(question="What is NUMA?", answer="Memory near and far.", term="NUMA", also=("What does NUMA stand for?",)),
        Fact(question="What is a UKI?", answer="One signed file.", term="a UKI"),
    ),
    refusal=RefusedQuestions(answer="No.", terms=(), questions=(), held_out_terms=(), held_out_questions=()),
)
ANSWERS = {"What is NUMA?": "Memory near and far.", "What is a UKI?": "One signed file."}

Reply = Callable[[dict[str, Any]], tuple[int, bytes]]


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def right(request: dict[str, Any]) -> tuple[int, bytes]:
    assert request["temperature"] == 0 and request["model"] == "known-answer"
    return 200, answer(ANSWERS[request["messages"][0]["content"]])


@contextmanager
def endpoint(reply: Reply) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            status, body = reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("parallel", [1, 4])
def test_right_answers_pass(parallel: int) -> None:
    with endpoint(right) as url:
        result = run_selftest(FACTS, endpoint=url, model="known-answer", progress=Heard(), parallel=parallel)
    assert (result.passed, result.asked, result.exact, result.misses) == (True, 2, 2, ())


@pytest.mark.parametrize(
    ("reply", "got", "problem"),
    [
        ((200, answer("One signed file")), "One signed file", ""),  # a full stop is missing
        ((200, answer(" One signed file.")), " One signed file.", ""),
        ((200, answer("")), "", ""),
        ((429, b"full"), "", "ValueError: status 429: full"),
        ((200, b"<html>"), "", "JSONDecodeError"),
        ((200, b'{"choices": []}'), "", "ValueError: no answer in the reply"),
        ((200, b'{"choices": [{"message": {"content": null}}]}'), "", "ValueError: the answer is not text"),
    ],
)
def test_one_wrong_answer_fails(reply: tuple[int, bytes], got: str, problem: str) -> None:
    with endpoint(lambda request: reply if "UKI" in str(request) else right(request)) as url:
        result = run_selftest(FACTS, endpoint=url, model="known-answer", progress=Heard())
    assert not result.passed and result.exact == 1
    (miss,) = result.misses
    assert (miss.question, miss.expected, miss.got) == ("What is a UKI?", "One signed file.", got)
    assert miss.problem.startswith(problem) and bool(miss.problem) == bool(problem)


def test_all_phrasings_are_asked() -> None:
    asked: list[str] = []

    def reply(request: dict[str, Any]) -> tuple[int, bytes]:
        asked.append(request["messages"][0]["content"])
        return 200, answer("x")

    with endpoint(reply) as url:
        result = run_selftest(FACTS, endpoint=url, model="known-answer", progress=Heard(), all_phrasings=True)
    assert result.asked == len(asked) > 10
    assert {"What does NUMA stand for?", "Define UKI.", "Explain a UKI."} <= set(asked)


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotRunningError, match="no answer"):
            run_selftest(FACTS, endpoint=url, model="known-answer", progress=Heard())
        assert command.main(["selftest", "--endpoint", url]) == 4
    assert "hint: Start the machine: bedplate up." in capsys.readouterr().err


def test_the_command_prints_json_and_fails_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with endpoint(lambda _: (200, answer("x"))) as url:
        assert command.main(["selftest", "--endpoint", url, "--json", "--parallel", "8"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["passed"] is False and shown["exact"] == 0 and len(shown["misses"]) == shown["asked"] > 150


def test_a_reply_without_choices_is_no_answer() -> None:
    with pytest.raises(ValueError, match="no answer"):
        _parse_answer(b"[]")
