"""Move the neighbours' limits, as the service manager owns them: `systemctl set-property --runtime`, and give them back.

Such a property outranks drop-ins of the unit (systemd.resource-control(5)) and outlives who set it. So before the first one
is set, what was there is written down, and a timer of systemd is armed that gives it back unless it is renewed: a guard that
was killed, was stopped or hangs leaves no limit behind for longer than LEASE_S. To give back is to restore the files that
set-property wrote, where they still are as it wrote them, and to reload.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.act import systemd
from bedplate.act.durable import make_directories, remove_if_empty, remove_whole, write_whole
from bedplate.act.lock import try_lock
from bedplate.act.revert_timer import bedplate_argv, render_service, render_timer
from bedplate.act.tuning.services import Services, Systemctl
from bedplate.errors import BedplateError, BusyError, CommandError, ReadError
from bedplate.host.kernel.groups import slice_path
from bedplate.host.kernel.guard_readings import MOUNT
from bedplate.host.root.root import Root
from bedplate.model.guard import GuardBounds, NeighbourLimits, Released

CONTROL = "/run/systemd/system.control"
LEASE_S = 120
RENEW_S = 30.0
"""How often a guard that has set limits must renew its lease; beside a busy engine the service manager answers slowly."""
_UNITS = "/run/systemd/system"
_STATE = "/run/bedplate/guard"
_SCHEMA = 1
_MOVE_S = 4 * systemd.ANSWER_S
"""For how long a move is waited for: of its commands each ends in time, and where it has not ended then, its guard hangs."""
_POLL_S = 0.2
_HEAD = "# Made by `bedplate guard`; removed when the guard restores its limits.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What a guard has set of a unit."""

    planned: NeighbourLimits
    before: dict[str, str | None]
    """Property -> text of its file before; None: there was none."""
    ours: dict[str, str | None]
    """Property -> text that set-property wrote; None: it was about to."""


def move_limits(root: Root, unit: str, old: NeighbourLimits, new: NeighbourLimits, bounds: GuardBounds) -> None:
    """Set what differs.

    Raises CommandError when the service manager refuses, for instance since the unit is gone, and where somebody else has
    changed a limit of the guard's, which is left to them then; BedplateError when the record of what was there before cannot
    be written.
    """
    values: dict[str, str] = {}
    if new.cpu_max_pct != old.cpu_max_pct:  # CPUQuota= is of one CPU, the limit of all of them
        values["CPUQuota"] = "" if new.cpu_max_pct is None else f"{new.cpu_max_pct * bounds.cpus}%"
    if new.memory_high_bytes != old.memory_high_bytes:
        values["MemoryHigh"] = "infinity" if new.memory_high_bytes is None else str(new.memory_high_bytes)
    if new.io_weight != old.io_weight:
        values["IOWeight"] = "" if new.io_weight is None else str(new.io_weight)
    if not values:
        return
    with _hold_moves(root, unit) as held:
        if not held:
            raise CommandError(f"{unit}: another process is restoring its limits and does not finish", status=None)
        _set(root, unit, values, bounds)


def _set(root: Root, unit: str, values: dict[str, str], bounds: GuardBounds) -> None:
    record = _read_record(root, unit) or _Record(planned=bounds.planned, before={}, ours={})
    now = {name: _read(root, unit, name) for name in values}
    for name, text in now.items():
        if record.ours.get(name) not in (None, text) and text != record.before.get(name):
            raise CommandError(f"{_file(unit, name)}: another program changed it; left as it is", status=None)
    before = now | record.before
    _write_record(root, unit, _Record(planned=record.planned, before=before, ours=record.ours | dict.fromkeys(values)))
    renew_lease(root, unit)
    systemd.set_runtime_properties(unit, values)
    ours = record.ours | {name: _read(root, unit, name) for name in values}
    _write_record(root, unit, _Record(planned=record.planned, before=before, ours=ours))
    if not all(file.exists() for file in _lease_files(root, unit)):  # a release that did not wait for this has taken it
        renew_lease(root, unit)


def release_limits(root: Root, unit: str, *, services: Services | None = None) -> Released:
    """Give back what move_limits set and nobody changed since; the unit's own limits hold again.

    Waits for a move that is being made, but not for ever, since its guard may hang. Interrupted, or failed with an error, it
    is done again by the timer. Nothing was set: nothing is done.
    """
    with contextlib.ExitStack() as stack:
        if root.exists(_STATE):  # made before the first move
            with contextlib.suppress(BedplateError):  # on a full disk too limits are given back
                stack.enter_context(_hold_moves(root, unit))
        return _release(root, unit, services)


def _release(root: Root, unit: str, services: Services | None) -> Released:
    record = _read_record(root, unit)
    if record is None:
        _disarm(root, unit)
        return Released(files=(), drifted=())
    files: list[str] = []
    drifted: list[str] = []
    left: list[str] = []
    for name, before in record.before.items():
        where, now, ours = _file(unit, name), _read(root, unit, name), record.ours.get(name)
        if now == before:
            continue
        if now is None or (ours is not None and now != ours):
            drifted.append(f"{where}: was {'removed' if now is None else 'changed'} by another program; left as it is")
            left.append(name)
            continue
        try:
            if before is None:
                remove_whole(root.at(where))
            else:
                write_whole(root.at(where), before)
        except OSError as error:
            raise BedplateError(f"{where}: cannot be written: {error.strerror}") from error
        files.append(where)
    remove_if_empty(root.at(f"{CONTROL}/{unit}.d"))
    (services or Systemctl(root.path)).reload((unit,))
    remove_whole(_record_file(root, unit))
    _disarm(root, unit)
    _tidy(root)
    return Released(files=tuple(files), drifted=tuple(drifted), left=tuple(left))


