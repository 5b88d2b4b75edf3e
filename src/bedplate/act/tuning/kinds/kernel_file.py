"""Files of the kernel that hold one value: /proc/sys, /proc/irq, /sys. A write takes effect at once and is read back.

vm.dirty_bytes and vm.dirty_ratio are one setting in two units: writing one makes the other 0, and 0 cannot be written back
(EINVAL below two pages), so its counterpart is (admin-guide/sysctl/vm.rst). What shall last is written to sysctl.d(5), as a
rule of udev(7) for a device, or else to tmpfiles.d(5).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from bedplate.act.durable import write_all
from bedplate.act.tuning.kinds.generated_file import make_head, want_files
from bedplate.act.tuning.kinds.kind import SettingKind, Stage, StepKind, TextsBefore, report
from bedplate.act.tuning.meaning import is_same, satisfies
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.step import AppliedValue, Step, StepContext, Target, Wanted
from bedplate.errors import BedplateError, GoneError
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Parse, parse_value
from bedplate.model.tuning import Change, Held, Means, Setting, Verified

_MACHINE = Path("/")
_ALLOWED = ("/proc/sys/", "/proc/irq/", "/sys/")
_RENUMBERED = ("/proc/irq/", "/sys/fs/cgroup/")  # numbers of interrupts and of devices differ from boot to boot
_COUNTERPARTS = {
    "/proc/sys/vm/dirty_bytes": "/proc/sys/vm/dirty_ratio",
    "/proc/sys/vm/dirty_background_bytes": "/proc/sys/vm/dirty_background_ratio",
    "/proc/sys/vm/overcommit_kbytes": "/proc/sys/vm/overcommit_ratio",
}
_COUNTERPARTS |= {ratio: size for size, ratio in _COUNTERPARTS.items()}
_POLICIES = "/sys/devices/system/cpu/cpufreq/policy"
"""Files of a policy whose CPUs are all offline answer EBUSY (show() and store() of drivers/cpufreq/cpufreq.c)."""
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO)
"""No such name, or a file that was open or is still listed and whose device is gone. EIO and EACCES are something else."""
_DEVICE = re.compile(r"/sys/(?:class/|bus/)?(block|net|pci/devices|pci)/([A-Za-z0-9:._-]+)/([A-Za-z0-9/_.-]+)", re.ASCII)


class KernelFile(SettingKind, StepKind):
    """A file of the kernel with one value, which is read and written as a whole."""

    journal_name = "kernel"
    stage = Stage.WRITE
    generated: ClassVar[tuple[str, ...]] = (
        "etc/sysctl.d/80-bedplate.conf",
        "etc/tmpfiles.d/80-bedplate.conf",
        "etc/udev/rules.d/80-bedplate.rules",
    )

    # -- as a plan names it

    def owns(self, setting: Setting) -> bool:
        return setting.means is Means.FILE

    def files_of(self, setting: Setting) -> tuple[str, ...]:
        return (setting.name,)

    def check(self, change: Change, root: Root) -> str | None:
        problem = check_path(root, change.setting.name)
        if problem is None and (not change.new.isprintable() or not change.new):
            return f"{change.setting}: {change.new!r} cannot be written"
        return problem

    def plan_targets(self, changes: Sequence[Change], place: Place, digest: str) -> Iterator[Wanted]:
        if place.persist:
            yield from want_files(_render_lasting(changes, place.stem, make_head(digest)))
        for change in changes:
            lasts = place.persist and _can_last(change)
            yield Wanted(target=self.target_of(change, place.root, lasts=lasts), text=change.new, change=change)

    def target_of(self, change: Change, root: Root, *, lasts: bool = False) -> Target:
        """The file that a change names, with its counterpart as it is now. lasts: whether a boot sets the value again."""
        path = change.setting.name
        counterpart = _COUNTERPARTS.get(path)
        text = (root.read(counterpart).value or "") if counterpart is not None else ""
        return Target(kind=self, path=path, parse=change.parse, counterpart=text, lasts=lasts)

    def satisfies(self, change: Change, text: str) -> bool | None:
        return satisfies(change, text, change.setting.name)

    def verify(
        self, changes: Sequence[Change], *, root: Root, services: Services, since_s: float | None
    ) -> tuple[Verified, ...]:
        return tuple(self._verify(change, root) for change in changes)

    def texts_before(self, changes: Sequence[Change], values: Sequence[AppliedValue], root: Root) -> TextsBefore:
        texts: dict[str, str] = {}
        for value in values:
            if value.target.kind is not self or value.before is None:
                continue
            path = value.target.path
            try:
                now, text = self.read(value.target, root), read_text(root, path)
            except BedplateError:
                continue
            if self.is_same(value.target, now, value.written):
                texts[path] = self.text_before(value, texts.get(path, text))
        return {**texts}

    def text_before(self, value: AppliedValue, text: str) -> str:
        """The whole text of the file as it was before the value was applied; text: as it is with the value."""
        return value.before or ""

    def _verify(self, change: Change, root: Root) -> Verified:
        try:
            text = self.read(self.target_of(change, root), root)
        except BedplateError as error:
            return report(change, Held.UNKNOWN, None, error.message)
        return self.judge(change, text)

    # -- as a step writes it

    def describe(self, step: Step) -> str:
        return f"write {step.target.path}"

    def read(self, target: Target, root: Root) -> str:
        """What can be written again: the chosen word of a choice, all of the text else."""
        text = read_text(root, target.path)
        if target.parse is not Parse.CHOICE:
            return text
        try:
            return str(parse_value(text, target.parse))
        except ValueError as error:
            raise BedplateError(f"{target.path}: {error}") from error

    def is_same(self, target: Target, text: str | None, other: str | None) -> bool:
        return is_same(target.path, text or "", other or "", target.parse)

    def find_conflict(self, wanted: Wanted, now: str | None, root: Root, *, applied: bool) -> str | None:
        change = wanted.change
        if applied or change is None or change.old is None or self.is_same(wanted.target, now, change.old):
            return None
        return f"{change.setting}: was {change.old!r} when the plan was made, is {now!r} now"

    def is_wanted(self, wanted: Wanted, now: str | None) -> bool:
        return wanted.change is not None and self.satisfies(wanted.change, now or "") is True

    def say_changed(self, value: AppliedValue, now: str | None) -> str:
        return f"{value.target.path}: bedplate wrote {value.written!r}, the value is now {now!r}: left as it is"

    def write(self, step: Step, context: StepContext) -> str:
        self.write_value(step.target, step.after or "", context.root)
        return self.read(step.target, context.root)

    def took(self, step: Step, now: str, change: Change | None) -> bool:
        return self.satisfies(change, now) is True if change is not None else self.is_restored(step, now)

    def restore(self, step: Step, context: StepContext, *, left: str | None, torn: bool) -> str | None:
        target = step.target
        try:
            now = self.read(target, context.root)
        except GoneError:
            raise
        except BedplateError:
            if not torn:
                raise
            now = ""
        if self.is_restored(step, now):
            return None
        # Only the process that was killed wrote there: what it left half written is not somebody else's.
        if not torn and not any(self.is_same(target, now, text) for text in (step.before, left)):
            return f"{target.path}: is {now!r}, which bedplate did not write: left as it is"
        now = self.write(step, context)
        if not self.is_restored(step, now):
            raise BedplateError(f"{target.path}: wrote {step.after}, the kernel shows {now}")
        return None

    def is_restored(self, step: Step, now: str) -> bool:
        """Whether the file holds the text after the step, in whatever form the kernel shows it."""
        return self.is_same(step.target, now, step.after)

    def write_value(self, target: Target, text: str, root: Root) -> None:
        """Write a value; "0" of a file with a counterpart stands for the counterpart's text, which is written there."""
        counterpart = _COUNTERPARTS.get(target.path)
        if counterpart is not None and text.strip() == "0" and target.counterpart not in ("", "0"):
            write_text(root, counterpart, target.counterpart)
        else:
            write_text(root, target.path, text)


