"""[log]: the journal's size, age and destination (journald.conf(5); ForwardToSocket= since systemd 256)."""

from __future__ import annotations

import re

from bedplate.config.kind import ConfigKind, check_range, shown
from bedplate.model.config_change import RenderedFile, UnitAction, UnitVerb
from bedplate.model.machine_config import MachineConfig
from bedplate.model.machine_tables import LogConfig
from bedplate.model.network_names import is_ip_address

_PATH = "/etc/systemd/journald.conf.d/50-bedplate.conf"
_RESTART = UnitAction(verb=UnitVerb.RESTART, unit="systemd-journald.service")
_DESTINATION = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})")


def _check(config: MachineConfig) -> list[str]:
    log = config.log
    problems = check_range("log.max_mib", log.max_mib, 16, 65536) + check_range("log.keep_days", log.keep_days, 0, 3650)
    if log.destination and not _is_destination(log.destination):
        expected = "an IP address and a port, 192.0.2.7:19532 or [2001:db8::7]:19532"
        problems.append(f"log.destination: got {shown(log.destination)}, expected {expected}")
    return problems


def _is_destination(text: str) -> bool:
    found = _DESTINATION.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return False
    return is_ip_address(found["four"] or found["six"]) and (":" in found["six"] if found["six"] else True)


def _render(config: MachineConfig) -> tuple[RenderedFile, ...]:
    log = config.log
    if log == LogConfig():
        return ()  # the image's own 10-bedplate.conf says the same
    lines = [f"SystemMaxUse={log.max_mib}M"]
    lines += [f"MaxRetentionSec={log.keep_days}day"] if log.keep_days else []
    lines += [f"ForwardToSocket={log.destination}"] if log.destination else []
    text = "".join(f"{line}\n" for line in ["# Made from machine.toml by `bedplate config apply`.", "[Journal]", *lines])
    return (RenderedFile(path=_PATH, text=text, table="log", actions=(_RESTART,)),)


KIND = ConfigKind(table="log", check=_check, render=_render)
