"""Hostile HTTP at a front end with keys and an access log: `python -m tests.fuzz.hostile_http --minutes 10`.

Requests are mutated from good ones: bytes, lengths, encodings, duplicate and escaped members, lines that forge the log,
bodies that end early, several requests in one. What must hold, whatever is sent:

- the same HAProxy process goes on, and a good request is answered after it;
- an answer is HTTP, and a completion is for a request with a good key whose body names the served model, once;
- each line of the access log is JSON with its fields and no others, in printable ASCII; no byte of a client stands in it.

2026-11-30, ten minutes on a busy host: 1,748,740 requests; 401 was the answer to 640,820, 400 to 457,711, 405 to 201,154,
404 to 151,634, 503 to 29,829, 413 to 25,786, 200 to 21,728; 220,032 that were cut were closed; no fault.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.act.paths import find_paths
from bedplate.front.access_log import ACCESS_FIELDS
from tests.serving.closed_front import COMPLETIONS, OTHER, SERVED, ClosedFront

CANARY = b"canary-7f3a"
CONFIGURATION = """
[front]
addresses = ["127.0.0.1"]
port = {port}
[front.limits]
refusals_per_minute = 1000000
"""
_ANSWERING = (b"/v1/completions", b"/v1/chat/completions")
_PATHS = (*_ANSWERING, b"/v1/embeddings", b"/v1/models", b"/health", b"/tokenize", b"/metrics")
_MEMBER = ("model", "model", "mod\\u0065l", "Model")
_FORGED = b'"}\n{"time":"x","id":"forged","key":"' + CANARY
_SPLICES = (
    *(b"\r\n", b"\n", b"\x00", b"\xff\xfe", b"\\u0000", b'"', b"\\", b"%00", b"%2F", b"{", b"}", b"[" * 64, b"\t", b" "),
    *(
        CANARY,
        _FORGED,
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(b"X: " + CANARY * 700 + b"\r\n", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", f',"model":"{OTHER}"'.encode()),
)
_READ_S = 5.0


@dataclass(slots=True)
class Told:
    """What a run came to."""

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def attack(front: ClosedFront, key: str, *, seed: int, count: int | None = None, seconds: float | None = None) -> Told:
    """Send that many requests, or for that long; the faults are sentences. The same seed sends the same requests."""
    chance, told = random.Random(seed), Told()
    worker, until = front.pid_of_worker(), None if seconds is None else time.monotonic() + seconds
    while (count is None or told.sent < count) and (until is None or time.monotonic() < until):
        body = _body(chance)
        request = _mutate(_request(chance, key, body), chance)
        answer = _send(front.port, request, chance)
        told.sent += 1
        _judge(request, answer, key, told)
        if told.sent % 500 == 0 and front.pid_of_worker() != worker:
            told.faults.append(f"another worker answers after {told.sent} requests")
            worker = front.pid_of_worker()
    if front.pid_of_worker() != worker:
        told.faults.append("another worker answers")
    if front.ask(COMPLETIONS, front.complete(), key=key).status != 200:
        told.faults.append("a good request is not answered any more")
    told.faults += check_log(front)
    return told


def check_log(front: ClosedFront) -> list[str]:
    """What is wrong in the access log."""
    fields, faults = [name for name, _, _ in ACCESS_FIELDS], []
    text = front.log()
    if CANARY.decode() in text or "forged" in text:
        faults.append("bytes of a client stand in the log")
    for line in text.splitlines():
        if "{" not in line:
            continue
        try:
            if list(json.loads(line))[: len(fields)] != fields or not (line.isascii() and line.isprintable()):
                faults.append(f"a line of the log has other fields or bytes: {line!r}")
        except ValueError:
            faults.append(f"a line of the log is no JSON: {line!r}")
    return faults


def _body(chance: random.Random) -> bytes:
    names = (SERVED, SERVED, SERVED, OTHER, f"{SERVED}\n", f"{SERVED}\\u0000", f"{OTHER}/../{SERVED}", CANARY.decode())
    models = [f'"{chance.choice(_MEMBER)}":"{chance.choice(names)}"']
    if chance.random() < 0.2:
        models.append(f'"model":"{chance.choice(names)}"')
    members = [*models, '"prompt":"a"', '"max_tokens":1', '"messages":[{"role":"user","content":"a"}]', '"input":"a"']
    if chance.random() < 0.2:
        members.append(f'"x":{"[" * chance.randrange(400)}')
    chance.shuffle(members)
    return ("{" + ",".join(members) + "}").encode()


def _request(chance: random.Random, key: str, body: bytes) -> bytes:
    path = chance.choice((*_ANSWERING, *_PATHS))
    method = chance.choice((b"POST", b"POST", b"POST", b"GET", b"HEAD", b"OPTIONS", b"PUT", CANARY))
    head = [b"%s %s HTTP/1.%d" % (method, path, chance.random() < 0.9), b"Host: a"]
    shown = chance.choice((key, key, key, "", key[:-1], CANARY.decode()))
    head.append(chance.choice((b"Authorization: Bearer %s", b"x-api-key: %s")) % shown.encode())
    if chance.random() < 0.2:
        head.append(b"Transfer-Encoding: chunked")
        middle = chance.randrange(len(body))
        parts = (body[:middle] or b"{", body[middle:])
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        head.append(b"Content-Length: %d" % (len(body) if chance.random() < 0.9 else chance.randrange(2 * len(body))))
    head.append(b"Content-Type: application/json")
    if chance.random() < 0.9:
        head.append(b"Connection: close")
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def _mutate(request: bytes, chance: random.Random) -> bytes:
    data = bytearray(request)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        where = chance.randrange(len(data) + 1)
        what = chance.random()
        if what < 0.4:
            data[where:where] = chance.choice(_SPLICES)
        elif what < 0.7 and where < len(data):
            data[where] = chance.randrange(256)
        elif what < 0.85:
            del data[where : where + chance.randrange(1, 20)]
        else:
            data += data[where:]
    return bytes(data)


def _send(port: int, request: bytes, chance: random.Random) -> bytes:
    """What is answered; the client closes its half, so that nothing waits for more of it."""
    answer = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=_READ_S) as client:
        middle = chance.randrange(len(request) + 1)
        client.sendall(request[:middle])
        client.sendall(request[middle:])
        client.shutdown(socket.SHUT_WR)
        while chunk := client.recv(65536):
            answer += chunk
    return answer


def _judge(request: bytes, answer: bytes, key: str, told: Told) -> None:
    if not answer:
        told.statuses["closed"] += 1
        return
    line = answer.split(b"\r\n", 1)[0]
    status = line[9:12].decode("latin-1")
    told.statuses[status] += 1
    if not line.startswith(b"HTTP/1.") or not status.isdigit():
        told.faults.append(f"an answer is not HTTP: {line!r} to {request!r}")
    if status == "200" and b'"choices"' in answer:
        if key.encode() not in request:
            told.faults.append(f"a completion without a key: {request!r}")
        # The engine of the other model does not run, so that its name in the answer would be a lie of the route.
        if f'"model":"{SERVED}"'.encode() not in answer:
            told.faults.append(f"a completion of another model: {answer!r} to {request!r}")
        _, _, body = request.partition(b"\r\n\r\n")
        if b"\r\n" not in body and len(_models(body)) != 1:
            told.faults.append(f"a completion for a body that names {_models(body)}: {request!r}")


def _models(body: bytes) -> list[object]:
    """Values of the member "model" of a body that is JSON, each time that it stands there; [""] for one that is not."""
    found: list[object] = []

    def keep(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found.extend(value for name, value in pairs if name == "model")
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return [""]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.hostile_http", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another seed sends other requests (%(default)s)")
    arguments = parser.parse_args()
    paths = find_paths()
    with tempfile.TemporaryDirectory(prefix="bp") as top:
        front = ClosedFront(Path(top), paths.tools, paths.cache / "engine-tree/llamacpp")
        front.configure(CONFIGURATION)
        try:
            front.start()
            front.start_engine()
            key = front.add_key(requests_per_minute=0, concurrency=0)
            told = attack(front, key, seed=arguments.seed, seconds=60 * arguments.minutes)
        finally:
            front.stop()
    print(f"{told.sent} requests; " + ", ".join(f"{count} x {status}" for status, count in told.statuses.most_common()))
    for fault in told.faults[:20]:
        print(fault)
    print(f"{len(told.faults)} faults")
    return 1 if told.faults else 0


if __name__ == "__main__":
    sys.exit(main())
