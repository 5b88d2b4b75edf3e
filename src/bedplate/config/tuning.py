"""[tuning]: the policy that bedplate-tune.service of the image takes at each boot, by a drop-in (systemd.unit(5))."""

from __future__ import annotations

from bedplate.config.kind import ConfigKind
from bedplate.model.config_change import RenderedFile, UnitAction, UnitVerb
from bedplate.model.machine_config import MachineConfig
from bedplate.model.policy_name import Policy

_UNIT = "bedplate-tune.service"
_PATH = f"/etc/systemd/system/{_UNIT}.d/50-bedplate.conf"
_ACTIONS = (UnitAction(verb=UnitVerb.READ_UNITS), UnitAction(verb=UnitVerb.RESTART, unit=_UNIT))


def _check(config: MachineConfig) -> list[str]:
    del config  # a name that is no policy is refused by its type
    return []


def _render(config: MachineConfig) -> tuple[RenderedFile, ...]:
    policy = config.tuning.policy
    if policy is Policy.SHARED_HOST:
        return ()  # what the unit does by itself
    command = f"/usr/lib/bedplate/bin/bedplate tune apply --boot --policy {policy}"
    text = f"# Made from machine.toml by `bedplate config apply`.\n[Service]\nExecStart=\nExecStart={command}\n"
    return (RenderedFile(path=_PATH, text=text, table="tuning", actions=_ACTIONS),)


KIND = ConfigKind(table="tuning", check=_check, render=_render)
