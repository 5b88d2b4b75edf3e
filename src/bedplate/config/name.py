"""name: the host name, in /etc/hostname for programs and boots, and in the kernel for now (hostname(5), uname(2))."""

from __future__ import annotations

from bedplate.config.kind import PREPARE_FRONT, ConfigKind, shown
from bedplate.model.config_change import RenderedFile
from bedplate.model.machine_config import MachineConfig
from bedplate.model.network_names import is_dns_name

_MOST = 64  # characters: __NEW_UTS_LEN of include/uapi/linux/utsname.h


def _check(config: MachineConfig) -> list[str]:
    name = config.name
    if not name or (len(name) <= _MOST and is_dns_name(name)):
        return []
    return [f"name: got {shown(name)}, expected a host name of at most {_MOST} letters, digits, hyphens and dots"]


def _render(config: MachineConfig) -> tuple[RenderedFile, ...]:
    if not config.name:
        return ()
    text = f"{config.name}\n"
    return (
        RenderedFile(path="/etc/hostname", text=text, table="name"),
        RenderedFile(path="/proc/sys/kernel/hostname", text=text, table="name", kernel=True, actions=(PREPARE_FRONT,)),
    )


KIND = ConfigKind(table="name", check=_check, render=_render)
