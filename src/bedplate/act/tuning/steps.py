"""From what is in force and what is wanted to the steps between them. Reads, and changes nothing.

Undo is the way to an empty plan, another policy the way from one plan to the next: the text that was there before the first
of them is kept, so undo always goes back to the machine as it was found. What no longer has our value is somebody else's
now: it is left, and said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bedplate.act.tuning.effective import satisfies
from bedplate.act.tuning.generated import (
    GRUB_DIRECTORY,
    MARK,
    check_parameter,
    check_unit_setting,
    lasts,
    render_files,
)
from bedplate.act.tuning.kernel_file import check_kernel_file, read_kernel_file, read_twin
from bedplate.act.tuning.meaning import is_keyed, is_same
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import Act, Holding, Step
from bedplate.errors import BedplateError, GoneError
from bedplate.model.tuning import Change, Means, Plan


@dataclass(slots=True, kw_only=True)
class Way:
    """The steps to a plan, or back from one, in their order; what must hold after each, and what is held after all."""

    steps: list[Step] = field(default_factory=list)
    checks: dict[int, Change] = field(default_factory=dict)
    """Index of a step -> what must hold after it."""
    baselines: dict[int, tuple[str | None, str]] = field(default_factory=dict)
    """Index of a step -> (text before we first came, its twin)."""
    kept: list[Holding] = field(default_factory=list)
    """Held before and after, without a step."""
    drifted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def holdings(self, done: dict[int, str]) -> tuple[Holding, ...]:
        """What is ours after all steps; done: the text that was read back after each, by its index.

        Raises KeyError for one without.
        """
        found = list(self.kept)
        for index, (baseline, twin) in self.baselines.items():
            step = self.steps[index]
            found.append(
                Holding(
                    act=step.act,
                    path=step.path,
                    baseline=baseline,
                    ours=done[index],
                    parse=step.parse,
                    twin=twin,
                    lasts=step.lasts,
                    key=step.key,
                    unit_file=step.unit_file,
                )
            )
        return tuple(found)


def make_way(plan: Plan | None, place: Place, held: tuple[Holding, ...], *, same_boot: bool) -> Way:
    """The steps from what is held to the plan; None: to nothing. What is wrong with the plan stands in problems."""
    way = Way()
    changes = plan.changes if plan is not None else ()
    _check(changes, place, way)
    if way.problems:
        return way
    files = render_files(plan, place) if plan is not None else {}
    kernel = [change for change in changes if change.setting.means is Means.FILE]
    wanted = {(change.setting.name, _key(change)) for change in kernel}
    for holding in reversed(held):
        if holding.act is Act.KERNEL and (holding.path, holding.key) not in wanted:
            _give_back(holding, place, way, same_boot=same_boot, refuse=plan is not None)
    _file_steps(files, place, held, way)
    mine = {(holding.path, holding.key): holding for holding in held if holding.act is Act.KERNEL}
    for change in kernel:
        _take(change, place, mine.get((change.setting.name, _key(change))), way)
    return way


def _key(change: Change) -> str:
    return change.new.split(" ", 1)[0] if is_keyed(change.setting.name) else ""


def _check(changes: tuple[Change, ...], place: Place, way: Way) -> None:
    seen = set()
    for change in changes:
        match change.setting.means:
            case Means.FILE:
                problem = check_kernel_file(place.root, change.setting.name)
                if problem is None and (not change.new.isprintable() or not change.new):
                    problem = f"{change.setting}: {change.new!r} cannot be written"
            case Means.UNIT:
                problem = check_unit_setting(change)
            case Means.CMDLINE:
                problem = check_parameter(change)
        target = (change.setting, _key(change))
        if problem is None and target in seen:
            problem = f"{change.setting}: is in the plan twice"
        seen.add(target)
        if problem is not None:
            way.problems.append(problem)


def _give_back(holding: Holding, place: Place, way: Way, *, same_boot: bool, refuse: bool) -> None:
    """refuse: whether a file that is there and cannot be read now is a problem of the plan; else the step is tried, and says
    why it failed: what may still have our value is not forgotten."""
    if not same_boot and not holding.lasts:
        return  # the boot took it back
    baseline = holding.baseline or ""
    try:
        now = read_kernel_file(place.root, holding.path, holding.parse, key=holding.key)
    except GoneError as error:
        way.drifted.append(f"{error.message}: it is gone, so there is nothing to restore")
        return
    except BedplateError as error:
        if refuse:
            way.problems.append(error.message)
            return
        now = holding.ours
    if is_same(holding.path, now, baseline, holding.parse):
        return
    if not is_same(holding.path, now, holding.ours, holding.parse):
        way.drifted.append(f"{holding.path}: bedplate wrote {holding.ours!r}, the value is now {now!r}: left as it is")
        return
    way.steps.append(
        Step(
            act=Act.KERNEL,
            path=holding.path,
            before=now,
            after=baseline,
            parse=holding.parse,
            twin=holding.twin,
            lasts=holding.lasts,
            key=holding.key,
        )
    )


def _take(change: Change, place: Place, holding: Holding | None, way: Way) -> None:
    path, key = change.setting.name, _key(change)
    try:
        now = read_kernel_file(place.root, path, change.parse, key=key)
    except BedplateError as error:
        way.problems.append(error.message)
        return
    ours = holding is not None and is_same(path, now, holding.ours, holding.parse)
    if not ours and change.old is not None and not is_same(path, now, change.old, change.parse) and not is_keyed(path):
        way.problems.append(f"{change.setting}: was {change.old!r} when the plan was made, is {now!r} now")
        return
    if satisfies(change, now):
        if ours and holding is not None:
            way.kept.append(holding)
        return
    twin = read_twin(place.root, path)
    way.checks[len(way.steps)] = change
    if ours and holding is not None:
        way.baselines[len(way.steps)] = (holding.baseline, holding.twin)
    else:
        way.baselines[len(way.steps)] = (now, twin)
    way.steps.append(
        Step(
            act=Act.KERNEL,
            path=path,
            before=now,
            after=change.new,
            parse=change.parse,
            twin=twin,
            lasts=place.persist and lasts(change),
            key=key,
        )
    )


def _file_steps(files: dict[str, str], place: Place, held: tuple[Holding, ...], way: Way) -> None:
    first = len(way.steps)
    mine = {holding.path: holding for holding in held if holding.act is Act.FILE}
    needed = {parent for path in files for parent in _parents(path)}
    for holding in reversed(held):
        if holding.act is Act.FILE and holding.path not in files:
            now = _text(place, holding.path)
            if now == holding.ours:
                way.steps.append(Step(act=Act.FILE, path=holding.path, before=now, unit_file=holding.unit_file))
            elif now is not None:
                way.drifted.append(f"{holding.path}: was changed since it was written: left as it is")
        elif holding.act is Act.DIRECTORY:
            if holding.path in needed:
                way.kept.append(holding)
            elif place.at(holding.path).is_dir():
                way.steps.append(Step(act=Act.DIRECTORY, path=holding.path, before="", unit_file=holding.unit_file))
    made: set[str] = set()
    for path, text in files.items():
        unit_file = path.startswith(place.units)
        links = [target for target in (*_parents(path), path) if place.at(target).is_symlink()]
        if links:
            way.problems.append(f"{links[0]}: is a symbolic link, and bedplate does not write through links")
            continue
        now = _text(place, path)
        known = mine.get(path)
        if now is not None and (known is None or now != known.ours):
            hint = "; `bedplate tune uninstall` removes it" if now.startswith(MARK) else ""
            way.problems.append(f"{path}: exists, and bedplate did not write it{hint}")
            continue
        if now == text and known is not None:
            way.kept.append(known)
            continue
        for parent in _parents(path):
            if parent not in made and not place.at(parent).exists():
                made.add(parent)
                way.baselines[len(way.steps)] = (None, "")
                way.steps.append(Step(act=Act.DIRECTORY, path=parent, after="", unit_file=unit_file))
        way.baselines[len(way.steps)] = (None, "")
        way.steps.append(Step(act=Act.FILE, path=path, before=now, after=text, unit_file=unit_file))
    if any(step.unit_file for step in way.steps[first:]):
        way.steps.append(Step(act=Act.RELOAD, path=""))
    if any(step.path.startswith(GRUB_DIRECTORY) for step in way.steps[first:]):
        way.steps.append(Step(act=Act.GRUB, path=""))


def _parents(path: str) -> tuple[str, ...]:
    """Directories on the way to a file, from the top: "/etc/a/b" -> ("/etc", "/etc/a")."""
    parts = path.split("/")[1:-1]
    return tuple("/" + "/".join(parts[: number + 1]) for number in range(len(parts)))


def _text(place: Place, path: str) -> str | None:
    try:
        return place.at(path).read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
