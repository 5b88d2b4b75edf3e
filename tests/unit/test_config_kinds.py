"""The tables of machine.toml besides [front]: what each mistake is told as, and the files that a whole one becomes."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden_file import compare
from tests.unit import json_schema

from bedplate.catalog.machine_config import parse_machine_config
from bedplate.config.difference import compare_configs, list_values
from bedplate.config.kinds import KINDS, render_files
from bedplate.errors import DataError
from bedplate.flows.config_file import find_secrets
from bedplate.model.machine_config import MachineConfig
from bedplate.model.machine_network import NetworkConfig
from bedplate.report.config_schema import make_config_schema

FULL = (Path(__file__).parents[1] / "configuration/full.toml").read_text()
LINK = "[[network.link]]\nname = 'eno1'\n"
STATIC = f"{LINK}addressing = 'static'\naddresses = ['192.0.2.10/24']\n"
BOND = "[[network.link]]\nname = 'bond0'\nkind = 'bond'\nmembers = ['eno1', 'eno2']\n"
VLAN = "[[network.link]]\nname = 'v'\nkind = 'vlan'\nparent = 'eno1'\nvlan_id = 7\n"
MODEL = "[[serve.model]]\nname = 'm'\n"
PERSON = "[[administrator]]\nname = 'ann'\n"
OLD_RSA = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQChTKIcF3YcR9h7155aSYWR/DQQxhMFPH6AncayE4978i87wVQsBytFVMGItYTeju+67aHXoy"
    "1ESYY3Pxi7pE/QMX7yfvoroFpie//s3kT2cQIGcv+llQq5eTXdev3o+bvvxk4GX5csHbdanQBMmZAwZjl6FzOMl/73aYks0Cif7p9ICtD5HrZH"
    "AxAY5EjfvjYlk/jl17iaNAqdQwo1mSaQHQsUaSs9o/aA0BcfbXCeUViApRwCCbEQ3yCxWY6Q+odOFCZXRk2Ur/i1efbfyfVc8lQP/E9w3b6YGi"
    "vfVng81vwLQjndXkAVGe3tte/44BpgObzjbWDgcW724oK30c/z old"
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nmae = 'a'", "m:nmae: unknown key; did you mean 'name'?"),
        ("[networks]", "m:networks: unknown key; did you mean 'network'?"),
        ("name = 'a b'", "m:name: got 'a b', expected a host name of at most 64"),
        ("sequence = -1", "m:sequence: got -1, expected 0 to 9007199254740992"),
        ("sequence = '1'", "m:sequence: got text '1', expected int"),
        ("[network]\nlink = 1", "m:network.link: got int, expected a list"),
        ("[[network.link]]", "m:network.link[0].name: missing"),
        ("[[network.link]]\nname = 'e/0'", "m:network.link[0].name: got 'e/0', expected 1 to 15 letters"),
        ("[[network.link]]\nname = 'en*'", "m:network.link[0].name: got 'en*'"),
        ("[[network.link]]\nname = 'aaaaaaaaaaaaaaaa'", "m:network.link[0].name: got 'aaaaaaaaaaaaaaaa', expected 1 to 15"),
        (LINK.replace("eno1", "7"), "m:network.link[0].name: got '7', expected 1 to 15 letters"),
        (LINK.replace("eno1", "lo"), "m:network.link[0].name: got 'lo', expected 1 to 15 letters"),
        (BOND.replace("bond0", "all"), "m:network.link[0].name: got 'all', expected 1 to 15 letters"),
        (BOND.replace("eno2", "default"), "m:network.link[0].members[1]: got 'default', expected the name of an interface"),
        (VLAN.replace("'eno1'", "'lo'"), "m:network.link[0].parent: got 'lo', expected 1 to 15 letters"),
        (
            STATIC.replace("192.0.2.10/24", "fe80::1%eno1/64"),
            "m:network.link[0].addresses[0]: got 'fe80::1%eno1/64', expected",
        ),
        (
            STATIC.replace("'192.0.2.10/24'", r'"fe80::1%e\nDHCP=yes\nX=/64"'),
            "m:network.link[0].addresses[0]: got 'fe80::1%e\\n",
        ),
        (f"{LINK}{LINK}", "m:network.link[1].name: got 'eno1', which an earlier link has"),
        (f"{LINK}ad = 1", "m:network.link[0].ad: unknown key; known keys: name, kind"),
        (f"{LINK}kind = 'bridge'", "m:network.link[0].kind: got 'bridge', expected one of ethernet, vlan, bond"),
        (f"{LINK}mac = '02:00'", "m:network.link[0].mac: got '02:00', expected six pairs of hex digits"),
        (f"{LINK}mtu = 100", "m:network.link[0].mtu: got 100, expected 1280 to 9216"),
        (f"{LINK}dns = ['dns.example']", "m:network.link[0].dns[0]: got 'dns.example', expected an IP address"),
        (f"{LINK}dns = ['::1', '::1']", "m:network.link[0].dns: names '::1' twice"),
        (f'{LINK}domains = ["a\\nb"]', "m:network.link[0].domains[0]: got 'a\\nb'"),
        (f"{LINK}addresses = ['192.0.2.1/24']", 'm:network.link[0].addresses: is set, but addressing is "dhcp"'),
        (f"{LINK}addressing = 'static'", "m:network.link[0].addresses: is empty, expected at least one address"),
        (
            f"{LINK}addressing = 'static'\naddresses = ['192.0.2.1']",
            "m:network.link[0].addresses[0]: got '192.0.2.1', expected an address with its prefix",
        ),
        (
            f"{LINK}addressing = 'static'\naddresses = ['192.0.2.1/33']",
            "m:network.link[0].addresses[0]: got '192.0.2.1/33', expected an address with its prefix",
        ),
        (
            f"{STATIC}gateways = ['192.0.3.1']",
            "m:network.link[0].gateways[0]: got '192.0.3.1', expected one in the network of an address",
        ),
        (
            f"{STATIC}gateways = ['192.0.2.1', '192.0.2.2']",
            "m:network.link[0].gateways: got 2, expected at most one of IPv4",
        ),
        (f"{LINK}members = ['a']", 'm:network.link[0].members: is set, but kind is "ethernet"; expected "bond"'),
        (f"{LINK}parent = 'a'", 'm:network.link[0].parent: is set, but kind is "ethernet"; expected "vlan"'),
        (f"{BOND}mac = '02:00:5e:00:53:01'", 'm:network.link[0].mac: is set, but kind is "bond"; expected "ethernet"'),
        (BOND.replace("'eno1', 'eno2'", ""), "m:network.link[0].members: is empty, expected at least one interface"),
        (f"{BOND}{LINK}", 'm:network.link[0].members[0]: got \'eno1\', whose addressing is "dhcp", expected "none"'),
        (f"{BOND}{BOND.replace('bond0', 'bond1')}", "m:network.link[1].members[0]: got 'eno1', which is a member of bond0"),
        (f"{BOND.replace('eno2', 'v')}{VLAN.replace('eno1', 'eno9')}", "members[1]: got 'v', which is a vlan, expected an"),
        (f"{BOND}{VLAN}", "m:network.link[1].parent: got 'eno1', a member of bond0; expected the bond"),
        (VLAN.replace("eno1", "v"), "m:network.link[0].parent: got 'v', which is a VLAN"),
        (VLAN.replace("vlan_id = 7", ""), "m:network.link[0].vlan_id: got 0, expected 1 to 4094"),
        (VLAN.replace("parent = 'eno1'", ""), "m:network.link[0].parent: got '', expected 1 to 15 letters"),
        ("[time]\nservers = ['a..b']", "m:time.servers[0]: got 'a..b', expected a DNS name or an IP address"),
        ("[[administrator]]\nname = 'Ann'", "m:administrator[0].name: got 'Ann', expected 2 to 32 of a-z"),
        ("[[administrator]]\nname = 'root'", "m:administrator[0].name: got 'root', expected 2 to 32 of a-z"),
        (PERSON, "m:administrator[0].keys: is empty, expected at least one SSH public key"),
        (f"{PERSON}role = 'owner'", "m:administrator[0].role: got 'owner', expected one of viewer, operator, admin"),
        (f"{PERSON}keys = ['hello']", "m:administrator[0].keys[0]: got 'hello', expected the one line of a .pub file"),
        (f"{PERSON}keys = ['ssh-dss AAAA']", "m:administrator[0].keys[0]: got a key of type 'ssh-dss', expected one of"),
        (
            f"{PERSON}keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1']",
            "m:administrator[0].keys[0]: got 'AAAAC3NzaC1lZDI1', which is no",
        ),
        (
            f"{PERSON}keys = ['{OLD_RSA.replace('ssh-rsa', 'ssh-ed25519')}']",
            "m:administrator[0].keys[0]: says ssh-ed25519, but the key itself says 'ssh-rsa'",
        ),
        (f"{PERSON}keys = ['{OLD_RSA}']", "m:administrator[0].keys[0]: got an RSA key of 2048 bits, expected 3072 or more"),
        ("[[serve.model]]\nname = 'a//b'", "m:serve.model[0].name: got 'a//b', expected the name of a model"),
        (f"{MODEL}source = 'ftp://a'", "m:serve.model[0].source: got 'ftp://a', expected hf:ORG/NAME@REVISION"),
        (f"{MODEL}source = '/a/../b'", "m:serve.model[0].source: got '/a/../b', expected hf:ORG/NAME@REVISION"),
        (f"{MODEL}source = 'hf:a/b'", "m:serve.model[0].sha256: is empty, expected the digest of what 'hf:a/b' gives"),
        (f"{MODEL}sha256 = 'AB'", "m:serve.model[0].sha256: got 'AB', expected 64 hex digits"),
        (f"{MODEL}engine = 'vLLM'", "m:serve.model[0].engine: got 'vLLM', expected one of llamacpp"),
        (f"{MODEL}clients = ['A']", "m:serve.model[0].clients[0]: got 'A', expected the id of a client's key"),
        (f"{MODEL}{MODEL}", "m:serve.model[1].name: got 'm', which an earlier model has"),
        ("[tuning]\npolicy = 'fast'", "m:tuning.policy: got 'fast', expected one of shared-host, dedicated, latency"),
        ("[update]\nchannel = 'a b'", "m:update.channel: got 'a b', expected 1 to 40 small letters"),
        ("[update]\nwindow = 'Sun 25:00-26:00'", "m:update.window: got 'Sun 25:00-26:00', expected \"Sun 02:00-04:00\""),
        ("[update]\nwindow = '02:00-02:00'", "m:update.window: got '02:00-02:00'"),
        ("[log]\nmax_mib = 1", "m:log.max_mib: got 1, expected 16 to 65536"),
        ("[log]\nkeep_days = 9999", "m:log.keep_days: got 9999, expected 0 to 3650"),
        (
            "[log]\ndestination = 'log.example:514'",
            "m:log.destination: got 'log.example:514', expected an IP address and a port",
        ),
        ("[log]\ndestination = '192.0.2.7:70000'", "m:log.destination: got '192.0.2.7:70000'"),
        ("[log]\ndestination = '[192.0.2.7]:1'", "m:log.destination: got '[192.0.2.7]:1'"),
        ("[proxy]\nurl = 'socks5://a:1'", "m:proxy.url: got 'socks5://a:1', expected http://HOST:PORT"),
        ("[proxy]\nexceptions = ['a']", "m:proxy.exceptions: is set, but proxy.url is empty"),
        ("[mirror]\nmodels = 'http://a'", "m:mirror.models: got 'http://a', expected https://HOST/PATH"),
        ("[recovery]\nrecipients = ['x']", "m:recovery.recipients[0]: got 'x', expected one whole certificate in PEM"),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_was_expected(text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_machine_config(text, name="m")
    assert problem in caught.value.message
    assert len(caught.value.message) < 1000


def test_a_mistake_in_one_table_hides_none_in_another() -> None:
    with pytest.raises(DataError) as caught:
        parse_machine_config("name = 'a b'\nschema = 2\n[netwrk]\n[front]\nprot = 1\n[log]\nmax_mib = 1\n", name="m")
    told = [problem.split(":")[1] for problem in caught.value.problems]
    assert told == ["netwrk", "front.prot", "schema", "name", "log.max_mib"]


@pytest.mark.parametrize("text", [STATIC, BOND, VLAN, f"{BOND}{VLAN.replace('eno1', 'bond0')}", MODEL, FULL])
def test_what_is_right_has_no_problem(text: str) -> None:
    assert parse_machine_config(text, name="m")


def test_the_files_of_a_whole_configuration() -> None:
    files = render_files(parse_machine_config(FULL, name="m"))
    shown = [f"==== {file.path} [{', '.join(map(str, file.actions))}]\n{file.text}" for file in files]
    compare("config-files.txt", "\n".join(shown))


def test_a_configuration_of_defaults_is_no_file() -> None:
    assert render_files(MachineConfig()) == ()


def test_every_table_has_a_kind_and_every_key_of_the_example_is_not_its_default() -> None:
    tables = [field.name for field in dataclasses.fields(MachineConfig) if field.name not in ("schema", "sequence")]
    assert [kind.table for kind in KINDS] == tables
    changed = {change.key.partition(".")[0].partition("[")[0] for change in compare_configs(MachineConfig(), _full())}
    assert changed == {*tables, "sequence"}


def _full() -> MachineConfig:
    return parse_machine_config(FULL, name="m")


def test_a_difference_names_the_keys_of_a_new_table_that_are_not_defaults() -> None:
    told = {change.key: (change.old, change.new) for change in compare_configs(MachineConfig(), _full())}
    assert told["network.link[0].mtu"] == (None, 9000)
    assert "network.link[0].vlan_id" not in told
    assert told["tuning.policy"] == ("shared-host", "latency")
    assert compare_configs(_full(), _full()) == ()
    back = {change.key: (change.old, change.new) for change in compare_configs(_full(), MachineConfig())}
    assert back == {key: (new, old) for key, (old, new) in told.items()}


def test_each_value_has_the_key_that_a_message_would_name() -> None:
    values = list_values(_full())
    assert values["network.link[3].vlan_id"] == 120 and values["front.tls.source"] == "own-ca"


LINES = re.compile(r"#.*|\[[A-Za-z]+\]|[A-Za-z0-9]+=.*|")


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_no_text_can_become_a_line_of_its_own(name: str, server: str, domain: str) -> None:
    """A line end or a bracket in a value must not start a section or a setting."""
    config = MachineConfig(
        name=name,
        time=dataclasses.replace(MachineConfig().time, servers=(server,)),
        network=NetworkConfig(link=(dataclasses.replace(_full().network.link[0], domains=(domain,)),)),
    )
    if any(kind.check(config) for kind in KINDS):
        return
    for file in render_files(config):
        if file.table != "name":
            assert all(LINES.fullmatch(line) for line in file.text.split("\n")), file.text
        assert file.text.count("\n") == file.text.rstrip("\n").count("\n") + 1


SCHEMA = make_config_schema()


def test_the_schema_takes_what_the_loader_takes() -> None:
    for text in (FULL, "", "schema = 1\n"):
        assert list(json_schema.problems_of(tomllib.loads(text), SCHEMA, SCHEMA)) == []


@pytest.mark.parametrize(
    "text",
    [
        "nmae = 'a'",
        "[network]\nlink = 1",
        "[[network.link]]",
        f"{LINK}kind = 'bridge'",
        f"{PERSON}role = 'owner'",
        "[front]\nport = '80'",
        "[tuning]\npolicy = 'fast'",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses_for_its_type(text: str) -> None:
    assert list(json_schema.problems_of(tomllib.loads(text), SCHEMA, SCHEMA))


def test_the_schema_says_each_default() -> None:
    def defaults(name: str) -> dict[str, Any]:
        return {key: part.get("default") for key, part in SCHEMA["$defs"][name]["properties"].items()}

    assert defaults("LogConfig") == {"destination": "", "max_mib": 256, "keep_days": 0}
    assert defaults("LinkConfig")["addressing"] == "dhcp"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize(
    "line",
    [
        "# password of the switch: https://ann:hunter2@switch.example.org/",
        "note = '-----BEGIN OPENSSH PRIVATE KEY-----'",
        "token = 'hf_abcdefghijklmnopqrstuvwxyzABCDEFGH'",
        "[proxy]\nurl = 'http://ann:hunter2@proxy.example.org:3128'",
        "[proxy]\npassword = 'x'",
        "[mirror]\nmodels = 'https://ghp_0123456789abcdefghijklmnopqrstuvwxyz@mirror.example.org/'",
        "[front.tls]\nprivate_key_passphrase = 'x'",
    ],
)
def test_what_looks_like_a_secret_is_told_without_it(line: str) -> None:
    told = list(find_secrets(f"schema = 1\n{line}\n", name="m"))
    assert told and all(text.startswith("m:") for text in told)
    assert not re.search("hunter2|hf_|ghp_", "".join(told))


def test_a_whole_configuration_has_no_secret() -> None:
    assert list(find_secrets(FULL, name="m")) == []
