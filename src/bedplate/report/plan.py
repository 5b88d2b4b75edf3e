"""A plan on a terminal: refusals first, each change from old to new with its reason, then what is left alone and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bedplate.model.facts.finding import Severity
from bedplate.model.tuning import Change, Held, Means, Plan, Verified
from bedplate.model.wording import plural
from bedplate.report.format import clean
from bedplate.report.terminal import Screen, prose

_NUMBERS = re.compile(r"\d+")
_SHORT = 4  # skips without --verbose; the rest is counted
_STYLES = {Held.HOLDS: "good", Held.DIFFERS: Severity.HIGH, Held.PENDING: Severity.LOW, Held.UNKNOWN: Severity.MEDIUM}


def render_plan_text(plan: Plan, screen: Screen, *, verbose: bool) -> str:
    """All of it, with a line end after the last line."""
    lines = prose(screen, f"{plan.policy.value}: {clean(plan.host)}", style="bold")
    for refusal in plan.refusals:
        lines += ["", *prose(screen, f"refused: {clean(refusal.what)}: {clean(refusal.because)}", style=Severity.HIGH)]
        lines += prose(screen, clean(refusal.hint), first="    ", rest="    ")
    for name, change in group_changes(plan.changes, verbose=verbose):
        lines += ["", *prose(screen, f"{name}  {_step(change)}", style="bold", rest="    ")]
        lines += prose(screen, clean(change.because), first="    ", rest="    ")
        lines += prose(screen, _evidence(change, verbose=verbose), first="    ", rest="    ", style="dim")
    lines += _skips(plan, screen, verbose=verbose)
    said = f"{plural(len(plan.changes), 'change')}, {plural(len(plan.skips), 'knob')} left alone"
    if plan.refusals:
        said += f"; must not be applied on this host: {plural(len(plan.refusals), 'refusal')}"
    lines += ["", *prose(screen, f"{said}. Plan {plan.digest[:12]}.", style="bold")]
    return "\n".join(lines) + "\n"


def render_verified(verified: Sequence[Verified], screen: Screen) -> str:
    """A line for each change, and one that counts."""
    lines: list[str] = []
    for entry in verified:
        text = f"{entry.held.value:8} {entry.change.setting} = {clean(entry.change.new)}"
        if entry.because:
            text += f": {clean(entry.because)}"
        lines += prose(screen, text, rest=" " * 9, style=_STYLES[entry.held] if entry.held is not Held.HOLDS else "")
    lines += ["", *prose(screen, count_held(verified), style="bold")]
    return "\n".join(lines) + "\n"


def render_applied(verified: Sequence[Verified] | None, screen: Screen) -> str:
    """As `render_verified`; None: that the plan had nothing to change."""
    if verified is None:
        return "Every setting already has the value of the plan: nothing to change.\n"
    return render_verified(verified, screen)


def count_held(verified: Sequence[Verified]) -> str:
    """Counts in a sentence: "3 in force, 1 pending."; where there are no changes, that there is nothing to verify."""
    words = {Held.HOLDS: "in force", Held.DIFFERS: "differ", Held.PENDING: "pending", Held.UNKNOWN: "cannot be known"}
    counts = [(sum(entry.held is held for entry in verified), word) for held, word in words.items()]
    return ", ".join(f"{count} {word}" for count, word in counts if count) + "." if verified else "Nothing to verify."


def group_changes(changes: Sequence[Change], *, verbose: bool) -> list[tuple[str, Change]]:
    """(what it is called, the change) in their order; the same change of many devices is one line that counts them.

    "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor (224 files)"; with verbose each is a line of its own.
    """
    if verbose:
        return [(str(change.setting), change) for change in changes]
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        shape = _NUMBERS.sub("*", str(change.setting)) if change.setting.means is Means.FILE else str(change.setting)
        key = (shape, change.knob, str(change.old), change.new, change.because)
        groups.setdefault(key, []).append(change)
    return [
        (str(group[0].setting) if len(group) == 1 else f"{key[0]} ({len(group)} files)", group[0])
        for key, group in groups.items()
    ]


def _step(change: Change) -> str:
    return f"{clean(change.old) if change.old is not None else 'not set'} -> {clean(change.new)}"


def _evidence(change: Change, *, verbose: bool) -> str:
    text = f"evidence {change.grade.value}, knob {change.knob}"
    if [need for need in change.needs if need.value != "root"]:
        text += f", needs {', '.join(need.value for need in change.needs if need.value != 'root')}"
    if change.sources:
        text += f"; {clean('; '.join(change.sources) if verbose else change.sources[0])}"
    return text


def _skips(plan: Plan, screen: Screen, *, verbose: bool) -> list[str]:
    """By reason, so that one reason that many knobs share is said once."""
    by_reason: dict[str, list[str]] = {}
    for skip in plan.skips:
        by_reason.setdefault(skip.reason, []).append(skip.knob)
    ranked = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    shown = ranked if verbose else ranked[:_SHORT]
    lines = ["", screen.paint("dim", "left alone:")] if shown else []
    for reason, names in shown:
        named = ", ".join(names if verbose else names[:6]) + (
            "" if verbose or len(names) <= 6 else f" and {len(names) - 6} more"
        )
        lines += prose(screen, f"{clean(named, longest=4000)}: {clean(reason)}", first="  ", rest="    ", style="dim")
    if len(ranked) > len(shown):
        more = sum(len(names) for _, names in ranked[len(shown) :])
        lines += prose(screen, f"and {plural(more, 'knob')} for other reasons (--verbose)", first="  ", style="dim")
    return lines


def verified_objects(verified: Sequence[Verified]) -> list[dict[str, Any]]:
    """Changes as objects for JSON: name, old and new text, whether it is in force, the effective text, and why."""
    return [
        {
            "name": str(entry.change.setting),
            "old": entry.change.old,
            "new": entry.change.new,
            "held": entry.held.value,
            "effective": entry.effective,
            "because": entry.because,
        }
        for entry in verified
    ]


def render_undone(restored: Sequence[str]) -> str:
    """How many steps were reverted, or that no plan is applied; a line."""
    return f"{len(restored)} steps reverted.\n" if restored else "No plan of bedplate is applied on this host.\n"


def render_log(rows: Sequence[Mapping[str, Any]]) -> str:
    """The log of tuning, a line for each row and for what went wrong in it; that it is empty, where there is none."""
    lines: list[str] = []
    for row in rows:
        changes = row.get("changes", [])
        lines.append(
            f"{row.get('at')}  {row.get('what')}  {row.get('policy', row.get('kind', ''))}  {len(changes)} settings"
        )
        lines += [f"    {text}" for text in (*([row["error"]] if "error" in row else []), *row.get("drifted", []))]
    return "\n".join(lines or ["The log is empty: no plan was applied on this host."]) + "\n"
