"""Who gets the token, which certificates are trusted, and which addresses are asked at all."""

from __future__ import annotations

import http.server
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.act.download.address import check_address, origin_of, show_address
from bedplate.act.download.fetch import fetch_text, open_downloads
from bedplate.act.run import run
from bedplate.errors import DownloadError
from bedplate.model.download import Access, RemoteFile
from tests.pull.server import QUICK, Notes, Server, content, remote, status

TOKEN = "hf_" + "s3cret" * 5
BODY = content(200_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        made.put("/m.gguf", BODY)
        yield made


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as made:
        made.put("/m.gguf", BODY)
        yield made


def fetch(directory: Path, file: RemoteFile, access: Access) -> bytes:
    with open_downloads(directory, access, Notes(), patience=QUICK) as downloads:
        return Path(downloads.fetch(file).path).read_bytes()


def test_the_token_goes_to_its_host_and_to_no_other(server: Server, other: Server, tmp_path: Path) -> None:
    access = Access(token=TOKEN, token_origin=server.origin)
    server.faults = [status(302, Location=other.url("/m.gguf?signature=abc"))]
    assert fetch(tmp_path, remote(server, "/m.gguf"), access) == BODY
    assert server.asked[0][1]["authorization"] == f"Bearer {TOKEN}"
    assert [path for path, _ in other.asked] == ["/m.gguf?signature=abc"]
    assert all(TOKEN not in str(headers) for _, headers in other.asked)


def test_another_port_and_another_name_are_other_hosts(server: Server, tmp_path: Path) -> None:
    port = server.server_address[1]
    for origin in (f"http://127.0.0.1:{port + 1}", f"https://127.0.0.1:{port}", f"http://localhost:{port}"):
        server.asked.clear()
        fetch(
            tmp_path / origin_of(origin).replace("/", "-"),
            remote(server, "/m.gguf"),
            Access(token=TOKEN, token_origin=origin),
        )
        assert "authorization" not in server.asked[0][1]


def test_a_redirect_back_gets_it_again(server: Server, other: Server, tmp_path: Path) -> None:
    """Who comes back to the host of the token may have it; the host between never saw it."""
    server.faults = [status(307, Location=other.url("/x"))]
    other.faults = [status(307, Location=server.url("/m.gguf"))]
    fetch(tmp_path, remote(server, "/m.gguf"), Access(token=TOKEN, token_origin=server.origin))
    assert "authorization" not in other.asked[0][1] and "authorization" in server.asked[1][1]


def test_no_message_shows_the_token_or_a_signature(server: Server, tmp_path: Path) -> None:
    access = Access(token=TOKEN, token_origin=server.origin)
    server.always = status(403, X_Error_Message=f"bad token {TOKEN}")
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path, remote(server, "/m.gguf", url=server.url("/m.gguf?signature=abc")), access)
    assert str(caught.value) == f"{server.url('/m.gguf')}: status 403 (bad token [token])"
    assert TOKEN not in repr(access)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a.example/x", "expected https://HOST/PATH"),
        ("https:///x", "expected https://HOST/PATH"),
        ("https://a.example:0/x", "expected https://HOST/PATH"),
        ("https://a.example:99999/x", "is not an address"),
        ("https://[::1/x", "is not an address"),
        ("https://a.example/a b", "printable ASCII"),
        ("https://a.example/\r\nX: y", "printable ASCII"),
        ("https://a.example/\u00fc", "printable ASCII"),
        ("https://a.example/" + "x" * 9000, "at most 8192"),
        ("https://hf_s3cret@a.example/x", "a user or a password"),
        ("http://a.example/x", "plain http"),
        ("http://127.0.0.1.a.example/x", "plain http"),
    ],
)
def test_addresses_that_are_not_asked(url: str, message: str) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        check_address(url, plain_http=False)
    assert "s3cret" not in str(caught.value)


