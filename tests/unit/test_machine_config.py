"""machine.toml: what it may hold, what each mistake is told as, and which of three files counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.catalog.machine_config import parse_machine_config
from bedplate.errors import DataError
from bedplate.flows.front import find_openings, listeners_of, read_front_setting, write_keys
from bedplate.host.root.root import Root
from bedplate.host.system.addresses import read_addresses, read_host_name
from bedplate.host.system.osinfo import read_os
from bedplate.model.machine_config import CLOSED, MACHINE_FILES, MachineConfig, TlsSource
from bedplate.model.serving_host import FRONT_RECORD

OS = Path(__file__).parents[2] / "image/os"


def test_an_empty_file_is_all_defaults_and_they_are_closed() -> None:
    config = parse_machine_config("", name="machine.toml")
    assert config == MachineConfig()
    assert config.front.require_key and not config.front.insecure and config.front.tls.source is TlsSource.OWN_CA


def test_every_table_is_read() -> None:
    config = parse_machine_config(
        "schema = 1\n[front]\naddresses = ['192.0.2.1', '2001:db8::1']\nport = 4443\ncors_origins = ['https://a.example:8443']\n"
        "[front.tls]\nsource = 'files'\nnames = ['*.example.org', '::1']\n[front.limits]\nmax_tokens = 100\n",
        name="m",
    )
    assert (config.front.port, config.front.tls.source, config.front.limits.max_tokens) == (4443, TlsSource.FILES, 100)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("front = 1", "m:front: got int, expected a table"),
        ("[frontt]", "m:frontt: unknown key; did you mean 'front'?"),
        ("[front]\nports = 1", "m:front.ports: unknown key; did you mean 'port'?"),
        ("[front]\nport = '80'", "m:front.port: got text '80', expected int"),
        ("[front]\nport = 443", "m:front.port: got 443, expected 1024 to 65535"),
        ("[front]\ninsecure = 1", "m:front.insecure: got int 1, expected bool"),
        ("[front]\naddresses = ['localhost']", "m:front.addresses[0]: got 'localhost', expected an IP address or \"*\""),
        (
            "[front]\naddresses = ['fe80::1%eth0']",
            "m:front.addresses[0]: got 'fe80::1%eth0', expected an IP address or \"*\"",
        ),
        ("[front]\naddresses = ['*', '127.0.0.1']", "m:front.addresses: names an address twice"),
        ("[front]\ncors_origins = ['a b']", "m:front.cors_origins[0]: got 'a b', expected http(s)://HOST"),
        ("[front.tls]\nsource = 'acme'", "m:front.tls.source: got 'acme', expected one of own-ca, files, ephemeral"),
        ("[front.tls]\nnames = ['a..b']", "m:front.tls.names[0]: got 'a..b', expected a DNS name or an IP address"),
        ('[front.tls]\nnames = ["a\\nb"]', "m:front.tls.names[0]: got 'a\\\\nb', expected a DNS name or an IP address"),
        ("[front.tls]\ncertificate = 'x.pem'", "m:front.tls.certificate: got 'x.pem', expected an absolute path"),
        ("[front.tls]\nclient_ca = '/a/../b'", "m:front.tls.client_ca: got '/a/../b', expected an absolute path"),
        ("[front.tls]\nclient_ca = '/a'\nclient_port = 8080", "m:front.tls.client_port: got 8080, which front.port has"),
        ("[front]\ninsecure = true\n[front.tls]\nclient_ca = '/a'", "m:front.tls.client_ca: is set, but front.insecure"),
        ("[front.limits]\nconcurrency = -1", "m:front.limits.concurrency: got -1, expected 0 to 1000000"),
        ("schema = 2", "m:schema: got 2, expected 1"),
        (
            "[[serve.model]]\nname = 'a'\nengine = 'ollama'",
            "m:serve.model[0].engine: got 'ollama', expected one of llamacpp, vllm, transformers",
        ),
        (
            "[[serve.model]]\nname = '../a'\nengine = 'vllm'",
            "m:serve.model[0].name: got '../a', expected the name of a model",
        ),
        (2 * "[[serve.model]]\nname = 'a'\nengine = 'vllm'\n", "m:serve.model[1].name: got 'a', which an earlier model has"),
        ("front = [", "m: not TOML"),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_was_expected(text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_machine_config(text, name="m")
    assert problem.replace("\\\\", "\\") in caught.value.message
    assert len(caught.value.message) < 1000


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        parse_machine_config("[front]\nport = 0\n[front.limits]\nmax_tokens = -1\nconcurrency = -1", name="m")
    assert len(caught.value.problems) == 3


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_an_error(text: str) -> None:
    try:
        parse_machine_config(text, name="m")
    except DataError as error:
        assert error.problems


def put(top: Path, path: str, text: str) -> None:
    file = top / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_first_file_counts_alone(tmp_path: Path) -> None:
    for number, path in enumerate(reversed(MACHINE_FILES)):
        put(tmp_path, path, f"[front]\nport = {8000 + number}\n" + ("access_log = false\n" if number == 0 else ""))
        setting = read_front_setting(Root(tmp_path))
        assert (setting.source, setting.front.port) == (path, 8000 + number)
    assert setting.front.access_log, "keys of another file are not mixed in"


@pytest.mark.parametrize("text", ["[front]\nport = 0\n", "hello", "[front]\ninsecure = true\nunknown = 1\n", "\ud800"])
def test_a_damaged_file_closes_the_front_and_no_other_file_opens_it(tmp_path: Path, text: str) -> None:
    put(tmp_path, MACHINE_FILES[2], "[front]\ninsecure = true\nrequire_key = false\n")
    put(tmp_path, MACHINE_FILES[0], "")
    (tmp_path / MACHINE_FILES[0].lstrip("/")).write_bytes(text.encode(errors="surrogatepass"))
    setting = read_front_setting(Root(tmp_path))
    assert setting.config == CLOSED
    assert setting.problems and MACHINE_FILES[0] in str(setting.problems[0])
    assert listeners_of(setting) == ["unix@/run/bedplate/haproxy/local.sock mode 600 name local"]


def test_plain_http_is_for_loopback_unless_somebody_says_insecure(tmp_path: Path) -> None:
    def listeners(text: str) -> list[str]:
        put(tmp_path, MACHINE_FILES[0], text)
        return listeners_of(read_front_setting(Root(tmp_path)))[1:]

    assert listeners("[front]\naddresses = ['127.0.0.1', '::1']\n") == ["127.0.0.1:8080 name api", "[::1]:8080 name api"]
    assert all(" ssl crt " in line for line in listeners("[front]\naddresses = ['127.0.0.1', '192.0.2.1']\n"))
    assert all(" ssl crt " in line for line in listeners(""))
    assert listeners("[front]\ninsecure = true\n") == ["*:8080 name api"]
    both = listeners("[front]\naddresses = ['127.0.0.1']\n[front.tls]\nclient_ca = '/a.pem'\n")
    assert "127.0.0.1:8443 ssl" in both[1] and both[1].endswith("verify required name certificate")
    assert " ssl " in both[0], "a client whose certificate counts must not be answered in the clear beside it"


def test_the_files_of_the_variants(tmp_path: Path) -> None:
    """Development says that it is open; production asks for keys over TLS on every address."""
    shipped = {
        variant: (OS / variant / "usr/lib/bedplate/machine.toml").read_text() for variant in ("development", "production")
    }
    put(tmp_path, MACHINE_FILES[2], shipped["development"])
    assert len(find_openings(read_front_setting(Root(tmp_path)))) == 2
    put(tmp_path, MACHINE_FILES[2], shipped["production"])
    setting = read_front_setting(Root(tmp_path))
    assert setting.config == MachineConfig()
    assert (setting.has_tls, find_openings(setting)) == (True, [])


def test_what_is_open_is_a_fact_that_doctor_reads(tmp_path: Path) -> None:
    put(tmp_path, MACHINE_FILES[2], (OS / "development/usr/lib/bedplate/machine.toml").read_text())
    setting = read_front_setting(Root(tmp_path))
    write_keys(Root(tmp_path), setting, None)
    assert read_os(Root(tmp_path), (), (), ()).front_openings == tuple(find_openings(setting))
    for text in ("", "[]", "{}", '{"openings": 7}', '{"openings": [7, "a\\nb"]}', "[" * 5000):
        put(tmp_path, FRONT_RECORD, text)
        assert read_os(Root(tmp_path), (), (), ()).front_openings == ()


FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 10.0.2.15
        /32 host LOCAL
     |-- 10.0.2.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 169.254.7.7
        /32 host LOCAL
"""
IF_INET6 = """fe80000000000000505400fffe123456 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 80     eth0
"""


def test_addresses_of_the_machine_are_those_that_others_can_reach(tmp_path: Path) -> None:
    assert read_addresses(Root(tmp_path)) == ()
    put(tmp_path, "/proc/net/fib_trie", FIB_TRIE)
    put(tmp_path, "/proc/net/if_inet6", IF_INET6)
    assert read_addresses(Root(tmp_path)) == ("10.0.2.15", "2001:db8::7")
    put(tmp_path, "/proc/net/fib_trie", "     |-- 999.1.1.1\n        /32 host LOCAL\n")
    assert read_addresses(Root(tmp_path)) == ("2001:db8::7",)


@pytest.mark.parametrize(
    ("text", "name"), [("box", "box"), ("a.b", "a.b"), ("a b", ""), ("$HOME", ""), ("x" * 70, ""), ("", "")]
)
def test_a_host_name_that_a_certificate_cannot_hold_is_left_out(tmp_path: Path, text: str, name: str) -> None:
    put(tmp_path, "/proc/sys/kernel/hostname", f"{text}\n")
    assert read_host_name(Root(tmp_path)) == name
