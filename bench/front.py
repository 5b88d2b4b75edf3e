"""python -m bench.front: what the front adds to a request, with TLS and keys, against the engine's own socket.

The same request goes over a kept connection to the engine's Unix socket, and over one to HAProxy with TLS 1.3 and a key, in
turns of some requests each. The request asks for the tokens of one word, so that hardly anything but the way is measured; a
second one generates a token. A round gives percentiles of each way and their differences; the table has the median of the
rounds with the least and the most. New connections are measured by themselves: a whole handshake, and one that resumes a
session. The configuration is what `bedplate serve prepare` writes. Client, HAProxy and engine share the CPUs.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from tests.serving.closed_front import SERVED, ClosedFront, UnixConnection
from tests.serving.conftest import in_tree

from bedplate.act.paths import find_paths
from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.root.root import Root
from bedplate.model.instance import socket_of

_CONFIGURATION = """
[front]
addresses = ["0.0.0.0"]
port = {port}
[front.tls]
names = ["llm.example.org"]
[front.limits]
refusals_per_minute = 100000
"""
Request = tuple[str, dict[str, object]]
"""Path and body."""
_IN_TURN = 50
"""Requests of one way before the other's turn."""
_HANDSHAKES = 40
"""New connections of each kind in a round."""
_TOKENIZE: Request = ("/tokenize", {"model": SERVED, "content": "a"})
_ONE_TOKEN: Request = ("/v1/completions", {"model": SERVED, "prompt": "a", "max_tokens": 1})
_DIRECT, _FRONT = "engine's socket", "front, TLS and key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Percentiles of one way in one round, in milliseconds."""

    round: int
    what: str
    way: str
    count: int
    p50_ms: float
    p99_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.front", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds (%(default)s)")
    parser.add_argument("--requests", type=int, default=1000, metavar="N", help="of each way in a round (%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the engine (default: as it is planned here)")
    parser.add_argument("--json", action="store_true", help="print every sample")
    arguments = parser.parse_args()
    samples: list[Sample] = []
    with _running(arguments.threads) as front:
        key = front.add_key(requests_per_minute=0, concurrency=0)
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
            samples += _measure_kept(front, key, "tokens of a word", _TOKENIZE, number, arguments.requests)
            samples += _measure_kept(front, key, "a completion of one token", _ONE_TOKEN, number, arguments.requests // 2)
            samples += _measure_handshakes(front, key, number)
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
        return 0
    print("\n".join(render_front(samples)))
    cpu_name = read_cpuinfo(Root()).model_name.value
    print(f"\n`{' '.join(['python -m bench.front', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d', time.gmtime())};")
    print(f"{cpu_name}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.")
    return 0


def render_front(samples: list[Sample]) -> list[str]:
    """The table: a row for each thing that was measured, the differences paired by round."""
    rows = [
        "| | ms | engine's socket | front, TLS and key | added |",
        "|---|---|---|---|---|",
    ]
    for what in dict.fromkeys(sample.what for sample in samples):
        ways = {way: [sample for sample in samples if (sample.what, sample.way) == (what, way)] for way in (_DIRECT, _FRONT)}
        for name in ("p50", "p99"):
            direct, front = ([getattr(sample, f"{name}_ms") for sample in ways[way]] for way in (_DIRECT, _FRONT))
            added = [over - under for under, over in zip(direct, front, strict=True)]
            rows.append(f"| {what} | {name} | {_spread(direct)} | {_spread(front)} | **{_spread(added)}** |")
    return rows


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@contextlib.contextmanager
def _running(threads: int | None) -> Iterator[ClosedFront]:
    """HAProxy with TLS of its own CA and keys, and an engine, both from the trees of the last build."""
    paths = find_paths()
    with tempfile.TemporaryDirectory(prefix="bp") as top, tempfile.TemporaryDirectory() as programs:
        openssl = Path(programs) / "openssl"
        openssl.write_text(f'#!/bin/sh\nexec {" ".join(in_tree(paths.tools, "usr/bin/openssl"))} "$@"\n')
        openssl.chmod(0o755)
        os.environ["BEDPLATE_PATH_PREFIX"] = programs
        front = ClosedFront(Path(top), paths.tools, paths.cache / "engine-tree/llamacpp")
        front.configure(_CONFIGURATION)
        try:
            front.start()
            if threads is not None:
                planned = front.top / f"run/bedplate/engine/{SERVED}.env"
                planned.write_text(re.sub(r"(--threads(-batch)?) \d+", rf"\1 {threads}", planned.read_text()))
            front.start_engine()
            yield front
        finally:
            front.stop()


def _measure_kept(front: ClosedFront, key: str, what: str, request: Request, number: int, count: int) -> Iterator[Sample]:
    connections: dict[str, http.client.HTTPConnection] = {
        _DIRECT: UnixConnection(f"{front.top}{socket_of(SERVED)}"),
        _FRONT: front.connect(tls=front.trusting()),
    }
    times: dict[str, list[float]] = {way: [] for way in connections}
    for way, connection in connections.items():
        _ask(connection, key, request)  # connects
        assert connection.sock is not None, way
    for turn in range(max(1, count // _IN_TURN)):
        for way in connections if turn % 2 == 0 else reversed(connections):
            times[way] += [_time(partial(_ask, connections[way], key, request)) for _ in range(_IN_TURN)]
    for way, connection in connections.items():
        connection.close()
        yield _sample(number, what, way, times[way])


def _measure_handshakes(front: ClosedFront, key: str, number: int) -> Iterator[Sample]:
    context = front.trusting()
    # One that resumes needs a session, which TLS 1.3 gives with the first answer.
    first = front.connect(tls=context)
    _ask(first, key, _TOKENIZE)
    assert isinstance(first.sock, ssl.SSLSocket)
    session = first.sock.session
    first.close()
    times: dict[tuple[str, str], list[float]] = {}
    for what, kept in (("a new connection, whole handshake", None), ("a new connection, session resumed", session)):
        for _ in range(_HANDSHAKES):
            direct = _time(partial(_once, UnixConnection(f"{front.top}{socket_of(SERVED)}"), key))
            times.setdefault((what, _DIRECT), []).append(direct)
            over = _time(partial(_once, front.connect(tls=context), key, kept))
            times.setdefault((what, _FRONT), []).append(over)
    for (what, way), values in times.items():
        yield _sample(number, what, way, values)


def _once(connection: http.client.HTTPConnection, key: str, session: ssl.SSLSession | None = None) -> None:
    if session is not None:
        assert isinstance(connection, http.client.HTTPSConnection)
        _resume(connection, session)
    _ask(connection, key, _TOKENIZE)
    connection.close()


def _resume(connection: http.client.HTTPSConnection, session: ssl.SSLSession) -> None:
    """Connect as the connection would, with a session of before."""
    http.client.HTTPConnection.connect(connection)
    context: ssl.SSLContext = connection._context  # type: ignore[attr-defined]
    connection.sock = context.wrap_socket(connection.sock, server_hostname=connection.host, session=session)
    assert connection.sock.session_reused, "the front resumes sessions"


def _ask(connection: http.client.HTTPConnection, key: str, request: Request) -> None:
    path, body = request
    connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (answer.status, text)


def _time(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def _sample(number: int, what: str, way: str, times: list[float]) -> Sample:
    cuts = quantiles(times, n=100, method="inclusive")
    return Sample(round=number, what=what, way=way, count=len(times), p50_ms=cuts[49], p99_ms=cuts[98])


if __name__ == "__main__":
    sys.exit(main())
