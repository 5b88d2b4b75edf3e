"""Mirrors that do not work, on loopback: each ends a build soon, with its name and the reason."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedplate.errors import BuildError
from bedplate.image.mirror import check_mirror, find_reason

pytestmark = pytest.mark.skipif(not Path("/usr/lib/apt/apt-helper").is_file(), reason="this host has no apt")
_END = threading.Event()


def hang(connection: socket.socket) -> None:
    _END.wait()


def drip(connection: socket.socket) -> None:
    """A byte often enough for apt's own timeout."""
    for number in b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + bytes(9000):
        connection.send(bytes([number]))
        if _END.wait(0.2):
            return


def answer(status: str, body: bytes) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)

    return send


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    _END.clear()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                if behave is not hang:
                    connection.recv(65536)
                behave(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/debian"
        _END.set()
        listening.shutdown(socket.SHUT_RDWR)


class Told:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def detail(self, text: str) -> None:
        raise AssertionError(f"a pipe may not show it: {text}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (hang, "Connection failed|timed out|no complete answer"),
        (drip, "no complete answer in 3 s"),
        (answer("404 Not Found", b""), "404 Not Found"),
        (answer("503 Busy", b""), "503 Busy"),
        (answer("200 OK", b"<!doctype html><title>Log in</title>"), "begins with b'<!doctype html>"),
        (answer("200 OK", b""), "begins with b''|cannot be used"),
    ],
    ids=["hangs", "drips", "404", "503", "login page", "nothing"],
)
def test_a_mirror_that_does_not_work(behave: Callable[[socket.socket], None], reason: str) -> None:
    told = Told()
    with server(behave) as mirror, pytest.raises(BuildError, match=reason) as caught:
        check_mirror(mirror, "trixie", told, timeout_s=1)
    assert mirror in caught.value.message and "BEDPLATE_MIRROR" in (caught.value.hint or "")
    assert told.notes == [f"check the mirror {mirror}"]


def test_a_mirror_that_works_and_one_that_is_no_http() -> None:
    with server(answer("200 OK", b"-----BEGIN PGP SIGNED MESSAGE-----\nOrigin: Debian\n")) as mirror:
        check_mirror(mirror, "trixie", Told(), timeout_s=30)
    check_mirror("copy:/nowhere", "trixie", Told(), timeout_s=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="the phase is for root only")
@pytest.mark.parametrize("behave", [None, hang], ids=["closed", "hangs"])
def test_a_build_says_which_mirror_and_why(tmp_path: Path, behave: Callable[[socket.socket], None] | None) -> None:
    environment = os.environ | {
        "BEDPLATE_CACHE_DIR": str(tmp_path / "cache"),
        "BEDPLATE_STATE_DIR": str(tmp_path / "state"),
        "BEDPLATE_MIRROR_TIMEOUT_S": "1",
    }
    with contextlib.nullcontext("http://127.0.0.1:9/debian") if behave is None else server(behave) as mirror:
        argv = [sys.executable, "-m", "bedplate.cli.main", "image", "build", "--mirror", mirror]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert f"error: the mirror {mirror} cannot be used: " in done.stderr
    assert f"check the mirror {mirror}" in done.stderr
    if behave is None:
        assert "Connection refused" in done.stderr


def test_reasons_are_found_in_what_apt_prints() -> None:
    fetch = "E: Failed to fetch http://m/dists/t/InRelease  404  Not Found [IP: ::1 80]\nE: Some index files failed"
    assert find_reason(f"Get:1 x\n{fetch}") == "404 Not Found [IP: ::1 80]"
    assert find_reason("Err:1 http://m t InRelease\n  No route to m:80\nReading lists") == "No route to m:80"
    assert find_reason("E: Unable to locate package x") == ""
