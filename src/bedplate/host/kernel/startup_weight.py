"""The CPU weight that a slice has once the boot is over, where its unit has another until then.

While the machine starts cpu.weight holds StartupCPUWeight= (systemd.resource-control(5)). A plan that took it for the
property would find a change where there is none, and its undo would wait for a value that never comes back.
"""

from __future__ import annotations

import re

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, known

# In the order of systemd.unit(5): a file in the first wins, of drop-ins the last in the order of their names.
_DIRECTORIES = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/etc/systemd/system"),
    *("/run/systemd/system", "/usr/lib/systemd/system"),
)
_WEIGHT = re.compile(r"^[ \t]*(Startup)?CPUWeight[ \t]*=[ \t]*+(\w*)[ \t]*$", re.MULTILINE)
_LIMIT = 64 << 10  # bytes
_KERNEL_DEFAULT = "100"


def read_settled_weight(root: Root, unit: str, weight: Reading[str]) -> Reading[str]:
    """cpu.weight of a slice as it is when the boot is over; `weight` itself where no other is in force now."""
    properties = _read_weights(root, unit)
    settled = properties[""] or _KERNEL_DEFAULT
    if properties["Startup"] and weight.value == properties["Startup"] and settled.isdecimal() and settled != weight.value:
        return known(settled, f"{unit}: CPUWeight=", f"{weight.value} until the boot is over")
    return weight


def _read_weights(root: Root, unit: str) -> dict[str, str]:
    """CPUWeight ("") and StartupCPUWeight ("Startup") as the unit's files set them; "" for what none sets."""
    dropins: dict[str, str] = {}
    fragment = ""
    for directory in reversed(_DIRECTORIES):
        if root.exists(f"{directory}/{unit}"):
            fragment = f"{directory}/{unit}"
        where = f"{directory}/{unit}.d"
        dropins |= {name: f"{where}/{name}" for name in root.listdir(where) if name.endswith(".conf")}
    found = {"": "", "Startup": ""}
    for path in (fragment, *(dropins[name] for name in sorted(dropins))):
        text = root.read(path, limit=_LIMIT).value if path else None
        found |= {match[1] or "": match[2] for match in _WEIGHT.finditer(text or "")}
    return found