KERNEL_FILE = KernelFile()


# -- what lasts


def _can_last(change: Change) -> bool:
    return not change.setting.name.startswith(_RENUMBERED)


def _render_lasting(changes: Iterable[Change], stem: str, head: str) -> dict[str, str]:
    """Path -> text of the files that set the values again at each boot."""
    sysctls: list[str] = []
    writes: list[str] = []
    rules: list[str] = []
    for change in changes:
        path = change.setting.name
        if not _can_last(change):
            continue
        if path.startswith("/proc/sys/"):
            key = path.removeprefix("/proc/sys/")
            sysctls.append(f"-{key if '.' in key else key.replace('/', '.')} = {change.new}")
        elif (device := _DEVICE.fullmatch(path)) and not re.search(r'[$%"]', change.new):
            subsystem = device[1].partition("/")[0]
            rules.append(
                f'ACTION!="remove", SUBSYSTEM=="{subsystem}", KERNEL=="{device[2]}", ATTR{{{device[3]}}}="{change.new}"'
            )
        else:
            argument = change.new.replace("\\", "\\\\").replace("%", "%%")
            writes.append(f"w- {path.replace('%', '%%')} - - - - {argument}")
    files = (
        (f"/etc/sysctl.d/{stem}.conf", sysctls),
        (f"/etc/tmpfiles.d/{stem}.conf", writes),
        (f"/etc/udev/rules.d/{stem}.rules", rules),
    )
    return {path: head + "\n".join(lines) + "\n" for path, lines in files if lines}


# -- reads and writes


def check_path(root: Root, path: str) -> str | None:
    """Why this file must not or cannot be written; None when nothing is wrong. Links are followed within /sys only."""
    if not path.startswith(_ALLOWED) or ".." in path.split("/") or "\0" in path:
        return f"{path}: is not below {', '.join(_ALLOWED)}"
    real = root.resolve(path)
    if real is None:
        return f"{path}: does not exist in this kernel"
    if not real.startswith(_ALLOWED):
        return f"{path}: leads to {real}, which is not below /sys or /proc/sys"
    try:
        status = os.stat(root.at(path))  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            return f"{path}: is not a regular file"
        if not status.st_mode & 0o222:
            return f"{path}: the kernel does not allow writing it"
        if not os.access(root.at(path), os.W_OK):
            return f"{path}: this user or container may not write it"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def read_text(root: Root, path: str) -> str:
    """All of the text. Raises GoneError where the file or its device is not there, else BedplateError with the reason."""
    reading = root.read(path)
    if reading.value is not None:
        return reading.value
    if is_gone(root, path):
        raise GoneError(f"{path}: is not there")
    raise BedplateError(f"{path}: cannot be read: {reading.text or reading.unknown}")


def is_gone(root: Root, path: str) -> bool:
    """Whether the file, or the device behind it, is not there. One that may not be opened or cannot be read now is."""
    try:
        descriptor = os.open(root.at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno in _GONE or (error.errno == errno.EBUSY and path.startswith(_POLICIES))
    return False


def write_text(root: Root, path: str, text: str, *, names_device: bool = False) -> None:
    """One write of the whole text, as the kernel wants it. names_device: the text begins with the device that it is for.

    Raises GoneError when the file or the device is not there, else BedplateError with the kernel's own word.
    """
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
        gone = (names_device and error.errno in _GONE) or is_gone(root, path)
        raise (GoneError if gone else BedplateError)(f"{path}: cannot write {text!r}: {error.strerror}") from error
