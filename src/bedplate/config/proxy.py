"""[proxy] and [mirror]: how the machine fetches what it needs, where it does not reach the internet directly."""

from __future__ import annotations

import re

from bedplate.config.kind import ConfigKind, check_each, shown
from bedplate.model.machine_config import MachineConfig
from bedplate.model.network_names import has_host_and_port, is_dns_name, is_ip_address

_PROXY = re.compile(r"http://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,39}\]):[0-9]{1,5}")
_MIRROR = re.compile(r"https://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,39}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_LATER = "is kept for downloads by the machine, which this version does not do yet"


def _check_proxy(config: MachineConfig) -> list[str]:
    def is_host(text: str) -> bool:
        return is_ip_address(text) or is_dns_name(text.removeprefix("."))

    proxy, problems = config.proxy, []
    if proxy.url and not (_PROXY.fullmatch(proxy.url) and has_host_and_port(proxy.url)):
        problems.append(f"proxy.url: got {shown(proxy.url)}, expected http://HOST:PORT with a port of 1 to 65535")
    if proxy.exceptions and not proxy.url:
        problems.append("proxy.exceptions: is set, but proxy.url is empty; expected both or none")
    return problems + check_each("proxy.exceptions", proxy.exceptions, is_host, "a DNS name, .DOMAIN or an IP address")


def _check_mirror(config: MachineConfig) -> list[str]:
    return [
        f"mirror.{key}: got {shown(address)}, expected https://HOST/PATH or https://HOST:PORT/PATH with a port of 1 to 65535"
        for key, address in (("models", config.mirror.models), ("updates", config.mirror.updates))
        if address and not (_MIRROR.fullmatch(address) and has_host_and_port(address))
    ]


PROXY_KIND = ConfigKind(table="proxy", check=_check_proxy, later=_LATER)
MIRROR_KIND = ConfigKind(table="mirror", check=_check_mirror, later=_LATER)
