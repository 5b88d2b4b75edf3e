"""A server of files on loopback, right by default (ranges, ETag, If-Range), with the failures of real ones put before it."""

from __future__ import annotations

import hashlib
import http.server
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from bedplate.model.download import Digest, DigestKind, Patience, RemoteFile

QUICK = Patience(silence_s=2.0, attempts=4, first_wait_s=0.01, longest_wait_s=0.05)
"""For tests: waits in hundredths of a second."""


def content(size: int, seed: str = "a") -> bytes:
    """Bytes that differ from place to place, the same each time."""
    block = b"".join(hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(1031))
    return (block * (size // len(block) + 1))[:size]


@dataclass(kw_only=True)
class Served:
    """One file as the server has it."""

    body: bytes
    etag: str = '"v1"'
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""
    """Answer with a redirect to this address, and these headers."""


Fault = Callable[["Handler"], bool]
"""Gets a request before it is served; True where it has answered."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        files = self.server.files
        self.server.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
        with self.server.turn:
            fault = self.server.faults.pop(0) if self.server.faults else self.server.always
        if fault is not None and fault(self):
            return
        served = files.get(self.path.partition("?")[0])
        if served is None:
            self.reply(404, b"no such file")
            return
        if served.redirect:
            self.reply(302, b"", served.headers | {"Location": served.redirect})
            return
        self.serve(served)

    def range_of(self, served: Served) -> tuple[int, int] | None:
        """What of the body is asked for and may be given: [start, end); None for all of it."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if match is None or not served.ranges or (condition is not None and condition != served.etag):
            return None
        return int(match[1]), min(len(served.body), int(match[2]) + 1 if match[2] else len(served.body))

    def serve(
        self, served: Served, extra: dict[str, str] | None = None, *, send: Callable[[bytes], None] | None = None
    ) -> None:
        """Answer rightly, with other headers; send: what to do with the body instead of writing all of it."""
        wanted = self.range_of(served)
        size = len(served.body)
        headers = {**served.headers, **({"ETag": served.etag} if served.etag else {})}
        if wanted is not None and wanted[0] >= size:
            self.reply(416, b"", headers | {"Content-Range": f"bytes */{size}"})
            return
        start, end = wanted or (0, size)
        if wanted is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers |= extra or {}
        self.reply(206 if wanted else 200, served.body[start:end], headers, send=send)

    def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        send: Callable[[bytes], None] | None = None,
    ) -> None:
        """Status, headers and body; Content-Length unless the headers have one of their own."""
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        (send or self.wfile.write)(body)

    def cut(self) -> None:
        """End the connection here."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def address_string(self) -> str:
        return "somebody"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """The files and the faults; `with Server() as server: server.url("/x")`."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.files: dict[str, Served] = {}
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.turn = threading.Lock()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def url(self, path: str) -> str:
        return self.origin + path

    def put(self, path: str, body: bytes, **rest: object) -> Served:
        self.files[path] = Served(body=body, **rest)  # type: ignore[arg-type]
        return self.files[path]

    def ranges(self) -> list[str]:
        """The Range headers of all requests, in their order."""
        return [headers.get("range", "") for _, headers in self.asked]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away, and a fault that cuts, are what the tests are about."""

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def cut_after(size: int) -> Fault:
    """So many bytes of the body, of a range, too; then the connection ends."""

    def fault(handler: Handler) -> bool:
        served = handler.server.files[handler.path.partition("?")[0]]

        def send(body: bytes) -> None:
            handler.wfile.write(body[:size])
            handler.cut()

        handler.serve(served, send=send)
        return True

    return fault


def status(code: int, **headers: str) -> Fault:
    """An answer of this status, and its headers (Retry_After="1")."""

    def fault(handler: Handler) -> bool:
        handler.reply(code, b"later", {key.replace("_", "-"): value for key, value in headers.items()})
        return True

    return fault


def hang(handler: Handler) -> bool:
    """Headers and half of the body; then nothing until the server ends."""
    served = handler.server.files[handler.path.partition("?")[0]]

    def send(body: bytes) -> None:
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        handler.server.ended.wait(60)

    handler.serve(served, send=send)
    handler.close_connection = True
    return True


def remote(server: Server, path: str, *, digest: bool = True, size: bool = True, url: str | None = None) -> RemoteFile:
    """The file as a list of files names it."""
    body = server.files[path].body
    return RemoteFile(
        url=url or server.url(path),
        name=path.rpartition("/")[2],
        size_bytes=len(body) if size else None,
        digest=Digest(kind=DigestKind.SHA256, value=hashlib.sha256(body).hexdigest()) if digest else None,
    )


class Notes:
    """A Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.details: list[str] = []

    def phase(self, name: str) -> Notes:
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def detail(self, text: str) -> None:
        self.details.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)
