"""The machine as it would be without what is applied: plans are made from it, so that planning twice gives the same plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from bedplate.act.tuning.effective import cgroup_mount
from bedplate.act.tuning.journal import InForce, read_in_force
from bedplate.act.tuning.kernel_file import is_keyed, is_same, read_kernel_file
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import Act
from bedplate.errors import BedplateError
from bedplate.host.root import TEXT_LIMIT, Root
from bedplate.model.facts.reading import Reading, known
from bedplate.model.tuning import UNIT_PROPERTIES, Means


@dataclass(frozen=True, slots=True)
class Unapplied(Root):
    """A root in which files that we hold have the text that was there before we came. What somebody changed since stays."""

    texts: dict[str, str] = field(default_factory=dict)

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        if where in self.texts:
            return known((self.texts[where] + "\n").encode()[:limit], where, "before")
        return Root.read_bytes(self, where, limit)


def read_unapplied(place: Place) -> Root:
    """The root to plan from: the plain one when nothing is applied."""
    state = read_in_force(place)
    if state is None:
        return place.root
    return Unapplied(place.top, texts=_kernel_texts(place, state) | _group_texts(place, state))


def _kernel_texts(place: Place, state: InForce) -> dict[str, str]:
    texts = {}
    for one in state.holdings:
        if one.act is not Act.KERNEL or is_keyed(one.path) or one.baseline is None:
            continue
        try:
            now = read_kernel_file(place.root, one.path, one.parse)
        except BedplateError:
            continue
        if is_same(one.path, now, one.ours, one.parse):
            texts[one.path] = one.baseline
    return texts


def _group_texts(place: Place, state: InForce) -> dict[str, str]:
    """Of slices, whose control group follows from their name; old None is the kernel's neutral value."""
    texts: dict[str, str] = {}
    mount = cgroup_mount(place.root)
    for one in state.plan.changes:
        unit, key = one.setting.name, one.setting.key
        if one.setting.means is not Means.UNIT or key not in UNIT_PROPERTIES or not unit.endswith(".slice"):
            continue
        group = f"{mount}{slice_path(unit)}"
        old = one.old if one.old is not None else UNIT_PROPERTIES[key].neutral
        if not place.root.exists(f"{group}/{UNIT_PROPERTIES[key].file}"):
            continue
        if key == "CPUWeight":
            texts[f"{group}/cpu.idle"] = "1" if old == "idle" else "0"
            old = "100" if old == "idle" else old
        texts[f"{group}/{UNIT_PROPERTIES[key].file}"] = old
    return texts


def slice_path(unit: str) -> str:
    """The control group of a slice: "a-b.slice" -> "/a.slice/a-b.slice"; "-.slice" -> ""."""
    parts = unit.removesuffix(".slice").split("-") if unit != "-.slice" else []
    return "".join(f"/{'-'.join(parts[: number + 1])}.slice" for number in range(len(parts)))
