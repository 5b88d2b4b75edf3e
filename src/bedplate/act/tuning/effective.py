"""What is in force: the effective value of a change, read from the kernel, and how it compares with what was wanted.

A property of a unit is read from the unit's cgroup. "Cannot know" is UNKNOWN and never counts as holding.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.act.tuning.kernel_file import read_kernel_file
from bedplate.act.tuning.meaning import holds_keyed, is_keyed, is_same
from bedplate.act.tuning.services import Services
from bedplate.errors import BedplateError
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Compare, holds, parse_value
from bedplate.model.tuning import UNIT_PROPERTIES, Change, Held, Means, Verified

_SHOWN = ("ActiveState", "ControlGroup", "ActiveEnterTimestampMonotonic", "StartupCPUWeight")


def verify_changes(
    changes: Sequence[Change], *, root: Root, services: Services, since_s: float | None = None
) -> tuple[Verified, ...]:
    """Each change with what is in force. since_s: CLOCK_MONOTONIC at which it was applied, for properties that show only in
    units that started after; None when it was in another boot."""
    units = sorted({change.setting.name for change in changes if change.setting.means is Means.UNIT})
    shown: dict[str, dict[str, str]] = {}
    problem = ""
    if units:
        more = sorted(
            {change.setting.key for change in changes if change.setting.key and change.setting.key not in UNIT_PROPERTIES}
        )
        try:
            if services.is_running():
                shown = services.show(units, [*_SHOWN, *more])
            else:
                problem = "systemd is not running"
        except BedplateError as error:
            problem = error.message
    mount = cgroup_mount(root)
    found = []
    for change in changes:
        match change.setting.means:
            case Means.FILE:
                found.append(_verify_file(change, root))
            case Means.CMDLINE:
                found.append(_verify_parameter(change, root))
            case Means.UNIT if problem:
                found.append(_said(change, Held.UNKNOWN, None, problem))
            case Means.UNIT:
                found.append(_verify_property(change, root, mount, shown[change.setting.name], since_s))
    return tuple(found)


def cgroup_mount(root: Root) -> str:
    """Where cgroup v2 is mounted: "/sys/fs/cgroup", or "/sys/fs/cgroup/unified" beside v1; "" where it is not."""
    for point in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if root.exists(f"{point}/cgroup.controllers"):
            return point
    return ""


def read_property(root: Root, cgroup: str, key: str) -> str | None:
    """Effective text of a unit's property in its cgroup, a directory; None when the kernel does not show it."""
    if key == "CPUWeight" and root.read(f"{cgroup}/cpu.idle").value == "1":
        return "idle"
    text = root.read(f"{cgroup}/{UNIT_PROPERTIES[key].file}").value
    if key == "IOWeight" and text is not None:  # "default 100", then a line for each device with its own
        return next((line for line in text.splitlines() if line.startswith("default ")), text)
    return text


def satisfies(change: Change, text: str) -> bool | None:
    """Whether an effective text is what the change wants; None when that cannot be said."""
    key = change.setting.key
    try:
        if is_keyed(change.setting.name):
            return holds_keyed(text, change.new)
        if "idle" in (text, change.new):
            return text == change.new
        name = UNIT_PROPERTIES[key].file if key in UNIT_PROPERTIES else change.setting.name
        if change.compare not in (Compare.ABSENT, Compare.NOT_CONTAINS) and is_same(name, text, change.new, change.parse):
            return True
        wanted, value = parse_value(change.new, change.parse), parse_value(text, change.parse)
        return holds(value, change.compare, (wanted,))
    except ValueError:
        return None


def _verify_file(change: Change, root: Root) -> Verified:
    key = change.new.split(" ", 1)[0]
    try:
        text = read_kernel_file(root, change.setting.name, change.parse, key=key)
    except BedplateError as error:
        return _said(change, Held.UNKNOWN, None, error.message)
    return _judge(change, text)


def _verify_parameter(change: Change, root: Root) -> Verified:
    line = root.read("/proc/cmdline").value
    if line is None:
        return _said(change, Held.UNKNOWN, None, "/proc/cmdline cannot be read")
    if change.compare is Compare.ABSENT:
        left = [word for word in line.split() if word.partition("=")[0] == change.setting.name]
        if left:
            return _said(change, Held.PENDING, " ".join(left), "is gone from the next boot on")
        return _said(change, Held.HOLDS, None, "")
    word = f"{change.setting.name}={change.new}" if change.new else change.setting.name
    if word in line.split():
        return _said(change, Held.HOLDS, word, "")
    return _said(change, Held.PENDING, None, "takes effect at the next boot")


def _verify_property(change: Change, root: Root, mount: str, shown: dict[str, str], since_s: float | None) -> Verified:
    key = change.setting.key
    if shown.get("ActiveState") not in ("active", "reloading", "deactivating", "activating"):
        return _said(change, Held.PENDING, None, f"{change.setting.name} does not run")
    if key.startswith("Startup"):
        return _said(change, Held.PENDING, None, "acts only while the machine starts")
    if key not in UNIT_PROPERTIES:
        return _verify_started(change, shown, since_s)
    path = shown.get("ControlGroup", "")
    if not mount or not path:
        if mount and change.setting.name.endswith(".slice"):
            return _said(change, Held.PENDING, None, f"{change.setting.name} has no control group yet")
        return _said(change, Held.UNKNOWN, None, f"{change.setting.name}: its control group is not known")
    group = f"{mount}{path if path != '/' else ''}"
    if not root.exists(group):  # an active slice has one only while something is in it
        return _said(change, Held.PENDING, None, f"{change.setting.name} has no control group yet")
    text = read_property(root, group, key)
    if text is None and not root.exists(group):
        return _said(change, Held.PENDING, None, f"{change.setting.name} has no control group any more")
    if text is None:
        return _said(change, Held.UNKNOWN, None, f"{group}/{UNIT_PROPERTIES[key].file}: cannot be read")
    found = _judge(change, text)
    if found.held is Held.DIFFERS and key == "CPUWeight" and text == shown.get("StartupCPUWeight"):
        return _said(change, Held.PENDING, text, "the unit's StartupCPUWeight= counts until the boot is over")
    return found


def _verify_started(change: Change, shown: dict[str, str], since_s: float | None) -> Verified:
    """A property that no cgroup file shows: in force in units that started after it was written."""
    text = shown.get(change.setting.key)
    if text is None:
        return _said(change, Held.UNKNOWN, None, f"systemd does not know {change.setting.key}=")
    if text != change.new:
        return _said(change, Held.DIFFERS, text, "systemd says otherwise")
    started_us = shown.get("ActiveEnterTimestampMonotonic", "0")
    if since_s is None or (started_us.isdecimal() and int(started_us) / 1e6 > since_s):
        return _said(change, Held.HOLDS, text, "")
    return _said(change, Held.PENDING, text, f"takes effect when {change.setting.name} starts again")


def _judge(change: Change, text: str) -> Verified:
    answer = satisfies(change, text)
    if answer is None:
        return _said(change, Held.UNKNOWN, text, f"{text[:60]!r} cannot be compared with {change.new!r}")
    if answer:
        return _said(change, Held.HOLDS, text, "")
    return _said(change, Held.DIFFERS, text, f"wanted {change.new}, the kernel says {text or 'nothing'}")


def _said(change: Change, held: Held, effective: str | None, because: str) -> Verified:
    return Verified(change=change, held=held, effective=effective, because=because)
