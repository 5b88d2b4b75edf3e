"""TLS at the real HAProxy: its versions, the machine's own CA, supplied files, clients with certificates, and renewal."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bedplate.act.certificates import LEAF_DAYS, CertificateAuthority, issue_certificate, make_authority
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.catalog.client_keys import render_client_keys
from bedplate.engines.client import list_models
from bedplate.errors import BedplateError, CommandError, NotRunningError
from bedplate.flows import ca
from bedplate.flows.front import apply_front
from bedplate.flows.key import open_key_store, revoke_key
from bedplate.host.root.root import Root
from bedplate.model.client_key import ClientKey, ClientKeyFile
from tests.effort import wait_until
from tests.serving.closed_front import COMPLETIONS, SERVED, ClosedFront, MakeFront, Notes
from tests.serving.conftest import in_tree

pytestmark = pytest.mark.build

OWN_CA = """
[front]
addresses = ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
port = {port}
[front.tls]
names = ["llm.example.org", "192.0.2.7"]
client_ca = "/var/lib/bedplate/front/clients.pem"
client_port = {client_port}
"""
NOW = int(time.time())


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory, make_front: MakeFront) -> CertificateAuthority:
    """A CA of an organisation's clients; after make_front, whose openssl it uses."""
    return make_authority(tmp_path_factory.mktemp("clients"), name="clients", now_s=NOW)


@pytest.fixture(scope="module")
def front(make_front: MakeFront, clients: CertificateAuthority) -> ClosedFront:
    machine = make_front(OWN_CA)
    place = machine.top / "var/lib/bedplate/front/clients.pem"
    place.parent.mkdir(parents=True)
    place.write_text(clients.certificate.read_text())
    machine.start()
    return machine


def client_certificate(name: str, authority: CertificateAuthority, directory: Path) -> tuple[Path, Path]:
    """(certificate, key) of a client."""
    key, certificate, config = (directory / f"{name}.{end}" for end in ("key", "pem", "cnf"))
    config.write_text(
        f"[req]\ndistinguished_name=s\nprompt=no\nx509_extensions=e\n[s]\nCN={name}\n[e]\nextendedKeyUsage=clientAuth\n"
    )
    argv = [
        "openssl",
        "req",
        "-x509",
        "-new",
        "-config",
        str(config),
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    argv += ["-nodes", "-CA", str(authority.certificate), "-CAkey", str(authority.key), "-days", "2"]
    run([*argv, "-keyout", str(key), "-out", str(certificate)], timeout_s=60)
    return certificate, key


def peer(front: ClosedFront, context: ssl.SSLContext, name: str = "127.0.0.1") -> tuple[str | None, Mapping[str, object]]:
    """(TLS version, certificate) as a client sees them that asks for this name."""
    raw = socket.create_connection(("127.0.0.1", front.port), timeout=60)
    with context.wrap_socket(raw, server_hostname=name) as connection:
        return connection.version(), connection.getpeercert() or {}


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "localhost", "box", "llm.example.org", "192.0.2.7"])
def test_a_client_that_trusts_the_ca_accepts_each_name(front: ClosedFront, name: str) -> None:
    version, certificate = peer(front, front.trusting(), name)
    assert version == "TLSv1.3"
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    assert 0 < ends - time.time() <= LEAF_DAYS * 86_400


