"""[time]: servers of systemd-timesyncd (timesyncd.conf(5))."""

from __future__ import annotations

from bedplate.config.kind import ConfigKind, check_each
from bedplate.model.config_change import RenderedFile, UnitAction, UnitVerb
from bedplate.model.machine_config import MachineConfig
from bedplate.model.network_names import is_dns_name, is_ip_address

_PATH = "/etc/systemd/timesyncd.conf.d/50-bedplate.conf"
_RESTART = UnitAction(verb=UnitVerb.RESTART, unit="systemd-timesyncd.service")


def _check(config: MachineConfig) -> list[str]:
    def is_server(text: str) -> bool:
        return is_ip_address(text) or is_dns_name(text)

    return check_each("time.servers", config.time.servers, is_server, "a DNS name or an IP address")


def _render(config: MachineConfig) -> tuple[RenderedFile, ...]:
    servers = config.time.servers
    if not servers:
        return ()
    # An empty FallbackNTP= takes Debian's pool away: who names servers wants no other.
    text = f"# Made from machine.toml by `bedplate config apply`.\n[Time]\nNTP={' '.join(servers)}\nFallbackNTP=\n"
    return (RenderedFile(path=_PATH, text=text, table="time", actions=(_RESTART,)),)


KIND = ConfigKind(table="time", check=_check, render=_render)
