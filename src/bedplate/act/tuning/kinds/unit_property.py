"""Properties of systemd units (systemd.resource-control(5)): lines of a drop-in, in force in the unit's control group.

systemd writes control groups from a queue, after its answer to a reload, so what is read back too early still differs. A
property that no file of the control group shows is read from systemd, and is in force in units that started after it was
written. A slice that bedplate needs and the distribution does not have is generated whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bedplate.act.tuning.cgroups import cgroup_mount, find_processes, unit_paths
from bedplate.act.tuning.kinds.generated_file import MARK, make_head, want_files
from bedplate.act.tuning.kinds.kind import Command, SettingKind, TextsBefore, report
from bedplate.act.tuning.meaning import satisfies
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.step import AppliedValue, Step, StepContext, Wanted
from bedplate.errors import BedplateError
from bedplate.host.root.root import Root
from bedplate.model.knob import ChangeNeed
from bedplate.model.tuning import UNIT_PROPERTIES, Change, Held, Means, Setting, Verified, effective_property

_SLICES = {
    "inference.slice": "Inference engines",
    "background.slice": "Background work",
    "neighbour.slice": "Neighbours of the engines",
}
_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,200}\.(slice|service|scope|socket|mount|swap)", re.ASCII)
_PROPERTY = re.compile(r"[A-Z][A-Za-z0-9]{1,60}", re.ASCII)
_NEVER = ("Exec", "Environment", "User", "Group", "Root")
_OOM_SCORE = "OOMScoreAdjust"
_SHOWN = ("ActiveState", "ControlGroup", "ActiveEnterTimestampMonotonic", "StartupCPUWeight")


class UnitProperty(SettingKind):
    """A property of a unit, by a drop-in of this transaction."""

    settles_later = True
    generated = (
        *("etc/systemd/system/*/80-bedplate.conf", "run/systemd/system/*/80-bedplate.conf"),
        *("etc/systemd/system/*.slice", "run/systemd/system/*.slice"),
    )

    def owns(self, setting: Setting) -> bool:
        return setting.means is Means.UNIT

    def refuse(self, place: Place, services: Services) -> str | None:
        if services.is_running():
            return None
        return "the plan sets unit properties, but process 1 is not systemd"

    def check(self, change: Change, root: Root) -> str | None:
        name, key = change.setting.name, change.setting.key
        if not _UNIT_NAME.fullmatch(name) or "/" in name or name.startswith("."):
            return f"{name!r} is not the name of a unit"
        if not _PROPERTY.fullmatch(key) or key.startswith(_NEVER):
            return f"{name}: {key!r} is not a property that bedplate tune sets"
        if not change.new.isprintable() or change.new.endswith("\\"):
            return f"{name}: {key}: {change.new!r} is not valid in a unit file"
        return None

    def plan_targets(self, changes: Sequence[Change], place: Place, digest: str) -> Iterator[Wanted]:
        head = make_head(digest)
        by_unit: dict[str, list[Change]] = {}
        for change in changes:
            by_unit.setdefault(change.setting.name, []).append(change)
        files: dict[str, str] = {}
        for unit, its_changes in by_unit.items():
            if unit in _SLICES and not _has_unit_file(unit, place.root):
                text = f"[Unit]\nDescription={_SLICES[unit]}\nDefaultDependencies=no\nBefore=slices.target\n\n[Slice]\n"
                files[f"{place.units}/{unit}"] = head + text
            section = unit.rpartition(".")[2].capitalize()
            lines = [f"{change.setting.key}={change.new}" for change in its_changes]
            files[f"{place.units}/{unit}.d/{place.stem}.conf"] = "\n".join([f"{head}[{section}]", *lines, ""])
        return want_files(files, unit_files=True)

    def satisfies(self, change: Change, text: str) -> bool | None:
        if "idle" in (text, change.new):
            return text == change.new
        shown = UNIT_PROPERTIES.get(change.setting.key)
        return satisfies(change, text, shown.file if shown is not None else change.setting.name)

    def verify(
        self, changes: Sequence[Change], *, root: Root, services: Services, since_s: float | None
    ) -> tuple[Verified, ...]:
        units = sorted({change.setting.name for change in changes})
        more = sorted({change.setting.key for change in changes if change.setting.key not in UNIT_PROPERTIES})
        try:
            if not services.is_running():
                return tuple(report(change, Held.UNKNOWN, None, "systemd is not running") for change in changes)
            shown = services.show(units, [*_SHOWN, *more])
        except BedplateError as error:
            return tuple(report(change, Held.UNKNOWN, None, error.message) for change in changes)
        mount = cgroup_mount(root)
        return tuple(self._verify(change, root, mount, shown[change.setting.name], since_s) for change in changes)

    def find_unreverted(self, changes: Sequence[Change], *, root: Root, services: Services) -> tuple[Verified, ...]:
        """Properties of running units that have neither their old value nor the kernel's own."""
        back = [
            replace(change, new=change.old)
            for change in changes
            if change.old is not None and change.setting.key in UNIT_PROPERTIES
        ]
        if not back:
            return ()
        return tuple(
            result
            for result in self.verify(back, root=root, services=services, since_s=None)
            if result.held is Held.DIFFERS
            and not self.satisfies(result.change, UNIT_PROPERTIES[result.change.setting.key].neutral)
        )

    def texts_before(self, changes: Sequence[Change], values: Sequence[AppliedValue], root: Root) -> TextsBefore:
        """Of units that have a control group: a property whose old value is None had no file, since the group came with the
        plan. Of a property that a unit takes at its start the old value is that of its processes, and None is the kernel's
        own. Of processes that were started with OOMScoreAdjust= it is what the kernel shows of each.
        """
        mount = cgroup_mount(root)
        paths = unit_paths(root, (change.setting.name for change in changes))
        texts = _scores_before(changes, paths, root)
        for change in changes:
            shown, path = UNIT_PROPERTIES.get(change.setting.key), paths.get(change.setting.name)
            if shown is None or path is None or not root.exists(f"{mount}{path}/{shown.file}"):
                continue
            old = change.old
            if old is None and ChangeNeed.ENGINE_RESTART in change.needs:
                old = shown.neutral
            if old is None:
                names = (shown.file, "cpu.idle") if change.setting.key == "CPUWeight" else (shown.file,)
                texts |= {f"{mount}{path}/{name}": None for name in names}
                continue
            if change.setting.key == "CPUWeight":
                texts[f"{mount}{path}/cpu.idle"] = "1" if old == "idle" else "0"
                old = "100" if old == "idle" else old
            texts[f"{mount}{path}/{shown.file}"] = _as_shown(shown.file, old)
        return texts

    def _verify(self, change: Change, root: Root, mount: str, shown: dict[str, str], since_s: float | None) -> Verified:
        unit, key = change.setting.name, change.setting.key
        if shown.get("ActiveState") not in ("active", "reloading", "deactivating", "activating"):
            return report(change, Held.PENDING, None, f"{unit} does not run")
        if key.startswith("Startup"):
            return report(change, Held.PENDING, None, "takes effect only while the machine boots")
        if key not in UNIT_PROPERTIES:
            return _verify_started(change, shown, since_s)
        path = shown.get("ControlGroup", "")
        if not mount or not path:
            if mount and unit.endswith(".slice"):
                return report(change, Held.PENDING, None, f"{unit} has no control group yet")
            return report(change, Held.UNKNOWN, None, f"{unit}: its control group is not known")
        group = f"{mount}{path if path != '/' else ''}"
        if not root.exists(group):  # an active slice has one only while something is in it
            return report(change, Held.PENDING, None, f"{unit} has no control group yet")
        text = read_property(root, group, key)
        if text is None and not root.exists(group):
            return report(change, Held.PENDING, None, f"{unit} has no control group any more")
        if text is None:
            return report(change, Held.UNKNOWN, None, f"{group}/{UNIT_PROPERTIES[key].file}: cannot be read")
        found = self.judge(change, text)
        if found.held is Held.DIFFERS and key == "CPUWeight" and text == shown.get("StartupCPUWeight"):
            return report(change, Held.PENDING, text, "the unit's StartupCPUWeight= is in force until the boot is complete")
        return found