def test_addresses_that_are_asked() -> None:
    for url in ("https://a.example/x?y", "http://127.0.0.1:80/x", "http://[::1]/x", "http://localhost/x"):
        check_address(url, plain_http=False)
    check_address("http://a.example/x", plain_http=True)
    assert origin_of("https://A.example/x") == "https://a.example:443"
    assert show_address("https://a.example/x?token=1#y") == "https://a.example/x"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(CA, certificate and key of 127.0.0.1 and hub.example that it signed)"""
    home = tmp_path_factory.mktemp("ca")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run([*new, "-x509", "-subj", "/CN=own CA", "-days", "2", "-keyout", home / "ca.key", "-out", home / "ca.pem",
         "-addext", "keyUsage=critical,keyCertSign"], timeout_s=60)  # fmt: skip
    run([*new, "-subj", "/CN=hub", "-keyout", home / "hub.key", "-out", home / "hub.csr"], timeout_s=60)
    (home / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:hub.example\n")
    run(["openssl", "x509", "-req", "-in", home / "hub.csr", "-CA", home / "ca.pem", "-CAkey", home / "ca.key",
         "-days", "2", "-extfile", home / "names", "-out", home / "hub.pem"], timeout_s=60)  # fmt: skip
    both = home / "both.pem"
    both.write_text((home / "hub.pem").read_text() + (home / "hub.key").read_text())
    return home / "ca.pem", both


def test_a_certificate_of_an_own_ca(certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, both = certificate
    with Server(both) as server:
        server.put("/m.gguf", BODY)
        file = remote(server, "/m.gguf")
        with pytest.raises(DownloadError, match="certificate is not trusted") as caught:
            fetch(tmp_path, file, Access())
        assert caught.value.hint is not None and "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert fetch(tmp_path, file, Access(token=TOKEN, token_origin=server.origin)) == BODY
        assert server.asked[-1][1]["authorization"] == f"Bearer {TOKEN}"
        with pytest.raises(DownloadError, match=r"not trusted: Hostname mismatch|not trusted: .*match"):
            fetch(
                tmp_path / "x",
                remote(server, "/m.gguf", url=server.url("/m.gguf").replace("127.0.0.1", "localhost")),
                Access(),
            )


def test_https_never_becomes_http(
    certificate: tuple[Path, Path], server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, both = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with Server(both) as safe:
        safe.put("/m.gguf", BODY)
        safe.always = status(302, Location=server.url("/m.gguf"))
        with pytest.raises(DownloadError, match="redirects from https to http"):
            fetch(tmp_path, remote(safe, "/m.gguf"), Access())
    assert server.asked == []


class Tunnel(http.server.BaseHTTPRequestHandler):
    """A proxy: CONNECT to any host ends at the server of the test."""

    target = ("127.0.0.1", 0)
    asked: list[tuple[str, str]] = []  # noqa: RUF012 (one proxy a test)

    def do_CONNECT(self) -> None:
        self.asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(self.target) as there:
            pairs = {self.connection: there, there: self.connection}
            while True:
                for source in select.select(list(pairs), [], [], 30)[0]:
                    block = source.recv(65536)
                    if not block:
                        return
                    pairs[source].sendall(block)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_proxy_of_the_environment(certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, both = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tunnel)
    proxy.daemon_threads = False
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with Server(both) as server:
            server.put("/m.gguf", BODY)
            monkeypatch.setattr(Tunnel, "target", server.server_address)
            monkeypatch.setattr(Tunnel, "asked", [])
            monkeypatch.setenv("https_proxy", f"http://user:pass@127.0.0.1:{proxy.server_address[1]}")
            file = remote(server, "/m.gguf", url="https://hub.example/m.gguf")
            assert fetch(tmp_path, file, Access()) == BODY
            assert Tunnel.asked == [("hub.example:443", "Basic dXNlcjpwYXNz")]
            assert "proxy-authorization" not in server.asked[0][1]
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def test_a_list_is_bounded_in_size(server: Server) -> None:
    server.put("/list", b"[" + b"1," * 5000 + b"1]")
    assert fetch_text(server.url("/list"), Access(), limit_bytes=20_000, patience=QUICK)[0].startswith(b"[1,1")
    with pytest.raises(DownloadError, match="a list of more than 5000 bytes"):
        fetch_text(server.url("/list"), Access(), limit_bytes=5000, patience=QUICK)
    server.faults = [status(429, Retry_After="0"), status(500)]
    assert fetch_text(server.url("/list"), Access(), limit_bytes=20_000, patience=QUICK)[0].endswith(b"1]")
    server.always = status(500)
    with pytest.raises(DownloadError, match="given up after 4 attempts"):
        fetch_text(server.url("/list"), Access(), limit_bytes=20_000, patience=QUICK)