def test_another_name_and_a_stranger_are_not_accepted(front: ClosedFront) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        peer(front, front.trusting(), "other.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        peer(front, ssl.create_default_context())


def test_older_tls_and_plain_http_get_nothing(front: ClosedFront) -> None:
    old = front.trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        peer(front, old)
    with pytest.raises(OSError, match=r"reset|closed|empty|Remote end"):
        front.ask("/health")


def test_the_hybrid_key_exchange_is_used_and_http_2_is_not_offered(front: ClosedFront, built: Paths) -> None:
    argv = [
        *in_tree(built.tools, "usr/bin/openssl"),
        "s_client",
        "-connect",
        f"127.0.0.1:{front.port}",
        "-alpn",
        "h2,http/1.1",
    ]
    done = subprocess.run(
        [*argv, "-CAfile", str(front.ca)], input="", capture_output=True, text=True, timeout=60, check=False
    )
    assert "X25519MLKEM768" in done.stdout
    assert "ALPN protocol: http/1.1" in done.stdout
    assert "Verify return code: 0 (ok)" in done.stdout


def test_a_request_over_tls_needs_a_key_as_well(front: ClosedFront) -> None:
    tls = front.trusting()
    assert front.ask("/v1/models", tls=tls).code == "missing_api_key"
    assert front.ask("/v1/models", tls=tls, key=front.add_key()).status == 200


def test_the_private_key_is_for_the_front_alone_and_the_ca_s_for_root(front: ClosedFront) -> None:
    modes = {
        path: (front.top / path).stat().st_mode & 0o777
        for path in ("run/bedplate/front", "run/bedplate/front/server.pem", "var/lib/bedplate/front/ca/ca.key")
    }
    assert set(modes.values()) <= {0o700, 0o600}, modes
    assert (
        "PRIVATE"
        not in (front.top / "run/bedplate/haproxy.cfg").read_text() + (front.top / "run/bedplate/front.json").read_text()
    )
    assert not list((front.top / "run/bedplate").rglob("key.pem"))


def test_a_renewed_certificate_is_taken_without_a_lost_request(front: ClosedFront) -> None:
    tls, secret = front.trusting(), front.add_key(requests_per_minute=0)
    first = peer(front, tls)[1]["serialNumber"]
    worker = front.pid_of_worker()
    assert not front.renew(now_s=int(time.time())), "it is new"
    statuses: list[int] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            statuses.append(front.ask("/v1/models", tls=tls, key=secret).status)

    client = threading.Thread(target=ask_on)
    client.start()
    try:
        # As if half of its time were over.
        record = front.top / "run/bedplate/front.json"
        aged = json.loads(record.read_text())
        aged["certificate"]["ends_s"] = int(time.time()) + 3 * 86_400
        record.write_text(json.dumps(aged))
        assert front.renew(now_s=int(time.time()))
        second = peer(front, tls)[1]["serialNumber"]
        (front.top / "proc/sys/kernel/hostname").write_text("renamed\n")
        assert front.renew(now_s=int(time.time())), "it lacks the new name"
        assert "renamed" in str(peer(front, tls)[1]["subjectAltName"])
    finally:
        over.set()
        client.join()
    assert second != first
    assert set(statuses) == {200} and len(statuses) > 5
    assert front.pid_of_worker() == worker


def test_a_client_certificate_is_a_key(front: ClosedFront, clients: CertificateAuthority, tmp_path: Path) -> None:
    port = front.client_port
    known = front.trusting(client=client_certificate("gateway-1", clients, tmp_path))
    assert front.ask("/v1/models", tls=known, port=port).status == 401
    assert front.add_key("gateway-1", certificate=True) == ""
    assert front.ask("/v1/models", tls=known, port=port).status == 200
    told = {"key": "gateway-1", "listener": "certificate", "status": 200, "tls": "TLSv1.3"}
    wait_until(lambda: any(told.items() <= line.items() for line in front.access_lines()), "the request is logged")
    unknown = front.trusting(client=client_certificate("gateway-2", clients, tmp_path))
    assert front.ask("/v1/models", tls=unknown, port=port).status == 401
    # The id alone, without the certificate, opens nothing, and on the other port no certificate is asked for.
    assert front.ask("/v1/models", tls=known).status == 401
    assert front.ask("/v1/models", tls=front.trusting(), key="gateway-1").status == 401


def test_without_a_certificate_of_that_ca_the_connection_ends(
    front: ClosedFront, clients: CertificateAuthority, tmp_path: Path
) -> None:
    port = front.client_port
    with pytest.raises((ssl.SSLError, OSError)):
        front.ask("/v1/models", tls=front.trusting(), port=port)
    stranger = make_authority(tmp_path, name="clients", now_s=NOW)
    with pytest.raises((ssl.SSLError, OSError)):
        front.ask("/v1/models", tls=front.trusting(client=client_certificate("gateway-1", stranger, tmp_path)), port=port)


FILES = """
[front]
addresses = ["127.0.0.1", "127.0.0.2"]
port = {port}
[front.tls]
source = "files"
client_ca = "/var/lib/bedplate/front/clients.pem"
client_port = {client_port}
"""


def test_supplied_files_are_served_and_checked(make_front: MakeFront, clients: CertificateAuthority, tmp_path: Path) -> None:
    machine = make_front(FILES)
    place = machine.top / "var/lib/bedplate/front"
    place.mkdir(parents=True)
    (place / "clients.pem").write_text(clients.certificate.read_text())
    pem = issue_certificate(["localhost", "127.0.0.1"], authority=clients, work=tmp_path, now_s=NOW).pem
    begin = pem.index("-----BEGIN CERTIFICATE")
    (place / "certificate.pem").write_text(pem[begin:])
    (place / "private-key.pem").write_text(pem[:begin])
    machine.start()
    tls = ssl.create_default_context(cafile=str(clients.certificate))
    assert machine.ask("/v1/models", tls=tls).status == 401
    # What cannot be served leaves the one that is, and says so.
    other = issue_certificate(["localhost"], authority=None, work=tmp_path, now_s=NOW).pem
    (place / "private-key.pem").write_text(other[: other.index("-----BEGIN CERTIFICATE")])
    with pytest.raises(CommandError, match=r"private-key\.pem: is not the private key of .*certificate\.pem"):
        machine.renew(now_s=NOW)
    assert machine.ask("/v1/models", tls=tls).status == 401
    serving, _ = machine.prepare()
    assert "is not the private key of" in str(serving.problems[0])
    assert f"127.0.0.1:{machine.port}" not in serving.render_front().configuration, "a start with such files is closed"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda place: (place / "certificate.pem").unlink(), "certificate.pem: No such file"),
        (lambda place: (place / "certificate.pem").write_text("hello"), "certificate.pem: expected a certificate in PEM"),
        (lambda place: (place / "private-key.pem").write_text("hello"), "private-key.pem: is no private key"),
        (lambda place: (place / "clients.pem").write_text(""), "clients.pem: expected certificates in PEM"),
        (
            lambda place: (place / "clients.pem").write_text((place / "clients.pem").read_text().replace("MII", "MIJ")),
            "clients.pem: certificate 1 cannot be read",
        ),
    ],
)
def test_each_damaged_file_closes_the_front_and_is_named(
    make_front: MakeFront, clients: CertificateAuthority, tmp_path: Path, write: object, message: str
) -> None:
    machine = make_front(FILES)
    place = machine.top / "var/lib/bedplate/front"
    place.mkdir(parents=True)
    (place / "clients.pem").write_text(clients.certificate.read_text())
    pem = issue_certificate(["localhost", "127.0.0.1"], authority=clients, work=tmp_path, now_s=NOW).pem
    begin = pem.index("-----BEGIN CERTIFICATE")
    (place / "certificate.pem").write_text(pem[begin:])
    (place / "private-key.pem").write_text(pem[:begin])
    write(place)  # type: ignore[operator]
    serving, _ = machine.prepare()
    assert message in str(serving.problems[0])
    assert f":{machine.port}" not in serving.render_front().configuration


