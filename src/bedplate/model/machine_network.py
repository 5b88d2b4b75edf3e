"""[network] of machine.toml: the links of a machine, as systemd-networkd is told of them.

Without a link in the file every Ethernet interface gets its addresses by DHCP, which is what the image does by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LinkKind(StrEnum):
    """What a link is made of."""

    ETHERNET = "ethernet"
    """An interface of the machine."""
    VLAN = "vlan"
    """A VLAN on top of `parent`."""
    BOND = "bond"
    """Several interfaces, `members`, that act as one."""


class Addressing(StrEnum):
    """Where the addresses of a link come from."""

    DHCP = "dhcp"
    """Addresses come from DHCP and router advertisements."""
    STATIC = "static"
    """Addresses are those of `addresses` and `gateways`; nothing is taken from the network."""
    NONE = "none"
    """The link has no address of its own, since only VLANs use it."""


class BondMode(StrEnum):
    """How a bond shares its members (Documentation/networking/bonding.rst)."""

    ACTIVE_BACKUP = "active-backup"
    """One member carries everything, the next one takes over; the switch needs no setting."""
    LACP = "802.3ad"
    """All members carry traffic, as agreed with the switch by LACP."""
    BALANCE_ALB = "balance-alb"
    """All members carry traffic; the switch needs no setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """[[network.link]]: one interface, VLAN or bond."""

    name: str
    """Name of the interface as the kernel has it ("enp1s0"), or of the VLAN or bond that is made; 1 to 15 characters."""
    kind: LinkKind = LinkKind.ETHERNET
    mac: str = ""
    """Ethernet only: the interface is found by this permanent address, 02:00:5e:00:53:01, whatever the kernel calls it."""
    addressing: Addressing = Addressing.DHCP
    addresses: tuple[str, ...] = ()
    """With "static": addresses with their prefix, "192.0.2.10/24"."""
    gateways: tuple[str, ...] = ()
    """With "static": the default routers, at most one of IPv4 and one of IPv6."""
    dns: tuple[str, ...] = ()
    """DNS servers, beside those that DHCP names."""
    domains: tuple[str, ...] = ()
    """DNS domains in which short names are looked up."""
    mtu: int = 0
    """Largest packet in bytes, 1280 to 9216; 0: as the driver sets it."""
    parent: str = ""
    """VLAN only: the interface or bond that carries it."""
    vlan_id: int = 0
    """VLAN only: its number, 1 to 4094."""
    members: tuple[str, ...] = ()
    """Bond only: the interfaces that it is made of."""
    mode: BondMode = BondMode.ACTIVE_BACKUP


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """[network]: the links of this machine."""

    link: tuple[LinkConfig, ...] = ()
    """A table for each link that is not to be left to DHCP, below. Other Ethernet interfaces use DHCP."""
