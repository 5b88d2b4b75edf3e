"""Files of the kernel: what they hold, in a form that can be written again, and the write that is read back.

Three are not as simple as they look. vm.dirty_bytes and vm.dirty_ratio are one setting in two units: writing one makes
the other 0, and 0 cannot be written back (EINVAL below two pages), so the twin is. io.cost.model and io.cost.qos hold a line
for each device, and only the line of the written device counts (admin-guide/sysctl/vm.rst, cgroup-v2.rst). When io.cost of a
disk is enabled the kernel disables its writeback throttling (wbt_disable_default() in block/blk-iocost.c); it is enabled
again here, since a load beside a flood of dirty pages keeps more with both.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from bedplate.act.tuning.durable import write_all
from bedplate.act.tuning.meaning import is_keyed
from bedplate.errors import BedplateError, GoneError
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Parse, parse_value

_MACHINE = Path("/")
ALLOWED = ("/proc/sys/", "/proc/irq/", "/sys/")
_TAKEN_BACK = {"io.cost.qos": "enable=0 ctrl=auto", "io.cost.model": "ctrl=auto"}
"""Files with a line for each device -> what takes back a line that was not there."""
_TWINS = {
    "/proc/sys/vm/dirty_bytes": "/proc/sys/vm/dirty_ratio",
    "/proc/sys/vm/dirty_background_bytes": "/proc/sys/vm/dirty_background_ratio",
    "/proc/sys/vm/overcommit_kbytes": "/proc/sys/vm/overcommit_ratio",
}
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO)
"""No such name, or a file that was open or is still listed and whose device is gone. EIO and EACCES are something else."""
_THROTTLING = "/sys/dev/block/{number}/queue/wbt_lat_usec"
_TWINS |= {ratio: size for size, ratio in _TWINS.items()}


def read_kernel_file(root: Root, path: str, parse: Parse, *, key: str = "") -> str:
    """What can be written again: the chosen word of a choice, the line of device `key` of a keyed file ("" for none), all of
    the text else.

    Raises GoneError where the file or its device is not there, BedplateError where it is there and cannot be read.
    """
    reading = root.read(path)
    if reading.value is None:
        if is_gone(root, path):
            raise GoneError(f"{path}: is not there")
        raise BedplateError(f"{path}: cannot be read: {reading.text or reading.unknown}")
    if is_keyed(path):
        return next((_writable(line) for line in reading.value.splitlines() if line.split(" ", 1)[0] == key), "")
    if parse is Parse.CHOICE:
        try:
            return str(parse_value(reading.value, parse))
        except ValueError as error:
            raise BedplateError(f"{path}: {error}") from error
    return reading.value


def is_gone(root: Root, path: str) -> bool:
    """Whether the file, or the device behind it, is not there. One that may not be opened or cannot be read now is."""
    try:
        descriptor = os.open(root.at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno in _GONE
    return False


def read_twin(root: Root, path: str) -> str:
    """Text of the file that writing this one clears; "" where there is none."""
    twin = _TWINS.get(path)
    return (root.read(twin).value or "") if twin is not None else ""


def write_kernel_file(root: Root, path: str, text: str) -> None:
    """One write of the whole text, as the kernel wants it; the writeback throttling of a disk stays as it was.

    Raises GoneError when the file or the device that the text names is not there, else BedplateError with the kernel's
    own word.
    """
    throttling = _THROTTLING.format(number=text.partition(" ")[0]) if path.endswith("/io.cost.qos") else ""
    before = root.read(throttling).value if throttling else None
    _write(root, path, text)
    if before is not None and root.read(throttling).value != before:
        _write(root, throttling, "0")  # to write what it was before it was switched off does nothing (queue_wb_lat_store())
        _write(root, throttling, before)


def _write(root: Root, path: str, text: str) -> None:
    where = root.at(path)
    try:
        descriptor = os.open(where, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            data = f"{text}\n".encode()
            write_all(descriptor, data)
            if root.path != _MACHINE:  # a plain file in a tree keeps what was longer; the kernel's are no such
                os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)
    except OSError as error:
        # A file that is there may answer ENODEV for a reason of its own; of a line for a device it means the device.
        gone = error.errno in _GONE and (is_keyed(path) or is_gone(root, path))
        raise (GoneError if gone else BedplateError)(f"{path}: cannot write {text!r}: {error.strerror}") from error


def restore_kernel_file(root: Root, path: str, before: str, *, twin: str, key: str = "") -> None:
    """Write back what was there. Raises as `write_kernel_file` does.

    Two texts stand for something else: "" of a keyed file for no line of the device `key`, which is taken back by what
    disables it; and "0" of a file with a twin for the twin's text, which is written there.
    """
    if is_keyed(path) and not before:
        before = f"{key} {_TAKEN_BACK[path.rpartition('/')[2]]}"
    other = _TWINS.get(path)
    if other is not None and before.strip() == "0" and twin not in ("", "0"):
        write_kernel_file(root, other, twin)
        return
    write_kernel_file(root, path, before)


def check_kernel_file(root: Root, path: str) -> str | None:
    """Why this file must not or cannot be written; None when nothing is wrong. Links are followed within /sys only."""
    if not path.startswith(ALLOWED) or ".." in path.split("/") or "\0" in path:
        return f"{path}: is not below {', '.join(ALLOWED)}"
    real = root.resolve(path)
    if real is None:
        return f"{path}: this kernel does not have it"
    if not real.startswith(ALLOWED):
        return f"{path}: leads to {real}, out of /sys and /proc/sys"
    try:
        status = os.stat(root.at(path))  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            return f"{path}: is not a regular file"
        if not status.st_mode & 0o222:
            return f"{path}: the kernel does not let it be written"
        if not os.access(root.at(path), os.W_OK):
            return f"{path}: is not writable for this user or in this container"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _writable(line: str) -> str:
    """A device's line as it can be written again: of one with ctrl=auto the kernel computes the rest, and a coefficient that
    is written makes it ctrl=user (ioc_qos_write() and ioc_cost_model_write() in block/blk-iocost.c)."""
    words = line.split()
    if "ctrl=auto" not in words:
        return line
    return " ".join([words[0], *(word for word in words[1:] if word.startswith(("enable=", "ctrl=")))])
