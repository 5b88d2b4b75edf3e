"""The configuration of a machine: check it, show it, put it in force, confirm it, take it back.

Applying is a transaction (act/configuration). On a host that is no bedplate image only what bedplate itself reads is
applied: its network, name, time and journal belong to whoever set it up.
"""

from __future__ import annotations

import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bedplate.act.configuration import timer, transaction
from bedplate.act.configuration.machine_files import plan_files
from bedplate.act.configuration.place import ConfigPlace, hold_config
from bedplate.act.configuration.records import next_number, read_history, read_in_force, read_journal
from bedplate.act.configuration.services import ConfigServices, HostServices
from bedplate.act.configuration.transaction import Event
from bedplate.catalog.machine_config import parse_machine_config
from bedplate.config.difference import compare_configs, list_values
from bedplate.config.front import render_machine_file
from bedplate.config.kinds import KINDS, render_files
from bedplate.errors import BedplateError, BusyError, DataError, PreflightError, ReadError, UsageError
from bedplate.flows.config_file import GivenConfig, read_given, read_trusted
from bedplate.host.root.root import Root
from bedplate.host.system.addresses import read_addresses
from bedplate.host.system.booted import is_bedplate_system
from bedplate.host.system.front_record import read_front_record
from bedplate.model.config_change import (
    AppliedConfig,
    ConfigIdentity,
    ConfigOutcome,
    ConfigPlan,
    FileChange,
    KeyChange,
    RenderedFile,
    ShownConfig,
    unit_actions,
)
from bedplate.model.machine_config import MACHINE_FILES, MachineConfig
from bedplate.model.progress import Progress

_REACH_S = 60.0  # a DHCP lease after a reload of networkd: seconds on a quiet network, more where the first packet is lost
_SETTLE_S = 5.0
_POLL_S = 0.5
_NOBODY = 0xFFFFFFFF  # loginuid of a process that nobody logged in for (proc_pid_loginuid(5))
_ENDED = {"applied": "completed", "reverted": "completed", "taken back": "taken back"}


def check(path: Path) -> tuple[GivenConfig, tuple[str, ...]]:
    """(The configuration of a file, what it says that does not take effect yet). Raises ReadError, DataError."""
    given = read_given(path)
    return given, _later(compare_configs(MachineConfig(), given.config))


def show(root_dir: Path) -> ShownConfig:
    """What is in force. Raises ReadError, DataError for a machine.toml or a record that cannot be read."""
    root = Root(root_dir)
    record = read_in_force(ConfigPlace(top=root_dir))
    texts = ((path, root.read_text(path)) for path in MACHINE_FILES)
    source, text = next(((path, text) for path, text in texts if text is not None), ("", None))
    config = parse_machine_config(text, name=source) if text is not None else MachineConfig()
    return ShownConfig(
        source=source,
        values=list_values(config),
        defaults=list_values(MachineConfig()),
        identity=record.identity if record is not None else None,
        waits=record is not None and record.waits,
        by_hand=record is not None and record.text.rstrip() != text,
    )


def diff(path: Path, root_dir: Path) -> ConfigPlan:
    """What applying the file would change; changes nothing, and asks for no signature. Raises as `check`, PlanRefused."""
    place = ConfigPlace(top=root_dir)
    return _plan(read_given(path), Root(root_dir), place, read_in_force(place))


def history(root_dir: Path) -> tuple[dict[str, Any], ...]:
    """What was applied, confirmed and taken back on this machine, oldest first. Raises ReadError."""
    return read_history(ConfigPlace(top=root_dir))


def apply(
    path: Path,
    root_dir: Path,
    progress: Progress,
    *,
    within_s: int | None,
    dry_run: bool = False,
    on_plan: Callable[[ConfigPlan], None] | None = None,
    services: ConfigServices | None = None,
    reach_s: float = _REACH_S,
) -> ConfigOutcome:
    """Put the configuration of a file in force, all of it or nothing.

    within_s: it is taken back after that time unless it is confirmed; None: it stays. Below another root than "/" files are
    written, and no unit is asked; then it stays too. on_plan gets the plan before anything is changed. Raises as
    `read_trusted`; UsageError for an older one; BusyError where another one waits to be confirmed; PlanRefused and
    PreflightError before anything is changed; BedplateError when something failed, and all was put back.
    """
    root, place = Root(root_dir), ConfigPlace(top=root_dir)
    manager = services or HostServices(root_dir)
    given = read_trusted(path, root)
    if dry_run:
        record = read_in_force(place)
        _refuse(given, record)
        return ConfigOutcome(plan=_announce(_plan(given, root, place, record), on_plan), identity=None)
    with hold_config(place, "apply"):
        _recover(place, manager, root, progress)
        record = read_in_force(place)
        _refuse(given, record)
        plan = _announce(_plan(given, root, place, record), on_plan)
        if not plan.files and record is not None and record.identity.sha256 == given.sha256:
            return ConfigOutcome(plan=plan, identity=None)
        _require_manager(plan, root_dir, manager)
        identity = ConfigIdentity(
            number=next_number(place),
            at=_now(),
            who=find_who(root),
            source=str(path.absolute()),
            sha256=given.sha256,
            sequence=given.config.sequence,
            key=given.key,
        )
        waits_s = within_s if manager.is_running() else None
        if waits_s is not None:
            timer.arm(place, waits_s, lasts=not is_bedplate_system(root))
        try:
            transaction.apply(
                place,
                _files(given.config, given.text, root, record),
                identity,
                given.text,
                manager,
                waits=waits_s is not None,
                check=_make_check(plan, root, manager, reach_s),
            )
        except BaseException:
            if not _has_to_come_back(place):
                timer.disarm(place)
            raise
    return ConfigOutcome(plan=plan, identity=identity, waits_s=waits_s)