def test_another_ca_of_the_clients_waits_for_prepare_and_each_renewal_says_so(
    make_front: MakeFront, clients: CertificateAuthority, tmp_path: Path
) -> None:
    machine = make_front(OWN_CA)
    place = machine.top / "var/lib/bedplate/front/clients.pem"
    place.parent.mkdir(parents=True)
    place.write_text(clients.certificate.read_text())
    machine.prepare()
    (machine.top / "run/bedplate/haproxy/admin.sock").touch()  # it runs
    in_use = machine.top / "run/bedplate/front/client-ca.pem"
    before = in_use.read_text()
    other = make_authority(tmp_path, name="others", now_s=NOW).certificate.read_text()
    place.write_text(other)
    for _ in range(2):
        notes = Notes()
        assert not ca.renew(notes, now_s=NOW, root=Root(machine.top))
        assert any("serve prepare" in note for note in notes.notes), notes.notes
        assert in_use.read_text() == before
    machine.prepare()
    assert in_use.read_text() == other
    with pytest.raises(CommandError, match="takes a reload"):  # so `serve prepare` reloads the front end
        apply_front(Root(machine.top), (in_use.name,))


def test_production_answers_nobody_without_a_key_from_its_first_second(make_front: MakeFront) -> None:
    """A booted image whose /var is not open: a key of the image is good, every other one waits, and nothing is in the clear.
    Then /var is there, with the machine's own CA and keys, and HAProxy is not even reloaded."""
    machine = make_front()
    machine.become_image("production")
    with pytest.raises(NotRunningError, match="/var is not open"):
        machine.add_key()
    baked = "bp_baked_" + "x" * 43
    row = ClientKey(id="baked", sha256=hashlib.sha256(baked.encode()).hexdigest(), created_s=0)
    (machine.top / "usr/lib/bedplate/client-keys.toml").write_text(render_client_keys(ClientKeyFile(key=(row,))))
    machine.start()
    anybody = ssl._create_unverified_context()
    assert machine.ask(COMPLETIONS, machine.complete(), tls=anybody).code == "keys_not_loaded"
    assert machine.ask(COMPLETIONS, machine.complete(), tls=anybody, key="bp_of_var").code == "keys_not_loaded"
    assert machine.ask("/v1/models", tls=anybody, key=baked).status == 200
    with pytest.raises(OSError, match=r"reset|closed|empty|Remote end"):
        machine.ask("/v1/models", key=baked)  # in the clear
    worker = machine.pid_of_worker()
    (machine.top / "var/lib").mkdir(parents=True)
    machine.open_var()
    secret = machine.add_key()
    assert machine.renew(now_s=NOW)
    tls = machine.trusting()
    assert machine.ask("/v1/models", tls=tls, key=secret).status == 200
    assert machine.ask("/v1/models", tls=tls, key=baked).status == 200
    assert machine.ask("/v1/models", tls=tls, key="bp_of_var").code == "invalid_api_key"
    revoke_key(open_key_store(Root(machine.top)), "baked")
    assert machine.ask("/v1/models", tls=tls, key=baked).status == 401
    assert machine.pid_of_worker() == worker


