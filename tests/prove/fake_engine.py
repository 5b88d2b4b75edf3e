"""A server that answers as an OpenAI-compatible engine does: streams, at a known pace, with a known number of tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.effort import PATIENCE_S


class FakeEngine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, *, first_s: float, gap_s: float, usage: bool, burst: bool, status: int, answers_after: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.first_s, self.gap_s, self.usage, self.burst, self.status = first_s, gap_s, usage, burst, status
        self.asked: list[dict[str, Any]] = []
        self.answers_after, self.enough, self.gave_up = answers_after, threading.Event(), False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of a stream is no error here."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        if len(self.server.asked) >= self.server.answers_after:
            self.server.enough.set()
        if not self.server.enough.wait(PATIENCE_S):
            self.server.gave_up = True
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(self.server.first_s)
        for number in range(asked["max_tokens"]):
            if number and not self.server.burst:
                time.sleep(self.server.gap_s)
            self._event({"choices": [{"delta": {"content": f"w{number} "}}]})
        if self.server.usage:
            self._event({"choices": [], "usage": {"completion_tokens": asked["max_tokens"]}})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, record: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(record).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def fake_engine(
    *,
    first_s: float = 0.01,
    gap_s: float = 0.005,
    usage: bool = True,
    burst: bool = False,
    status: int = 200,
    answers_after: int = 0,
) -> Iterator[FakeEngine]:
    """answers_after: how many requests must have come before the first is answered."""
    engine = FakeEngine(first_s=first_s, gap_s=gap_s, usage=usage, burst=burst, status=status, answers_after=answers_after)
    thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        engine.shutdown()
        engine.server_close()