def renew_lease(root: Root, unit: str) -> None:
    """Let the limits be given back LEASE_S from now, and not before. Raises CommandError."""
    timer, service = _lease_files(root, unit)
    if timer.exists() and service.exists():
        systemd.restart((timer.name,))
        return
    top = () if root.path == Path("/") else ("--root", str(root.path))
    argv = bedplate_argv("guard", "--release", "--neighbour", unit, *top)
    description = f"Restore the limits of {unit} after bedplate guard did not end properly"
    try:
        make_directories(timer.parent, root.path)
        write_whole(service, render_service(argv, head=_HEAD, description=description))
        write_whole(timer, render_timer(LEASE_S, head=_HEAD, description=description))
    except OSError as error:
        raise BedplateError(f"{timer}: cannot be written: {error.strerror}") from error
    systemd.reload_units()
    systemd.start((timer.name,))


def has_set_limits(root: Root, unit: str) -> bool:
    """Whether limits of the unit that a guard has set were not given back; the guard need not run any more."""
    return _record_file(root, unit).exists()


def read_planned(root: Root, unit: str) -> NeighbourLimits | None:
    """The limits that stood before a guard set its own; None when none has.

    Raises ReadError for a record that no guard writes.
    """
    record = _read_record(root, unit)
    return record.planned if record is not None else None


@contextlib.contextmanager
def hold_guard_lock(root: Root, unit: str) -> Iterator[None]:
    """One guard for a unit at a time; raises BusyError. `release_limits` needs it not: the timer comes when a guard hangs.

    The kernel drops the lock when its holder ends. The file stays: removing it would let two lock two files of one name.
    """
    with _open_lock(root, unit, "lock") as descriptor:
        if not try_lock(descriptor):
            raise BusyError(f"{unit}: another bedplate guard is changing its limits", hint="Stop the other guard first.")
        yield


@contextlib.contextmanager
def _hold_moves(root: Root, unit: str) -> Iterator[bool]:
    """Whether this is the only one that moves or gives back limits of the unit: a release in the middle of a move would take
    the lease of a limit that is set right after. False where somebody else held it all the time."""
    with _open_lock(root, unit, "moves") as descriptor:
        until = time.monotonic() + _MOVE_S
        while not (held := try_lock(descriptor)) and time.monotonic() < until:
            time.sleep(_POLL_S)
        yield held


@contextlib.contextmanager
def _open_lock(root: Root, unit: str, kind: str) -> Iterator[int]:
    path = root.at(f"{_STATE}/{unit}.{kind}")
    try:
        make_directories(path.parent, root.path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BedplateError(f"{path}: cannot take the lock: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def find_group(root: Root, unit: str) -> str:
    """The unit's control group below /sys/fs/cgroup. Raises CommandError where it has none, and systemd says no more.

    A slice lies in those that its name says, whether it is active or not; of other units systemd knows where they are.
    """
    if unit.endswith(".slice"):
        derived = slice_path(unit).lstrip("/")
        if root.exists(f"{MOUNT}/{derived}") or not root.exists(f"{MOUNT}/cgroup.controllers"):
            return derived
    shown = systemd.show((unit,), ("ControlGroup",))[unit].get("ControlGroup", "").strip("/")
    if shown:
        return shown
    if unit.endswith(".slice"):
        return derived
    raise CommandError(f"{unit}: has no control group because it is not running", status=None, hint="Start the unit first.")


def _disarm(root: Root, unit: str) -> None:
    timer, service = _lease_files(root, unit)
    if not timer.exists() and not service.exists():
        return
    with contextlib.suppress(CommandError):  # one that fires all the same finds nothing to give back
        systemd.stop((timer.name,))
    remove_whole(timer)
    remove_whole(service)
    with contextlib.suppress(CommandError):
        systemd.reload_units()


def _lease_files(root: Root, unit: str) -> tuple[Path, Path]:
    """Timer and service."""
    stem = f"{_UNITS}/bedplate-guard-{unit}"
    return root.at(f"{stem}.timer"), root.at(f"{stem}.service")


def _file(unit: str, name: str) -> str:
    return f"{CONTROL}/{unit}.d/50-{name}.conf"


def _read(root: Root, unit: str, name: str) -> str | None:
    try:
        return root.at(_file(unit, name)).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _record_file(root: Root, unit: str) -> Path:
    return root.at(f"{_STATE}/{unit}.json")


def _read_record(root: Root, unit: str) -> _Record | None:
    path = _record_file(root, unit)
    try:
        row: dict[str, Any] = json.loads(path.read_text())
        if row["schema"] != _SCHEMA:
            raise ValueError(f"schema {row['schema']!r}")
        return _Record(planned=NeighbourLimits(**row["planned"]), before=dict(row["before"]), ours=dict(row["ours"]))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(
            f"{path}: is not a valid record of bedplate guard: {error}",
            hint=f"Remove the files that it names in {CONTROL}/{unit}.d, then the record, and reload systemd.",
        ) from error


def _write_record(root: Root, unit: str, record: _Record) -> None:
    path = _record_file(root, unit)
    try:
        make_directories(path.parent, root.path)
        write_whole(path, json.dumps({"schema": _SCHEMA, **asdict(record)}, indent=1) + "\n", mode=0o600)
    except OSError as error:
        raise BedplateError(f"{path}: cannot be written: {error.strerror}") from error


def _tidy(root: Root) -> None:
    directory = root.at(_STATE)
    if remove_if_empty(directory):
        remove_if_empty(directory.parent)
