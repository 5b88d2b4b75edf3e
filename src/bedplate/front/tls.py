"""Where the front end listens, in HAProxy's words: addresses, TLS, and the socket of the machine itself.

TLS is 1.3 alone, with a key exchange that resists quantum computers where the client knows it. HTTP/2 is not offered: one
connection would hold a buffer for each of 100 streams (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.front.keys import CERTIFICATE_LISTENER, FRONT_DIRECTORY, LOCAL_LISTENER
from bedplate.model.machine_config import FrontConfig

LOCAL_SOCKET = "/run/bedplate/haproxy/local.sock"
ADMIN_SOCKET = "/run/bedplate/haproxy/admin.sock"
SERVER_PEM = f"{FRONT_DIRECTORY}/server.pem"
"""Private key, certificate and chain of the front end, as HAProxy reads them."""
CLIENT_CA_PEM = f"{FRONT_DIRECTORY}/client-ca.pem"
_TLS = "ssl-min-ver TLSv1.3 curves X25519MLKEM768:X25519 alpn http/1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Files that the listeners read; client_ca is empty where clients need no certificate."""

    server: str = SERVER_PEM
    client_ca: str = ""


def render_listeners(front: FrontConfig, *, tls: TlsFiles | None, ipv6: bool, local_socket: str = LOCAL_SOCKET) -> list[str]:
    """Arguments of `bind`, one for each listener. tls: None for plain HTTP. ipv6: whether the kernel has it."""
    secure = f" ssl crt {tls.server} {_TLS}" if tls is not None else ""
    listeners = [f"unix@{local_socket} mode 600 name {LOCAL_LISTENER}"]
    listeners += [f"{address}{secure} name api" for address in render_addresses(front.addresses, front.port, ipv6=ipv6)]
    if tls is not None and tls.client_ca:
        asking = f"{secure} ca-file {tls.client_ca} verify required name {CERTIFICATE_LISTENER}"
        addresses = render_addresses(front.addresses, front.tls.client_port, ipv6=ipv6)
        listeners += [f"{address}{asking}" for address in addresses]
    return listeners


def render_addresses(addresses: Sequence[str], port: int, *, ipv6: bool) -> list[str]:
    """Addresses and port in HAProxy's words; "*" is all of IPv4, and of IPv6 where the kernel has it."""
    rendered: list[str] = []
    for address in addresses:
        if address == "*":
            rendered += [f"*:{port}", *([f"[::]:{port} v6only"] if ipv6 else [])]
        else:
            rendered.append(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    return rendered