def confirm(root_dir: Path, progress: Progress, *, services: ConfigServices | None = None) -> ConfigIdentity:
    """Keep the configuration that waits. Raises NotAppliedError where none does."""
    root, place = Root(root_dir), ConfigPlace(top=root_dir)
    with hold_config(place, "confirm"):
        _recover(place, services or HostServices(root_dir), root, progress)
        kept = transaction.confirm(place, Event(at=_now(), who=find_who(root)))
        timer.disarm(place)
    return kept


def revert(
    root_dir: Path, progress: Progress, *, unless_confirmed: bool = False, services: ConfigServices | None = None
) -> tuple[FileChange, ...] | None:
    """Take back the configuration that waits; gives what changed.

    unless_confirmed: what the timer runs; None where nothing waits any more. Raises NotAppliedError where nothing waits.
    """
    root, place = Root(root_dir), ConfigPlace(top=root_dir)
    manager = services or HostServices(root_dir)
    with hold_config(place, "revert", wait=unless_confirmed):
        _recover(place, manager, root, progress)
        record = read_in_force(place)
        if unless_confirmed and (record is None or not record.waits):
            timer.disarm(place)
            return None
        event = Event(at=_now(), who=find_who(root))
        if unless_confirmed:
            event = Event(at=_now(), who="timer", why="it was not confirmed in time")
        changes = transaction.revert(place, manager, event)
        timer.disarm(place)
    return changes


def restore(root_dir: Path, progress: Progress, *, services: ConfigServices | None = None) -> tuple[FileChange, ...]:
    """Put what is in force on the disk again, as an image needs it at each boot; what nobody confirmed is taken back."""
    root, place = Root(root_dir), ConfigPlace(top=root_dir)
    manager = services or HostServices(root_dir)
    with hold_config(place, "restore", wait=True):
        _recover(place, manager, root, progress)
        record = read_in_force(place)
        taken: tuple[FileChange, ...] = ()
        if record is not None and record.waits:
            why = "the machine restarted before it was confirmed"
            taken = transaction.revert(place, manager, Event(at=_now(), who="boot", why=why))
            progress.note(f"configuration {record.identity.number} was taken back: {why}")
            timer.disarm(place)
        return (*taken, *transaction.restore(place, manager))


def find_who(root: Root) -> str:
    """Who logged in to do this, as the kernel keeps it across sudo; "root" where nobody did, as at a boot.

    Source: proc_pid_loginuid(5).
    """
    text = root.read("/proc/self/loginuid").value or ""
    uid = int(text) if text.isascii() and text.isdecimal() else _NOBODY
    if uid == _NOBODY:
        return "root"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _has_to_come_back(place: ConfigPlace) -> bool:
    """Whether the timer still has something to do: what could not be put back, or was in force when Ctrl-C came."""
    record = read_in_force(place)
    return read_journal(place) is not None or (record is not None and record.waits)


def _recover(place: ConfigPlace, manager: ConfigServices, root: Root, progress: Progress) -> None:
    """End what an earlier run left half done, and say so."""
    interrupted = read_journal(place) is not None
    done = transaction.recover(place, manager, Event(at=_now(), who=find_who(root)))
    if interrupted:
        progress.note(f"an interrupted change was found; it was {_ENDED.get(done, done)}")


def _refuse(given: GivenConfig, record: AppliedConfig | None) -> None:
    """Raise for a configuration that must not replace the one that is in force."""
    if record is None:
        return
    now = record.identity
    if record.waits:
        raise BusyError(
            f"configuration {now.number}, applied by {now.who} at {now.at}, waits to be confirmed",
            hint="Keep it: bedplate config confirm. Or take it back: bedplate config revert",
        )
    if not given.key:
        return
    if given.config.sequence < now.sequence:
        raise UsageError(
            f"{given.path}: has the sequence {given.config.sequence}, older than {now.sequence}, which is in force",
            hint="To go back, give the old content a higher sequence, and sign it again.",
        )
    if given.config.sequence == now.sequence and given.sha256 != now.sha256:
        raise UsageError(
            f"{given.path}: has the sequence {now.sequence} with other content than the one of that number that is in force"
            f" (sha256 {given.sha256[:12]}, in force {now.sha256[:12]})",
            hint="Raise the sequence, and sign it again.",
        )


