"""Every table of machine.toml, in the order in which it is shown, and what all of them together say."""

from __future__ import annotations

from bedplate.config import administrators, front, log, name, network, proxy, recovery, serve, time, tuning, update
from bedplate.config.kind import ConfigKind
from bedplate.model.config_change import RenderedFile
from bedplate.model.machine_config import MachineConfig

MOST_SEQUENCE = 1 << 53
KINDS: tuple[ConfigKind, ...] = (
    name.KIND,
    network.KIND,
    time.KIND,
    administrators.KIND,
    serve.KIND,
    front.KIND,
    tuning.KIND,
    update.KIND,
    log.KIND,
    proxy.PROXY_KIND,
    proxy.MIRROR_KIND,
    recovery.KIND,
)


def check_config(config: MachineConfig) -> list[str]:
    """What is wrong with the values of a configuration, by the kinds' own words; [] for nothing."""
    problems = [problem for kind in KINDS for problem in kind.check(config)]
    if not 0 <= config.sequence <= MOST_SEQUENCE:
        problems.insert(0, f"sequence: got {config.sequence}, expected 0 to {MOST_SEQUENCE}")
    return problems


def render_files(config: MachineConfig) -> tuple[RenderedFile, ...]:
    """Every file that a configuration without problems becomes, table by table; not the configuration itself."""
    return tuple(file for kind in KINDS for file in kind.render(config))
