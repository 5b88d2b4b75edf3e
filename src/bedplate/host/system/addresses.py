"""IP addresses of this machine, as clients could name them: from /proc, without asking a program or the network."""

from __future__ import annotations

import ipaddress
import re

from bedplate.host.root.root import Root
from bedplate.model.network_names import is_dns_name, is_ip_address

_MOST = 32
_LOCAL = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL\n")


def read_addresses(root: Root) -> tuple[str, ...]:
    """Addresses that other machines may reach, sorted, at most 32: no loopback, no link-local; () where /proc shows none.

    Source: fib_trie and if_inet6 of /proc/net (net/ipv4/fib_trie.c, net/ipv6/addrconf.c): a local route is an address.
    """
    found = set(_LOCAL.findall((root.read("/proc/net/fib_trie").value or "") + "\n"))
    for line in (root.read("/proc/net/if_inet6").value or "").splitlines():
        digits = line.split()[:1]
        if digits and re.fullmatch(r"[0-9a-f]{32}", digits[0]):
            found.add(str(ipaddress.IPv6Address(int(digits[0], 16))))
    addresses = [ipaddress.ip_address(text) for text in found if is_ip_address(text)]
    usable = [address for address in addresses if not (address.is_loopback or address.is_link_local)]
    return tuple(str(address) for address in sorted(usable, key=lambda address: (address.version, int(address)))[:_MOST])


def read_host_name(root: Root) -> str:
    """The host name where it is one that a certificate can hold; "" otherwise."""
    name = root.read("/proc/sys/kernel/hostname").value or ""
    return name if len(name) <= 64 and is_dns_name(name) else ""
