"""The access log of the real HAProxy: each line is JSON, and nothing in it was chosen by a client."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime

import pytest

from bedplate.front.access_log import ACCESS_FIELDS
from tests.effort import wait_until
from tests.serving.closed_front import COMPLETIONS, SERVED, ClosedFront, MakeFront

pytestmark = pytest.mark.build

PLAIN = """
[front]
addresses = ["127.0.0.1"]
port = {port}
"""
CANARY = "canary-7f3a"
FORGED = '"}\n{"time":"x","id":"forged","key":"' + CANARY
HOSTILE = [FORGED, CANARY + "\x00", CANARY + '"', CANARY + "\\", CANARY + "\r\nX: y", CANARY + "%[src]", CANARY + "\u2028é"]


@pytest.fixture(scope="module")
def front(make_front: MakeFront) -> ClosedFront:
    machine = make_front(PLAIN)
    machine.start()
    machine.start_engine()
    return machine


def line_of(front: ClosedFront, id: str) -> dict[str, object]:
    """The line of the request whose answer had this id; it is written when the answer has ended."""
    wait_until(lambda: any(line["id"] == id for line in front.access_lines()), "the request is logged")
    (line,) = [line for line in front.access_lines() if line["id"] == id]
    return line


def test_a_request_is_one_line_that_names_key_model_and_path(front: ClosedFront) -> None:
    secret = front.add_key("reader")
    answer = front.ask(COMPLETIONS, front.complete(), key=secret)
    line = line_of(front, answer.headers["x-request-id"])
    told = {name: line[name] for name in ("key", "model", "path", "status", "address", "listener", "tls")}
    assert told == {
        "key": "reader",
        "model": SERVED,
        "path": COMPLETIONS,
        "status": 200,
        "address": "127.0.0.1",
        "listener": "api",
        "tls": "",
    }
    assert abs((datetime.fromisoformat(str(line["time"])) - datetime.now(UTC)).total_seconds()) < 3600
    for name in ("bytes_in", "bytes_out", "queue_ms", "engine_ms", "total_ms"):
        number = line[name]
        assert isinstance(number, int) and number >= 0, name
    assert list(line) == [name for name, _, _ in ACCESS_FIELDS] + ["queue_ms", "engine_ms", "total_ms", "end"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_model_is_not_logged(front: ClosedFront, text: str) -> None:
    answer = front.ask(COMPLETIONS, front.complete(text), key=front.add_key())
    line = line_of(front, answer.headers["x-request-id"])
    assert line["status"] in (400, 404) and line["model"] == ""


def send(front: ClosedFront, request: bytes) -> None:
    """A request byte by byte as given; whatever is answered is read."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


def test_no_byte_of_a_client_reaches_the_log_from_any_place(front: ClosedFront) -> None:
    """Method, path, query, version, names and values of headers, key, body: each with what breaks lines and JSON."""
    before = len(front.access_lines())
    places = [
        b"%s / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models?%s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models/%s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1%s\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n",
        b"GET http://%s/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n%s: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx-api-key: %s\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: %s\r\nCookie: a=%s\r\nUser-Agent: %s\r\nX-Forwarded-For: %s\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n%s",
        b"%s",
    ]
    hostile = [text.encode() for text in HOSTILE] + [b"%s\xff\xfe\x80" % CANARY.encode(), b"%s\x01\x7f\t" % CANARY.encode()]
    for place in places:
        for text in hostile:
            send(front, place.replace(b"%s", text))
    wait_until(lambda: len(front.access_lines()) > before + len(places), "the requests are logged")
    log = front.log()
    assert CANARY not in log and "forged" not in log
    # HAProxy's own lines have no brace; whatever has one is a line of the access log, with its fields and no others.
    fields = [name for name, _, _ in ACCESS_FIELDS]
    for line in log.splitlines():
        if "{" in line:
            assert list(json.loads(line))[: len(fields)] == fields
            assert line.isascii() and line.isprintable()


def test_the_log_can_be_turned_off(make_front: MakeFront) -> None:
    machine = make_front(PLAIN + "access_log = false\n")
    machine.start()
    for _ in range(3):
        assert machine.ask("/v1/models").status == 401
    assert machine.access_lines() == []
