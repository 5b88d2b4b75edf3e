"""Whether this system upgrades itself, and whether it leaves the GPU driver alone: apt.conf(5), dnf-automatic(8)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing

_CONF_LIMIT = 1 << 20  # bytes of one file of apt's configuration
_STATUS_LIMIT = 16 << 20  # bytes; dpkg's status of a desktop with 4000 packages is 5 MB
# Packages of a GPU's kernel driver and of the library that has to be of the same version; Mesa's are not among them.
_DRIVER_NAMES = (
    r"(?:nvidia-(?:driver|dkms|open|kernel|headless|fabricmanager|utils)|linux-(?:modules|objects|signatures)-nvidia"
    r"|libnvidia-(?:compute|cfg|ml)|libcuda1|cuda-drivers|amdgpu-(?:dkms|core)|rock-dkms|intel-i915-dkms|intel-gpu-kernel)"
)
_BLACKLISTED = re.compile(r"nvidia|cuda|amdgpu|rocm|i915", re.IGNORECASE)
DRIVER_ROW = re.compile(
    rf"^Package: (?P<name>{_DRIVER_NAMES}[^\n]*)\nStatus: (?P<want>\S+) \S+ (?P<state>\S+)$",
    re.MULTILINE,
)
_PERIODIC = re.compile(
    r"APT::Periodic::Unattended-Upgrade\s++(?:\"(?P<quoted>[^\";]{0,80})\"|(?P<plain>[^\s\";]{0,80}))\s*+;", re.IGNORECASE
)
_BLACKLIST = re.compile(r"Unattended-Upgrade::Package-Blacklist\s*+\{(?P<rows>[^{}]*)\}", re.IGNORECASE)
_DNF_TIMERS = ("dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer")


def read_unattended(root: Root) -> Reading[bool]:
    """True when packages are upgraded without being asked; ABSENT on a system with neither apt nor dnf's timer."""
    value: Reading[bool] | None = None
    for where, text in _apt_files(root):
        for found in _PERIODIC.finditer(text):
            period = (found["quoted"] or found["plain"] or "").strip()
            value = known(period not in ("", "0"), where, found[0][:80])
    if value is not None:
        return value
    wanted = root.names("/etc/systemd/system/timers.target.wants").value or ()
    for timer in _DNF_TIMERS:
        if timer in wanted:
            where = "/etc/dnf/automatic.conf"
            text = root.read(where).value or ""
            installs = "install" in timer or re.search(
                r"^[ \t]*apply_updates[ \t]*=[ \t]*(yes|true|1)\b", text, re.MULTILINE | re.I
            )
            return known(bool(installs), where, f"{timer} is enabled")
    names = root.names("/etc/apt/apt.conf.d")
    if names.value is not None:
        return known(False, "/etc/apt/apt.conf.d", "APT::Periodic::Unattended-Upgrade is not set")
    return missing(names.unknown or Unknown.ABSENT, "/etc/apt/apt.conf.d")


def read_driver_held(root: Root) -> Reading[bool]:
    """True when every installed driver package is held or blacklisted; ABSENT when no package of a driver is installed."""
    where = "/var/lib/dpkg/status"
    status = root.read(where, limit=_STATUS_LIMIT)
    if status.value is None:
        return missing(status.unknown or Unknown.ABSENT, where, status.text)
    rows = [(row["name"], row["want"]) for row in DRIVER_ROW.finditer(status.value) if row["state"] == "installed"]
    if not rows:
        return missing(Unknown.ABSENT, where, "no package of a GPU driver is installed")
    free = [name for name, want in rows if want != "hold"]
    if not free:
        return known(True, where, "held")
    for conf, text in _apt_files(root):
        for block in _BLACKLIST.finditer(text):
            patterns = re.findall(r'"([^"\n]{1,200})"', block["rows"])
            if any(_BLACKLISTED.search(pattern) for pattern in patterns):
                return known(True, conf, "Unattended-Upgrade::Package-Blacklist")
    return known(False, where, f"{free[0]} is not held")


def _apt_files(root: Root) -> Iterator[tuple[str, str]]:
    """Files of apt's configuration in the order in which it reads them, without comments."""
    directory = "/etc/apt/apt.conf.d"
    files = [f"{directory}/{name}" for name in root.listdir(directory) if re.fullmatch(r"[\w.-]+", name)]
    for where in [
        *(file for file in files if "." not in file.rpartition("/")[2] or file.endswith(".conf")),
        "/etc/apt/apt.conf",
    ]:
        text = root.read(where, limit=_CONF_LIMIT).value
        if text is not None:
            yield where, re.sub(r"(?m)^[ \t]*(//|#(?!clear)).*$", "", text)
