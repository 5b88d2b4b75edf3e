"""A plan in the making: what is wanted against what is there, and a reason wherever nothing is done."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import ChangeNeed, Knob
from bedplate.model.knob_value import Compare, Parse, holds, parse_value
from bedplate.model.policy import PolicyRow
from bedplate.model.proof import Conditions, Proof
from bedplate.model.tuning import UNIT_PROPERTIES, Change, Means, Setting, Skip, effective_property
from bedplate.plan.rules.files import KnobFiles

_NEAR = 0.1  # of a size: what an engine holds moves by this much while it serves, and a plan must not move with it


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneInputs:
    """Everything that a plan is made from: equal inputs make equal plans."""

    facts: HostFacts
    groups: Groups
    knobs: dict[str, Knob]
    policy: PolicyRow
    proofs: tuple[Proof, ...]
    io: tuple[DeviceSpeed, ...]
    files: KnobFiles
    refuted: dict[str, str]
    """"vm.stat_interval=10" -> why a valid proof speaks against it."""
    now: Conditions | None = None
    """What a proof must have been made under to count; None: no proof counts."""
    applied: frozenset[Setting] = frozenset()
    """What an earlier plan sets. The facts are of the machine without it, as far as that can be read."""


@dataclass(slots=True, kw_only=True)
class PlanBuilder:
    """Changes in order, and skips by knob; asked for the same setting twice it keeps the first."""

    inputs: TuneInputs
    changes: list[Change] = field(default_factory=list)
    skips: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    _taken: set[Setting] = field(default_factory=set)

    def is_applied(self, path: str, key: str) -> bool:
        """Whether an applied plan sets this property of a group's unit. For effects that no file shows as they were before:
        threads stay on the CPUs on which their unit started."""
        return Setting(means=Means.UNIT, name=path.rpartition("/")[2], key=key) in self.inputs.applied

    def skip(self, knob: str, reason: str) -> None:
        """Leave a knob alone. The first reason stands; a change of the same knob counts more."""
        self.skips.setdefault(knob, reason)

    def skip_part(self, knob: str, reason: str) -> None:
        """Say what of a knob cannot be done here; it stands beside changes of the same knob too."""
        self.parts.setdefault(knob, reason)

    def unit(
        self,
        path: str,
        key: str,
        new: str,
        *,
        knob: str,
        because: str,
        compare: Compare = Compare.EQUAL,
        needs: tuple[ChangeNeed, ...] = (ChangeNeed.ROOT,),
        near: bool = False,
    ) -> None:
        """Want a property of the unit of a group, "/system.slice/vllm.service"."""
        setting = Setting(means=Means.UNIT, name=path.rpartition("/")[2], key=key)
        known = UNIT_PROPERTIES.get(key)
        parse = known.parse if known is not None and new != "idle" else Parse.WORDS
        self.want(
            setting,
            new,
            old=read_property(self.inputs.groups, path, key),
            knob=knob,
            because=because,
            parse=parse,
            compare=compare,
            needs=needs,
            near=near,
        )

    def at_restart(
        self, path: str, key: str, new: str, *, old: str | None, knob: str, because: str, parse: Parse = Parse.WORDS
    ) -> None:
        """Want a property that its unit takes when it starts again; `old` as it was read of the process."""
        setting = Setting(means=Means.UNIT, name=path.rpartition("/")[2], key=key)
        needs = (ChangeNeed.ROOT, ChangeNeed.ENGINE_RESTART)
        self.want(setting, new, old=old, knob=knob, because=because, parse=parse, needs=needs)

    def file(
        self,
        path: str,
        new: str,
        *,
        knob: str,
        because: str,
        parse: Parse,
        compare: Compare = Compare.EQUAL,
        old: str | None = None,
    ) -> None:
        """Want the text of a file of the kernel; `old` where the facts do not have it."""
        told = old if old is not None else self.inputs.files.read(path).value
        if told is None:
            unknown = self.inputs.files.read(path).unknown
            self.skip(knob, f"{path} could not be read ({unknown})")
            return
        written = writable(told)
        setting = Setting(means=Means.FILE, name=path)
        self.want(setting, new, old=written, knob=knob, because=because, parse=parse, compare=compare)

    def want(
        self,
        setting: Setting,
        new: str,
        *,
        old: str | None,
        knob: str,
        because: str,
        parse: Parse,
        compare: Compare = Compare.EQUAL,
        needs: tuple[ChangeNeed, ...] = (ChangeNeed.ROOT,),
        near: bool = False,
    ) -> None:
        """Want a value: a change where it does not hold, a skip where it does or where the policy forbids it."""
        policy = self.inputs.policy
        if knob in policy.forbid:
            self.skip(knob, f"policy {policy.id} forbids it: {policy.because}")
            return
        if setting in self._taken:
            self.skip(knob, f"{setting} is already in the plan")
            return
        if f"{setting}={new}" in self.inputs.refuted:
            self.skip(knob, self.inputs.refuted[f"{setting}={new}"])
            return
        self._taken.add(setting)
        if old is not None and is_held(old, new, parse, compare, near=near):
            self.skip(knob, f"holds already: {setting} is {old or 'empty'}")
            return
        row = self.inputs.knobs[knob]
        self.changes.append(
            Change(
                setting=setting,
                knob=knob,
                old=old,
                new=new,
                parse=parse,
                compare=compare,
                because=because,
                grade=row.grade,
                sources=row.sources,
                needs=needs,
            )
        )

    def finish(self) -> tuple[tuple[Change, ...], tuple[Skip, ...]]:
        """(changes, skips); a knob that is changed is skipped only for what of it cannot be done."""
        changed = {change.knob for change in self.changes}
        left = {knob: reason for knob, reason in self.skips.items() if knob not in changed} | self.parts
        return tuple(self.changes), tuple(Skip(knob=knob, reason=reason) for knob, reason in left.items())


Step = Callable[[PlanBuilder], None]


def is_held(old: str, new: str, parse: Parse, compare: Compare, *, near: bool = False) -> bool:
    """Whether a value is as wanted, by its meaning; near: a size within a tenth is."""
    if compare is Compare.ABSENT:
        return False
    try:
        was, wanted = parse_value(old, parse), parse_value(new, parse)
        if near and isinstance(was, float) and isinstance(wanted, float):
            return (wanted < math.inf and abs(was - wanted) <= _NEAR * wanted) or holds(was, compare, (wanted,))
        return holds(was, compare, (wanted,))
    except ValueError:
        return False


def read_property(groups: Groups, path: str, key: str) -> str | None:
    """The effective value of a unit's property as it would be written; None when the group or the file is not there."""
    group = groups.find(path)
    return effective_property(key, lambda name: group.read(name).value) if group is not None else None


def parse_count(text: str | None) -> int | None:
    """A plain number of at most 19 digits; None for all else. A recording may hold anything."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,19}", text) else None


def writable(text: str) -> str:
    """What to write to get a text back: "always [madvise] never" -> "madvise"."""
    chosen = re.findall(r"\[([^\[\]\s]+)\]", text)
    return str(chosen[0]) if len(chosen) == 1 else text