class SystemdReload(Command):
    """systemd reads its files again, and writes what is new in them into the control groups of the units."""

    journal_name = "reload"

    def describe(self, step: Step) -> str:
        return "reload systemd"

    def is_due(self, steps: Sequence[Step]) -> bool:
        return any(step.target.unit_file for step in steps)

    def write(self, step: Step, context: StepContext) -> str:
        context.services.reload(_units_of(context.steps))
        return ""

    def run_again(self, step: Step, begun: Sequence[Step], context: StepContext) -> None:
        if context.services.is_running():  # else there is no control group to bring back
            super().run_again(step, begun, context)


UNIT_PROPERTY = UnitProperty()
SYSTEMD_RELOAD = SystemdReload()


def read_property(root: Root, cgroup: str, key: str) -> str | None:
    """Effective value of a unit's property in its cgroup, a directory; None when the kernel does not show it."""
    return effective_property(key, lambda name: root.read(f"{cgroup}/{name}").value)


def _verify_started(change: Change, shown: dict[str, str], since_s: float | None) -> Verified:
    """A property that no cgroup file shows: in force in units that started after it was written."""
    text = shown.get(change.setting.key)
    if text is None:
        return report(change, Held.UNKNOWN, None, f"systemd does not know {change.setting.key}=")
    if text != change.new:
        return report(change, Held.DIFFERS, text, f"wanted {change.new}, systemd shows {text}")
    started_us = shown.get("ActiveEnterTimestampMonotonic", "0")
    if since_s is None or (started_us.isdecimal() and int(started_us) / 1e6 > since_s):
        return report(change, Held.HOLDS, text)
    return report(change, Held.PENDING, text, f"takes effect when {change.setting.name} starts again")


def _scores_before(changes: Sequence[Change], paths: dict[str, str], root: Root) -> TextsBefore:
    """oom_score_adj of processes that have the score of their unit; one that has another has it from somebody else."""
    scores = {
        paths[change.setting.name]: change
        for change in changes
        if change.setting.key == _OOM_SCORE and change.setting.name in paths
    }
    texts: TextsBefore = {}
    for path, pid in find_processes(root, scores) if scores else ():
        where, change = f"/proc/{pid}/oom_score_adj", scores[path]
        if change.old is not None and root.read(where).value == change.new:
            texts[where] = change.old
    return texts


def _as_shown(file: str, value: str) -> str:
    """A property's value as its interface file shows it."""
    if file == "io.weight" and value.isdigit():
        return f"default {value}"
    return "max" if value == "infinity" else value


def _has_unit_file(unit: str, root: Root) -> bool:
    for directory in _UNIT_DIRECTORIES:
        text = root.read(f"{directory}/{unit}").value
        if text is not None and not text.startswith(MARK):
            return True
    return False


def _units_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Units of whose files or drop-ins a step is."""
    paths = (step.target.path for step in steps if step.target.unit_file)
    names = (part.removesuffix(".d") for path in paths for part in path.split("/"))
    return tuple(dict.fromkeys(name for name in names if name.endswith((".slice", ".service", ".scope"))))
