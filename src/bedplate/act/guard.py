"""Move the neighbours' limits, as the service manager owns them: `systemctl set-property --runtime`.

Such a property outranks drop-ins of the unit (systemd.resource-control(5)) and lives in /run: it survives our end, whatever
that was, and not a reboot. Taking it back is removing the files that set-property wrote, and a reload.
"""

from __future__ import annotations

from bedplate.act.run import run
from bedplate.host.root import Root
from bedplate.model.guard import GuardBounds, NeighbourLimits

CONTROL = "/run/systemd/system.control"
PROPERTIES = ("CPUQuota", "MemoryHigh", "IOWeight")
_TIMEOUT_S = 30.0


def move_limits(unit: str, old: NeighbourLimits, new: NeighbourLimits, bounds: GuardBounds) -> None:
    """Set what differs. Raises CommandError when the service manager refuses."""
    words: list[str] = []
    if new.cpu_max_pct != old.cpu_max_pct:  # CPUQuota= is of one CPU, the limit of all of them
        words.append("CPUQuota=" if new.cpu_max_pct is None else f"CPUQuota={new.cpu_max_pct * bounds.cpus}%")
    if new.memory_high_bytes != old.memory_high_bytes:
        high = "infinity" if new.memory_high_bytes is None else str(new.memory_high_bytes)
        words.append(f"MemoryHigh={high}")
    if new.io_weight != old.io_weight:
        words.append(f"IOWeight={'' if new.io_weight is None else new.io_weight}")
    if words:
        run(["systemctl", "set-property", "--runtime", unit, *words], timeout_s=_TIMEOUT_S)


def release_limits(root: Root, unit: str) -> tuple[str, ...]:
    """Take back what move_limits set; the files that were removed. The unit's own limits hold again."""
    removed: list[str] = []
    for name in PROPERTIES:
        where = f"{CONTROL}/{unit}.d/50-{name}.conf"
        file = root.at(where)
        if file.exists():
            file.unlink()
            removed.append(where)
    if removed:
        run(["systemctl", "daemon-reload"], timeout_s=_TIMEOUT_S)
    return tuple(removed)
