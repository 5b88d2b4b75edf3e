"""Files of the kernel with a line for each device: io.cost.qos and io.cost.model of the root control group.

A write begins with the device ("259:0 enable=1 ...") and changes its line alone (admin-guide/cgroup-v2.rst). When io.cost of
a disk is enabled the kernel disables its writeback throttling (wbt_disable_default() in block/blk-iocost.c); it is enabled
again here, since a load beside a flood of dirty pages keeps more with both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bedplate.act.tuning.kinds.kernel_file import KernelFile, read_text, write_text
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import AppliedValue, Step, Target, Wanted
from bedplate.host.root.root import Root
from bedplate.model.tuning import Change, Setting

_DISABLED = {"io.cost.qos": "enable=0 ctrl=auto", "io.cost.model": "ctrl=auto"}
"""The files, and what takes back a line that was not there."""
_THROTTLING = "/sys/dev/block/{number}/queue/wbt_lat_usec"


class KeyedKernelFile(KernelFile):
    """A line for one device of such a file. Numbers of devices differ from boot to boot: nothing of it can last."""

    generated = ()

    def owns(self, setting: Setting) -> bool:
        return super().owns(setting) and self.owns_path(setting.name)

    def owns_path(self, path: str) -> bool:
        return path.rpartition("/")[2] in _DISABLED

    def identity(self, change: Change) -> tuple[object, ...]:
        return (change.setting, _device_of(change.new))

    def plan_targets(self, changes: Sequence[Change], place: Place, digest: str) -> Iterator[Wanted]:
        for change in changes:
            yield Wanted(target=self.target_of(change, place.root), text=change.new, change=change)

    def target_of(self, change: Change, root: Root, *, lasts: bool = False) -> Target:
        """The line of the device that the new text begins with."""
        return replace(super().target_of(change, root, lasts=lasts), key=_device_of(change.new))

    def satisfies(self, change: Change, text: str) -> bool | None:
        return says(text, change.new)

    def text_before(self, value: AppliedValue, text: str) -> str:
        """All lines of the other devices, then the line of this device as it was."""
        others = [line for line in text.splitlines() if line.split()[:1] != [value.target.key]]
        return "\n".join(filter(None, [*others, value.before]))

    def read(self, target: Target, root: Root) -> str:
        """The line of the device as it can be written again; "" where there is none."""
        lines = read_text(root, target.path).splitlines()
        return next((_writable(line) for line in lines if _device_of(line) == target.key), "")

    def is_same(self, target: Target, text: str | None, other: str | None) -> bool:
        return _pairs(text or "") == _pairs(other or "")

    def find_conflict(self, wanted: Wanted, now: str | None, root: Root, *, applied: bool) -> str | None:
        return None  # the kernel computes most of a line anew for each device: it is not what was there for the plan

    def is_restored(self, step: Step, now: str) -> bool:
        if step.after:
            return says(now, step.after)
        return not now or "enable=0" in now or ("ctrl=auto" in now and step.target.path.endswith("model"))

    def write_value(self, target: Target, text: str, root: Root) -> None:
        """Write a line; "" stands for no line of this device, and is written as what disables it."""
        write_line(root, target.path, text or f"{target.key} {_DISABLED[target.path.rpartition('/')[2]]}")


KEYED_KERNEL_FILE = KeyedKernelFile()


def write_line(root: Root, path: str, line: str) -> None:
    """Write the line of a device; the writeback throttling of the disk stays as it was. Raises as `write_text` does."""
    throttling = _THROTTLING.format(number=line.partition(" ")[0]) if path.endswith("/io.cost.qos") else ""
    before = root.read(throttling).value if throttling else None
    write_text(root, path, line, names_device=True)
    if before is not None and root.read(throttling).value != before:
        write_text(root, throttling, "0")  # to write what it was before it was disabled does nothing (queue_wb_lat_store())
        write_text(root, throttling, before)


def says(text: str, wanted: str) -> bool:
    """Whether a device's line says all that was written: "8:0 rpct=95.00 min=1" says "8:0 rpct=95"."""
    has = _pairs(text)
    return all(has.get(key) == value for key, value in _pairs(wanted).items())


def _device_of(line: str) -> str:
    return line.split(" ", 1)[0]


def _writable(line: str) -> str:
    """A device's line as it can be written again: of one with ctrl=auto the kernel computes the rest, and a coefficient that
    is written makes it ctrl=user (ioc_qos_write() and ioc_cost_model_write() in block/blk-iocost.c)."""
    words = line.split()
    if "ctrl=auto" not in words:
        return line
    return " ".join([words[0], *(word for word in words[1:] if word.startswith(("enable=", "ctrl=")))])


def _pairs(line: str) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for word in line.split():
        key, mark, value = word.partition("=")
        try:
            found[key] = float(value) if mark else ""
        except ValueError:
            found[key] = value
    return found
