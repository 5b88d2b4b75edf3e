"""Names, addresses and origins, as they are written in certificates and in machine.toml."""

from __future__ import annotations

import ipaddress
import re

# RFC 1123, section 2.1
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")

# RFC 6454, section 6.2, without what HAProxy's configuration would need quotes for.
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]{2,39}\])(?::[0-9]{1,5})?")


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name of labels of letters, digits and hyphens, at most 253 characters; "*" is no label."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None


def is_ip_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without the zone of an interface (%eth0)."""
    try:
        return "%" not in text and ipaddress.ip_address(text) is not None
    except ValueError:
        return False


def is_origin(text: str) -> bool:
    """Whether this is an origin as browsers send it: https://HOST or http://HOST:PORT, without a path."""
    return _ORIGIN.fullmatch(text) is not None
