"""The client of engines against a real HTTP server, on loopback and on a Unix socket."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.engines.client import connect, fetch, parse_endpoint

pytestmark = pytest.mark.touches("connect", why="a server of the test on loopback")


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked; of /long more than anybody wants."""

    def do_GET(self) -> None:
        self._answer(b"x" * 4096 if self.path.endswith("/long") else f"GET {self.path}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(f"{self.headers['Content-Type']} {self.path} ".encode() + body)

    def _answer(self, body: bytes) -> None:
        self.send_response(404 if "none" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "somebody"

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=["http", "unix"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server: socketserver.BaseServer
    if request.param == "http":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        address = f"http://127.0.0.1:{server.server_address[1]}/prefix/v1"
    else:
        server = socketserver.ThreadingUnixStreamServer(str(tmp_path / "engine.sock"), Echo)
        address = f"unix:{tmp_path}/engine.sock"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def test_get_and_post_below_the_prefix(url: str) -> None:
    endpoint = parse_endpoint(url)
    reply = fetch(endpoint, "/health", timeout_s=30)
    assert (reply.status, reply.body) == (200, f"GET {endpoint.prefix}/health".encode())
    reply = fetch(endpoint, "/none", body=b"{}", timeout_s=30)
    assert (reply.status, reply.body) == (404, f"application/json {endpoint.prefix}/none {{}}".encode())


def test_no_more_is_read_than_is_wanted(url: str) -> None:
    assert len(fetch(parse_endpoint(url), "/long", timeout_s=30, limit_bytes=100).body) == 100


@pytest.mark.parametrize("kind", ["http", "unix"])
def test_nothing_there_is_an_error_of_the_system(kind: str, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        connect(parse_endpoint("http://127.0.0.1:1" if kind == "http" else f"unix:{tmp_path}/none"), timeout_s=30)