def _plan(given: GivenConfig, root: Root, place: ConfigPlace, record: AppliedConfig | None) -> ConfigPlan:
    before = _config_of(record)
    changes, _ = plan_files(place, _files(given.config, given.text, root, record), record)
    keys = compare_configs(before, given.config)
    notes = list(_later(keys))
    if not is_bedplate_system(root):
        tables = list(dict.fromkeys(file.table for file in render_files(given.config)))
        notes += [f"[{table}] is not applied on this host, which is no bedplate image" for table in tables]
        served = _changed_serving(before, given.config)
        notes += [f"[{table}] takes effect with: bedplate serve prepare" for table in served]
    return ConfigPlan(
        path=str(given.path),
        sha256=given.sha256,
        sequence=given.config.sequence,
        key=given.key,
        keys=keys,
        files=changes,
        actions=unit_actions(changes),
        notes=tuple(notes),
    )


def _files(config: MachineConfig, text: str, root: Root, record: AppliedConfig | None) -> tuple[RenderedFile, ...]:
    """What the configuration becomes on this host, the file itself last: once it is there, all else is."""
    is_image = is_bedplate_system(root)
    serving_changes = is_image and bool(_changed_serving(_config_of(record), config))
    return (*(render_files(config) if is_image else ()), render_machine_file(text, serving_changes=serving_changes))


def _changed_serving(old: MachineConfig, new: MachineConfig) -> tuple[str, ...]:
    """Those tables of which `serve prepare` must read what differs now."""
    engines_change = any(
        old.engine_of(model.name) != new.engine_of(model.name) for model in (*old.serve.model, *new.serve.model)
    )
    return tuple(table for table, changes in (("front", old.front != new.front), ("serve", engines_change)) if changes)


def _config_of(record: AppliedConfig | None) -> MachineConfig:
    """What is in force; the defaults where nothing is, or an older bedplate accepted what is a mistake now."""
    if record is None:
        return MachineConfig()
    try:
        return parse_machine_config(record.text, name=f"configuration {record.identity.number}")
    except DataError:
        return MachineConfig()


def _later(keys: tuple[KeyChange, ...]) -> tuple[str, ...]:
    changed = {change.key.partition(".")[0].partition("[")[0] for change in keys}
    return tuple(f"[{kind.table}] {kind.later}" for kind in KINDS if kind.later and kind.table in changed)


def _announce(plan: ConfigPlan, on_plan: Callable[[ConfigPlan], None] | None) -> ConfigPlan:
    if on_plan is not None:
        on_plan(plan)
    return plan


def _require_manager(plan: ConfigPlan, root_dir: Path, manager: ConfigServices) -> None:
    if root_dir == Path("/") and plan.actions and not manager.is_running():
        raise PreflightError(
            f"process 1 is not systemd, so nothing would carry out: {', '.join(map(str, plan.actions))}",
            hint="Nothing was changed. See what would be written: bedplate config diff FILE",
        )


def _make_check(plan: ConfigPlan, root: Root, manager: ConfigServices, reach_s: float) -> Callable[[], None]:
    """What is looked at once the units have acted: the addresses, and whether the front end was closed."""
    is_asked = manager.is_running()
    has_network = any(change.table == "network" for change in plan.files)
    before = read_addresses(root) if is_asked and has_network else ()
    problems = _front_problems(root)

    def check() -> None:
        if before:
            _wait_for_address(root, before, reach_s)
        if is_asked and not problems and (now := _front_problems(root)):
            raise BedplateError(f"front: it closed: {now[0]}")

    return check


def _wait_for_address(root: Root, before: tuple[str, ...], reach_s: float) -> None:
    time.sleep(min(_SETTLE_S, reach_s))  # the addresses of before can stand for a moment more
    end = time.monotonic() + reach_s
    while not read_addresses(root):
        if time.monotonic() >= end:
            raise BedplateError(
                f"network: the machine had {', '.join(before)}, and has no address {reach_s:.0f} s after the change"
            )
        time.sleep(_POLL_S)


def _front_problems(root: Root) -> tuple[str, ...]:
    """Why the front end is closed, by what `serve prepare` recorded last; () for an open one, and where none was started."""
    try:
        problems = read_front_record(root).get("problems", ())
    except ReadError as error:
        return (error.message,)
    return tuple(str(problem).partition("\n")[0] for problem in problems) if isinstance(problems, list) else ()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
