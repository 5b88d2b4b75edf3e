"""Which static addresses and gateways a link can have: those that one host may use as its own, and can reach.

Sources: RFC 1122, section 3.2.1.3, and RFC 4291, section 2 (addresses that are nobody's), RFC 3021 and RFC 6164 (prefixes of
two addresses, which have neither a network nor a broadcast address), RFC 1112, section 4 (240.0.0.0/4).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from bedplate.config.kind import shown
from bedplate.model.machine_network import LinkConfig

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_host_addresses(where: str, link: LinkConfig) -> list[str]:
    """Problems of the addresses and gateways of a link, all of which can be parsed; `where` is "network.link[0]"."""
    interfaces = [ipaddress.ip_interface(address) for address in link.addresses]
    gateways = [ipaddress.ip_address(gateway) for gateway in link.gateways]
    problems: list[str] = []
    for index, interface in enumerate(interfaces):
        reason = _why_no_host(interface.ip, [interface.network])
        if reason:
            problems.append(_problem(f"{where}.addresses[{index}]", link.addresses[index], reason, "that of one host"))
    networks = [interface.network for interface in interfaces]
    for index, gateway in enumerate(gateways):
        key, text = f"{where}.gateways[{index}]", str(gateway)
        own = [interface for interface in interfaces if interface.ip == gateway]
        reason = "an address of this link itself" if own else _why_no_host(gateway, networks)
        if reason:
            problems.append(_problem(key, text, reason, "that of a router"))
        elif not gateway.is_link_local and not any(gateway in network for network in networks):
            problems.append(f"{key}: got {shown(text)}, expected one in the network of an address")
    if len({gateway.version for gateway in gateways}) < len(gateways):
        problems.append(f"{where}.gateways: got {len(gateways)}, expected at most one of IPv4 and one of IPv6")
    return problems


def check_repeated_addresses(links: Sequence[LinkConfig]) -> list[str]:
    """A problem for each address that stands twice, on one link or on two, whatever its prefix and spelling.

    What cannot be parsed is left out; the check of its link reports it.
    """
    problems: list[str] = []
    first: dict[_Address, str] = {}
    for index, link in enumerate(links):
        for place, text in enumerate(link.addresses):
            key = f"network.link[{index}].addresses[{place}]"
            try:
                address = ipaddress.ip_interface(text).ip
            except ValueError:
                continue
            if address in first:
                problems.append(f"{key}: got {shown(text)}, whose address {first[address]} has; expected another address")
            first.setdefault(address, key)
    return problems


def is_server_address(text: str) -> bool:
    """Whether this is the IP address of one server: neither of a group (multicast, broadcast) nor unspecified."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and not (address.is_multicast or address.is_unspecified or _is_reserved(address))


def _why_no_host(address: _Address, networks: Sequence[_Network]) -> str:
    """What the address is instead of a host's; "" for one of a host."""
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if _is_reserved(address):
        return "a reserved address"
    for network in networks:
        if network.prefixlen == 0 and network.version == address.version:
            return "an address with the prefix 0, which makes the whole internet its network"
        if network.max_prefixlen - network.prefixlen < 2:
            continue
        if address == network.network_address:
            return f"the address of the network {network} itself"
        if network.version == 4 and address == network.broadcast_address:
            return f"the broadcast address of {network}"
    return ""


def _is_reserved(address: _Address) -> bool:
    return address.version == 4 and address.is_reserved


def _problem(key: str, text: str, reason: str, expected: str) -> str:
    return f"{key}: got {shown(text)}, {reason}; expected {expected}"
