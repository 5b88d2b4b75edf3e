"""Names, addresses and origins, as they are written in certificates and in machine.toml."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

# RFC 1123, section 2.1
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")

# RFC 6454, section 6.2, without what HAProxy's configuration would need quotes for.
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]{2,39}\])(?::[0-9]{1,5})?")


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name of labels of letters, digits and hyphens, at most 253 characters; "*" is no label.

    Labels of which the last is a number are an address with a mistake, 192.0.2.300, and no name (RFC 3696, section 2).
    """
    if len(text) > 253 or _DNS_NAME.fullmatch(text) is None:
        return False
    _, dot, last = text.rpartition(".")
    return not (dot and last.isdecimal())


def is_ip_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without the zone of an interface (%eth0)."""
    try:
        return "%" not in text and ipaddress.ip_address(text) is not None
    except ValueError:
        return False


def is_origin(text: str) -> bool:
    """Whether this is an origin as browsers send it: https://HOST or http://HOST:PORT, without a path."""
    return _ORIGIN.fullmatch(text) is not None and has_host_and_port(text)


def has_host_and_port(url: str) -> bool:
    """Whether the host of a URL is a DNS name or an IP address (IPv6 in brackets), and its port 1 to 65535 or not there."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # a port above 65535, brackets around what is no IPv6 address
        return False
    return port != 0 and (is_ip_address(host) or is_dns_name(host))