def test_development_answers_everybody_and_says_so(make_front: MakeFront) -> None:
    machine = make_front()
    machine.become_image("development")
    _, notes = machine.prepare()
    assert any("without a key" in note for note in notes) and any("plain HTTP on the network" in note for note in notes)
    machine.start()
    assert machine.ask("/v1/models").status == 200
    assert machine.ask("/health").status == 503


def test_an_ephemeral_certificate_is_its_own_anchor_and_stays_until_the_next_boot(make_front: MakeFront) -> None:
    machine = make_front('[front]\naddresses = ["0.0.0.0"]\nport = {port}\n[front.tls]\nsource = "ephemeral"\n')
    machine.start()
    pin = machine.top / "pinned.pem"
    pem = (machine.top / "run/bedplate/front/server.pem").read_text()
    pin.write_text(pem[pem.index("-----BEGIN CERTIFICATE") :])
    tls = ssl.create_default_context(cafile=str(pin))
    assert machine.ask("/v1/models", tls=tls).status == 401
    assert not machine.renew(now_s=NOW + 300 * 86_400)
    assert not list((machine.top / "var/lib/bedplate").rglob("*.key"))


def test_bedplate_s_own_client_sends_a_key_and_verifies(front: ClosedFront, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"https://localhost:{front.port}"
    monkeypatch.setenv("SSL_CERT_FILE", str(front.ca))
    with pytest.raises(BedplateError, match="refused with 401: A key is required"):
        list_models(endpoint, timeout_s=60)
    monkeypatch.setenv("BEDPLATE_KEY", front.add_key())
    assert SERVED in list_models(endpoint, timeout_s=60)
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NotRunningError, match="CERTIFICATE_VERIFY_FAILED"):
        list_models(endpoint, timeout_s=60)
    assert SERVED in list_models(f"unix:{front.top}/run/bedplate/haproxy/local.sock", timeout_s=60)
