"""[network]: links as files of systemd-networkd.

Sources: systemd.network(5), systemd.netdev(5) of systemd 257. The names begin with 40, so that they come before the image's
80-dhcp.network. networkd leaves a VLAN or bond that is no longer configured in the kernel until the next boot.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from bedplate.config.addresses import check_host_addresses, check_repeated_addresses, is_server_address
from bedplate.config.kind import ConfigKind, check_each, check_length, check_range, shown
from bedplate.model.config_change import RenderedFile, UnitAction, UnitVerb
from bedplate.model.machine_config import MachineConfig
from bedplate.model.machine_network import Addressing, LinkConfig, LinkKind
from bedplate.model.network_names import is_dns_name, is_ip_address

_DIRECTORY = "/etc/systemd/network"
_RELOAD = UnitAction(verb=UnitVerb.RELOAD, unit="systemd-networkd.service")
_HEAD = "# Made from machine.toml by `bedplate config apply`; the next one replaces it.\n"
# IFNAMSIZ is 16 with the end of the text; the kernel takes more characters, of which some are patterns to systemd.
# systemd takes neither a number, which is an index to it, nor the kernel's own words (ifname_valid_full() of systemd 257).
# The front end reaches the engines over "lo", which is no link of anybody's network.
_INTERFACE = re.compile(r"(?!(?:[0-9]+|all|default|lo)\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
_MTU = (1280, 9216)  # bytes: the least that IPv6 allows (RFC 8200, section 5), jumbo frames
_NO_ADDRESS = ("DHCP=no", "LinkLocalAddressing=no", "IPv6AcceptRA=no")
_QUIET = ("LLMNR=no", "MulticastDNS=no", "LLDP=no")  # as in the image's own 80-dhcp.network


def _check(config: MachineConfig) -> list[str]:
    links = config.network.link
    problems = check_length("network.link", links)
    names = [link.name for link in links]
    for index, link in enumerate(links):
        where = f"network.link[{index}]"
        problems += _check_link(where, link)
        if link.name in names[:index]:
            problems.append(f"{where}.name: got {shown(link.name)}, which an earlier link has")
    return problems + _check_stack(links) + check_repeated_addresses(links)


def _check_link(where: str, link: LinkConfig) -> list[str]:
    problems = _check_interface(f"{where}.name", link.name)
    if link.mac and _MAC.fullmatch(link.mac) is None:
        problems.append(f"{where}.mac: got {shown(link.mac)}, expected six pairs of hex digits, 02:00:5e:00:53:01")
    elif link.mac and (int(link.mac[:2], 16) & 1 or not int(link.mac.replace(":", ""), 16)):  # is_valid_ether_addr()
        problems.append(
            f"{where}.mac: got {shown(link.mac)}, which no interface has; expected one neither multicast nor zero"
        )
    if link.mtu:
        problems += check_range(f"{where}.mtu", link.mtu, *_MTU)
    problems += check_each(f"{where}.dns", link.dns, is_server_address, "an IP address of a server")
    problems += check_each(f"{where}.domains", link.domains, is_dns_name, "a DNS name")
    return problems + _check_addresses(where, link) + _check_kind(where, link)


def _check_addresses(where: str, link: LinkConfig) -> list[str]:
    if link.addressing is not Addressing.STATIC:
        named = [key for key, given in (("addresses", link.addresses), ("gateways", link.gateways)) if given]
        return [f'{where}.{key}: is set, but addressing is "{link.addressing}"; expected "static"' for key in named]
    problems = check_each(f"{where}.addresses", link.addresses, _is_prefixed, "an address with its prefix, 192.0.2.10/24")
    problems += check_each(f"{where}.gateways", link.gateways, is_ip_address, "an IP address")
    if not link.addresses:
        problems.append(f'{where}.addresses: is empty, expected at least one address, since addressing is "static"')
    return problems or check_host_addresses(where, link)


def _check_kind(where: str, link: LinkConfig) -> list[str]:
    owned = {
        "mac": (LinkKind.ETHERNET, link.mac),
        "parent": (LinkKind.VLAN, link.parent),
        "vlan_id": (LinkKind.VLAN, link.vlan_id),
        "members": (LinkKind.BOND, link.members),
    }
    problems = [
        f'{where}.{key}: is set, but kind is "{link.kind}"; expected "{kind}"'
        for key, (kind, value) in owned.items()
        if value and link.kind is not kind
    ]
    if link.kind is LinkKind.VLAN:
        problems += _check_interface(f"{where}.parent", link.parent) + check_range(f"{where}.vlan_id", link.vlan_id, 1, 4094)
    if link.kind is LinkKind.BOND:
        if not link.members:
            problems.append(f"{where}.members: is empty, expected at least one interface")
        problems += check_each(f"{where}.members", link.members, _is_interface, "the name of an interface")
    return problems


def _check_stack(links: Sequence[LinkConfig]) -> list[str]:
    """What links say of each other: a VLAN of a VLAN or twice, a member of two bonds, a member with its own addresses."""
    problems: list[str] = []
    by_name = {link.name: link for link in links}
    bond_of: dict[str, str] = {}
    for index, link in enumerate(links):
        for place, member in enumerate(link.members):
            where = f"network.link[{index}].members[{place}]"
            own = by_name.get(member)
            if member in bond_of and bond_of[member] != link.name:
                problems.append(f"{where}: got {shown(member)}, which is a member of {bond_of[member]}")
            elif own is not None and own.kind is not LinkKind.ETHERNET:
                problems.append(f"{where}: got {shown(member)}, which is a {own.kind}, expected an interface")
            elif own is not None and own.addressing is not Addressing.NONE:
                problems.append(f'{where}: got {shown(member)}, whose addressing is "{own.addressing}", expected "none"')
            bond_of.setdefault(member, link.name)
    vlans: dict[tuple[str, int], str] = {}
    for index, link in enumerate(links):
        if link.kind is not LinkKind.VLAN:
            continue
        first = vlans.setdefault((link.parent, link.vlan_id), link.name)
        if first != link.name:
            problems.append(f"network.link[{index}].vlan_id: got {link.vlan_id}, which {first} has on {link.parent}, too")
        where = f"network.link[{index}].parent"
        parent = by_name.get(link.parent)
        if parent is not None and 0 < parent.mtu < link.mtu:  # the kernel refuses it: vlan_dev_change_mtu()
            most = f"at most {parent.mtu}, the MTU of its parent {link.parent}"
            problems.append(f"network.link[{index}].mtu: got {link.mtu}, expected {most}")
        if link.parent == link.name or (parent is not None and parent.kind is LinkKind.VLAN):
            problems.append(f"{where}: got {shown(link.parent)}, which is a VLAN, expected an interface or a bond")
        elif link.parent in bond_of:
            problems.append(f"{where}: got {shown(link.parent)}, a member of {bond_of[link.parent]}; expected the bond")
    return problems


def _is_interface(text: str) -> bool:
    return _INTERFACE.fullmatch(text) is not None


def _check_interface(key: str, name: str) -> list[str]:
    expected = "1 to 15 letters, digits and ._-, a letter or digit first, no number, and none of all, default, lo"
    return [] if _is_interface(name) else [f"{key}: got {shown(name)}, expected {expected}"]


def _is_prefixed(text: str) -> bool:
    address, slash, prefix = text.partition("/")
    try:  # a zone (%eth0) may hold anything, a line end too
        return (
            bool(slash)
            and is_ip_address(address)
            and prefix.isascii()
            and prefix.isdecimal()
            and ipaddress.ip_interface(text) is not None
        )
    except ValueError:
        return False


def _render(config: MachineConfig) -> tuple[RenderedFile, ...]:
    links = config.network.link
    named = {link.name for link in links}
    bond_of = {member: link.name for link in links for member in link.members}
    vlans_of: dict[str, list[str]] = {}
    for link in links:
        if link.parent:
            vlans_of.setdefault(link.parent, []).append(link.name)
    files: list[RenderedFile] = []
    for link in links:
        if link.kind is not LinkKind.ETHERNET:
            files.append(_file(f"{link.name}.netdev", _netdev(link)))
        master = bond_of.get(link.name, "")
        files.append(_file(f"{link.name}.network", _network(link, master, vlans_of.get(link.name, ()))))
    for member, bond in bond_of.items():
        if member not in named:  # it carries nothing of its own
            files.append(_file(f"{member}.network", [_match(member), ("Network", [f"Bond={bond}", *_NO_ADDRESS, *_QUIET])]))
    for parent, vlans in vlans_of.items():
        if parent not in named:  # as an interface without a table: its own addresses come by DHCP
            lines = [*(f"VLAN={vlan}" for vlan in vlans), "DHCP=yes", "LinkLocalAddressing=ipv6", *_QUIET]
            files.append(_file(f"{parent}.network", [_match(parent), ("Network", lines)]))
    return tuple(files)


_Section = tuple[str, Sequence[str]]


def _file(name: str, sections: Iterable[_Section]) -> RenderedFile:
    text = "\n".join("".join([f"[{title}]\n", *(f"{line}\n" for line in lines)]) for title, lines in sections if lines)
    path = f"{_DIRECTORY}/40-bedplate-{name}"
    return RenderedFile(path=path, text=f"{_HEAD}{text}", table="network", actions=(_RELOAD,))


def _match(name: str, mac: str = "") -> _Section:
    # A bond and its VLANs take over the address of a member: only the permanent one names an interface.
    return ("Match", [f"PermanentMACAddress={mac.lower()}" if mac else f"Name={name}"])


def _netdev(link: LinkConfig) -> list[_Section]:
    sections: list[_Section] = [("NetDev", [f"Name={link.name}", f"Kind={link.kind}"])]
    if link.kind is LinkKind.VLAN:
        return [*sections, ("VLAN", [f"Id={link.vlan_id}"])]
    # Without MIIMonitorSec= a dead member is never noticed (bonding.rst, miimon); 100 ms is what it recommends.
    return [*sections, ("Bond", [f"Mode={link.mode}", "MIIMonitorSec=100ms"])]


def _network(link: LinkConfig, master: str, vlans: Sequence[str]) -> list[_Section]:
    lines = [f"Bond={master}"] if master else []
    lines += [f"VLAN={vlan}" for vlan in vlans]
    match link.addressing:
        case Addressing.DHCP:
            lines += ["DHCP=yes", "LinkLocalAddressing=ipv6"]
        case Addressing.STATIC:
            lines += ["DHCP=no", "LinkLocalAddressing=ipv6", "IPv6AcceptRA=no"]
            lines += [f"Address={address}" for address in link.addresses]
            lines += [f"Gateway={gateway}" for gateway in link.gateways]
        case Addressing.NONE:
            lines += _NO_ADDRESS
    lines += [f"DNS={server}" for server in link.dns]
    lines += [f"Domains={' '.join(link.domains)}"] if link.domains else []
    mtu = [f"MTUBytes={link.mtu}"] if link.mtu else []
    return [_match(link.name, link.mac), ("Link", mtu), ("Network", [*lines, *_QUIET])]


KIND = ConfigKind(table="network", check=_check, render=_render, cuts_off=True)
