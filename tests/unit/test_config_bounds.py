"""Bounds of machine.toml that a form alone does not have: ports, addresses that no host has, what two links share."""

from __future__ import annotations

import pytest

from bedplate.catalog.machine_config import parse_machine_config
from bedplate.errors import DataError

LINK = "[[network.link]]\nname = 'eno1'\n"
OTHER = "[[network.link]]\nname = 'eno2'\n"
VLAN = "[[network.link]]\nname = 'v'\nkind = 'vlan'\nparent = 'eno1'\nvlan_id = 7\n"
SECOND = VLAN.replace("'v'", "'w'")


def static(*addresses: str, gateways: tuple[str, ...] = (), link: str = LINK) -> str:
    return f"{link}addressing = 'static'\naddresses = {list(addresses)}\ngateways = {list(gateways)}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[proxy]\nurl = 'http://p.example:0'", "m:proxy.url: got 'http://p.example:0', expected http://HOST:PORT with"),
        ("[proxy]\nurl = 'http://p.example:65536'", "m:proxy.url: got 'http://p.example:65536', expected"),
        ("[proxy]\nurl = 'http://p..example:80'", "m:proxy.url: got 'http://p..example:80', expected"),
        ("[proxy]\nurl = 'http://192.0.2.300:80'", "m:proxy.url: got 'http://192.0.2.300:80', expected"),
        ("[proxy]\nurl = 'http://[::1::]:80'", "m:proxy.url: got 'http://[::1::]:80', expected"),
        ("[mirror]\nmodels = 'https://m.example:0/x'", "m:mirror.models: got 'https://m.example:0/x', expected"),
        ("[mirror]\nupdates = 'https://m.example:65536'", "m:mirror.updates: got 'https://m.example:65536', expected"),
        ("[mirror]\nupdates = 'https://-m.example'", "m:mirror.updates: got 'https://-m.example', expected"),
        ("[front]\ncors_origins = ['https://a.example:65536']", "m:front.cors_origins[0]: got 'https://a.example:65536'"),
        ("[front]\ncors_origins = ['https://a.example:0']", "m:front.cors_origins[0]: got 'https://a.example:0'"),
        ("[time]\nservers = ['192.0.2.300']", "m:time.servers[0]: got '192.0.2.300', expected a DNS name or an IP"),
        (static("192.0.2.0/24"), "m:network.link[0].addresses[0]: got '192.0.2.0/24', the address of the network"),
        (static("192.0.2.255/24"), "m:network.link[0].addresses[0]: got '192.0.2.255/24', the broadcast address of"),
        (static("2001:db8::/64"), "m:network.link[0].addresses[0]: got '2001:db8::/64', the address of the network"),
        (static("224.0.0.5/24"), "m:network.link[0].addresses[0]: got '224.0.0.5/24', a multicast address; expected that"),
        (static("ff02::1/64"), "m:network.link[0].addresses[0]: got 'ff02::1/64', a multicast address"),
        (static("127.0.0.2/8"), "m:network.link[0].addresses[0]: got '127.0.0.2/8', a loopback address"),
        (static("::1/128"), "m:network.link[0].addresses[0]: got '::1/128', a loopback address"),
        (static("0.0.0.0/24"), "m:network.link[0].addresses[0]: got '0.0.0.0/24', the unspecified address"),
        (static("255.255.255.255/32"), "m:network.link[0].addresses[0]: got '255.255.255.255/32', a reserved address"),
        (static("192.0.2.9/0"), "m:network.link[0].addresses[0]: got '192.0.2.9/0', an address with the prefix 0"),
        (static("192.0.2.9/24", "192.0.2.9/25"), "m:network.link[0].addresses[1]: got '192.0.2.9/25', whose address"),
        (
            static("2001:db8::1/64", "2001:DB8:0::1/64"),
            "addresses[1]: got '2001:DB8:0::1/64', whose address network.link[0]",
        ),
        (
            static("192.0.2.9/24") + static("192.0.2.9/24", link=OTHER),
            "m:network.link[1].addresses[0]: got '192.0.2.9/24', whose address network.link[0].addresses[0] has; expected",
        ),
        (static("192.0.2.9/24", gateways=("192.0.2.9",)), "m:network.link[0].gateways[0]: got '192.0.2.9', an address of"),
        (
            static("192.0.2.9/24", gateways=("192.0.2.255",)),
            "m:network.link[0].gateways[0]: got '192.0.2.255', the broadcast",
        ),
        (static("192.0.2.9/24", gateways=("192.0.2.0",)), "m:network.link[0].gateways[0]: got '192.0.2.0', the address of"),
        (static("192.0.2.9/24", gateways=("0.0.0.0",)), "m:network.link[0].gateways[0]: got '0.0.0.0', the unspecified"),
        (static("2001:db8::1/64", gateways=("ff02::2",)), "m:network.link[0].gateways[0]: got 'ff02::2', a multicast"),
        (f"{LINK}dns = ['0.0.0.0']", "m:network.link[0].dns[0]: got '0.0.0.0', expected an IP address of a server"),
        (f"{LINK}dns = ['224.0.0.251']", "m:network.link[0].dns[0]: got '224.0.0.251', expected an IP address of a"),
        (f"{LINK}mac = '01:00:5e:00:53:01'", "m:network.link[0].mac: got '01:00:5e:00:53:01', which no interface has"),
        (f"{LINK}mac = '00:00:00:00:00:00'", "m:network.link[0].mac: got '00:00:00:00:00:00', which no interface has"),
        (
            VLAN + SECOND,
            "m:network.link[1].vlan_id: got 7, which v has on eno1, too",
        ),
        (f"{LINK}mtu = 1500\n{VLAN}mtu = 9000", "m:network.link[1].mtu: got 9000, expected at most 1500, the MTU of"),
        (VLAN.replace("= 7", "= 4095"), "m:network.link[0].vlan_id: got 4095, expected 1 to 4094"),
        (f"{LINK}domains = ['{'a' * 64}.example']", "m:network.link[0].domains[0]: got"),
    ],
)
def test_what_no_machine_can_use_is_reported_with_its_key(text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_machine_config(f"schema = 1\n{text}", name="m")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        static("192.0.2.0/31", gateways=("192.0.2.1",)),  # RFC 3021
        static("192.0.2.9/32", gateways=("169.254.0.1",)),
        static("2001:db8::/127", gateways=("2001:db8::1",)),  # RFC 6164
        static("2001:db8::ffff:ffff:ffff:ffff/64", gateways=("fe80::1",)),  # IPv6 has no broadcast
        static("192.0.2.9/24", "198.51.100.9/24", "2001:db8::9/64", gateways=("192.0.2.1", "2001:db8::1")),
        f"{LINK}dns = ['127.0.0.53', '::1']",
        f"{LINK}mtu = 9000\n{VLAN}mtu = 1500",
        f"{VLAN}{SECOND.replace('7', '8')}",
        "[proxy]\nurl = 'http://[2001:db8::1]:65535'",
        "[proxy]\nurl = 'http://192.0.2.1:1'",
        "[mirror]\nmodels = 'https://m.example:65535/models'",
        "[front]\ncors_origins = ['http://localhost:3000', 'https://[::1]']",
    ],
)
def test_what_is_odd_but_right_has_no_problem(text: str) -> None:
    parse_machine_config(f"schema = 1\n{text}", name="m")
