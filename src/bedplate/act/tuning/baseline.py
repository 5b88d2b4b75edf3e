"""The machine as it would be without what is applied: plans are made from it, so that planning twice gives the same plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from bedplate.act.tuning.effective import cgroup_mount
from bedplate.act.tuning.journal import InForce, read_in_force
from bedplate.act.tuning.kernel_file import read_kernel_file
from bedplate.act.tuning.meaning import is_keyed, is_same
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import Act, Holding
from bedplate.errors import BedplateError
from bedplate.host.kernel.groups import read_groups
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.model.facts.reading import Reading, known
from bedplate.model.knob_value import Compare
from bedplate.model.tuning import UNIT_PROPERTIES, Means

_CMDLINE = "/proc/cmdline"


@dataclass(frozen=True, slots=True)
class Unapplied(Root):
    """A root in which files that we hold have the text that was there before we came. What somebody changed since stays."""

    texts: dict[str, str] = field(default_factory=dict)

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        if where in self.texts:
            return known((self.texts[where] + "\n").encode()[:limit], where, "before")
        return Root.read_bytes(self, where, limit)


def read_unapplied(place: Place) -> Root:
    """The root to plan from, in which what we hold reads as before we came; the plain one when nothing is applied."""
    state = read_in_force(place)
    if state is None:
        return place.root
    texts = _kernel_texts(place, state) | _group_texts(place, state) | _command_line(place, state)
    return Unapplied(place.top, texts=texts)


def _kernel_texts(place: Place, state: InForce) -> dict[str, str]:
    texts = {}
    for holding in state.holdings:
        if holding.act is not Act.KERNEL or holding.baseline is None:
            continue
        try:
            now = read_kernel_file(place.root, holding.path, holding.parse, key=holding.key)
        except BedplateError:
            continue
        if is_same(holding.path, now, holding.ours, holding.parse):
            texts[holding.path] = _other_lines(place.root, holding) if is_keyed(holding.path) else holding.baseline
    return texts


def _other_lines(root: Root, holding: Holding) -> str:
    """A file with a line for each device, with the line of ours as it was."""
    lines = (root.read(holding.path).value or "").splitlines()
    return "\n".join(filter(None, [*(line for line in lines if line.split()[:1] != [holding.key]), holding.baseline]))


def _group_texts(place: Place, state: InForce) -> dict[str, str]:
    """Of units that have a control group; old None is the kernel's neutral value."""
    texts: dict[str, str] = {}
    mount = cgroup_mount(place.root)
    paths = _unit_paths(place, state)
    for change in state.plan.changes:
        unit, key = change.setting.name, change.setting.key
        if change.setting.means is not Means.UNIT or key not in UNIT_PROPERTIES or unit not in paths:
            continue
        group = f"{mount}{paths[unit]}"
        old = change.old if change.old is not None else UNIT_PROPERTIES[key].neutral
        if not place.root.exists(f"{group}/{UNIT_PROPERTIES[key].file}"):
            continue
        if key == "CPUWeight":
            texts[f"{group}/cpu.idle"] = "1" if old == "idle" else "0"
            old = "100" if old == "idle" else old
        texts[f"{group}/{UNIT_PROPERTIES[key].file}"] = _as_read(UNIT_PROPERTIES[key].file, old)
    return texts


def _as_read(file: str, value: str) -> str:
    """A property's value as its file shows it."""
    if file == "io.weight" and value.isdigit():
        return f"default {value}"
    return "max" if value == "infinity" else value


def _command_line(place: Place, state: InForce) -> dict[str, str]:
    """As it would be without parameters that took effect at a boot since."""
    before = (place.root.read(_CMDLINE).value or "").split()
    words = before
    for change in state.plan.changes:
        if change.setting.means is not Means.CMDLINE:
            continue
        name = change.setting.name
        now = [word for word in words if word.partition("=")[0] == name]
        wanted = [] if change.compare is Compare.ABSENT else [f"{name}={change.new}" if change.new else name]
        if now == wanted:
            words = [word for word in words if word not in now]
            words += [] if change.old is None else [f"{name}={change.old}" if change.old else name]
    return {_CMDLINE: " ".join(words)} if words != before else {}


def _unit_paths(place: Place, state: InForce) -> dict[str, str]:
    """Unit -> its control group: of a slice it follows from its name, of others it is where they run."""
    units = {change.setting.name for change in state.plan.changes if change.setting.means is Means.UNIT}
    slices = {unit: slice_path(unit) for unit in units if unit.endswith(".slice")}
    if units == slices.keys():
        return slices
    running = {group.path.rpartition("/")[2]: group.path for group in read_groups(place.root).groups}
    return slices | {unit: running[unit] for unit in units & running.keys() - slices.keys()}


def slice_path(unit: str) -> str:
    """The control group of a slice: "a-b.slice" -> "/a.slice/a-b.slice"; "-.slice" -> ""."""
    parts = unit.removesuffix(".slice").split("-") if unit != "-.slice" else []
    return "".join(f"/{'-'.join(parts[: number + 1])}.slice" for number in range(len(parts)))
