"""`bedplate ca fetch` gets the CA of a machine from elsewhere, and does not believe one with another fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from bedplate.flows import ca
from bedplate.host.root.root import Root
from tests.serving.closed_front import ClosedFront, MakeFront

pytestmark = pytest.mark.build

OWN_CA = """
[front]
addresses = ["0.0.0.0"]
port = {port}
[front.tls]
names = ["llm.example.org"]
"""


@pytest.fixture(scope="module")
def front(make_front: MakeFront) -> ClosedFront:
    machine = make_front(OWN_CA)
    machine.start()
    return machine


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that answers a TLS client with HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def fetch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bedplate.cli.main", "ca", "fetch", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"NO_COLOR": "1"}
    )


def fingerprint_of(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_the_fetched_ca_is_the_machine_s_and_clients_verify_with_it(front: ClosedFront) -> None:
    done = fetch(f"localhost:{front.port}", "--fingerprint", ca.show(Root(front.top)).fingerprint)
    assert (done.returncode, "Compare" in done.stderr, "do not accept" in done.stderr) == (0, False, False), done.stderr
    assert fingerprint_of(done.stdout) == fingerprint_of(front.ca.read_text())
    context = ssl.create_default_context(cadata=done.stdout)
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="llm.example.org") as connection,
    ):
        assert connection.version() == "TLSv1.3"


def test_without_a_fingerprint_it_asks_to_compare(front: ClosedFront) -> None:
    done = fetch(f"https://localhost:{front.port}/", "--json")
    row = json.loads(done.stdout)
    assert (done.returncode, row["confirmed"], row["not_verified_because"]) == (0, False, None)
    assert row["fingerprint_sha256"] == ca.show(Root(front.top)).fingerprint
    assert "Compare it with" in fetch(f"localhost:{front.port}").stderr


def test_another_fingerprint_prints_no_certificate(front: ClosedFront) -> None:
    done = fetch(f"127.0.0.1:{front.port}", "--fingerprint", "ab" * 32)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another fingerprint" in done.stderr and ca.show(Root(front.top)).fingerprint in done.stderr


def test_a_name_that_the_certificate_lacks_is_said(front: ClosedFront) -> None:
    """An address that its certificate does not name, as behind a forwarded port."""
    done = fetch(f"127.0.0.77:{front.port}")
    assert (done.returncode, "do not accept 127.0.0.77" in done.stderr) == (0, True), done.stderr
    assert fingerprint_of(done.stdout) == fingerprint_of(front.ca.read_text())


def test_what_has_no_ca_is_refused(silent: int) -> None:
    done = fetch(f"127.0.0.1:{silent}")
    assert (done.returncode, done.stdout) == (1, "") and "does not speak TLS" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = fetch(f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (4, "") and f"127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    "address", ["llm.example.org", "llm:0", "llm:65536", "llm:http", ":8080", "a b:80", "2001:db8::7:80", ""]
)
def test_what_is_no_address_is_a_usage_error(address: str) -> None:
    done = fetch("--", address)
    assert (done.returncode, done.stdout) == (2, "") and "expected HOST:PORT" in done.stderr
