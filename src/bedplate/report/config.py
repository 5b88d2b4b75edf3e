"""A machine's configuration in words and as JSON: what would change, what is in force, what was done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bedplate.model.config_change import ConfigIdentity, ConfigOutcome, ConfigPlan, ShownConfig
from bedplate.model.units import render_seconds


def plan_object(plan: ConfigPlan) -> dict[str, Any]:
    """What applying would change, as JSON takes it: keys, files without their texts, units."""
    return {
        "path": plan.path,
        "sha256": plan.sha256,
        "sequence": plan.sequence,
        "key": plan.key,
        "keys": [{"key": change.key, "old": change.old, "new": change.new} for change in plan.keys],
        "files": [{"path": change.path, "table": change.table, "what": change.what} for change in plan.files],
        "actions": [str(action) for action in plan.actions],
        "notes": list(plan.notes),
    }


def render_plan(plan: ConfigPlan) -> str:
    """The keys that differ, the files and units that follow from it, and what has no effect yet; lines with line ends."""
    if not plan.keys and not plan.files:
        return "Nothing would change: the configuration is in force.\n"
    lines = [f"{change.key}: {_value(change.old)} -> {_value(change.new)}" for change in plan.keys]
    lines += [f"{change.what:<8}{change.path}" for change in plan.files]
    lines += [f"then    {action}" for action in plan.actions]
    lines += [f"note    {note}" for note in plan.notes]
    return "".join(f"{line}\n" for line in lines)


def outcome_object(outcome: ConfigOutcome) -> dict[str, Any]:
    """What applying came to: the plan, and what is in force; number null where nothing was changed."""
    identity = outcome.identity
    return {
        **plan_object(outcome.plan),
        "number": identity.number if identity is not None else None,
        "confirm_within_s": outcome.waits_s,
    }


def render_outcome(outcome: ConfigOutcome) -> str:
    """A line or two: which configuration is in force, and how to keep it."""
    identity = outcome.identity
    if identity is None:
        return "The configuration is in force already.\n"
    said = f"Configuration {identity.number} is in force (sequence {identity.sequence}, sha256 {identity.sha256[:12]}).\n"
    if outcome.waits_s is None:
        return said
    within = render_seconds(outcome.waits_s)
    return f"{said}It is taken back in {within} unless you run: bedplate config confirm\n"


def shown_object(shown: ShownConfig) -> dict[str, Any]:
    """Where the configuration comes from, and every key with its value."""
    return {
        "source": shown.source,
        "in_force": identity_object(shown.identity) if shown.identity is not None else None,
        "waits": shown.waits,
        "changed_by_hand": shown.by_hand,
        "values": dict(shown.values),
    }


def identity_object(identity: ConfigIdentity) -> dict[str, Any]:
    """Which configuration it is, when it was applied, by whom, and from which file."""
    return {
        "number": identity.number,
        "at": identity.at,
        "who": identity.who,
        "source": identity.source,
        "sha256": identity.sha256,
        "sequence": identity.sequence,
        "key": identity.key,
    }


def render_shown(shown: ShownConfig, *, everything: bool) -> str:
    """How it came into force, then a line for each key that has not its default; everything: for each key."""
    lines = [f"source  {shown.source or 'none; every key has its default'}"]
    if shown.identity is not None:
        lines.append(f"applied {render_identity(shown.identity, waits=shown.waits)}")
    if shown.by_hand:
        lines.append(f"CHANGED {shown.source or 'machine.toml'} is not what was applied last; apply it again")
    lines += [
        f"{key} = {_value(value)}"
        for key, value in shown.values.items()
        if everything or key not in shown.defaults or shown.defaults[key] != value
    ]
    return "".join(f"{line}\n" for line in lines)


def render_identity(identity: ConfigIdentity, *, waits: bool) -> str:
    """One line without its end: "number 3, sequence 12, sha256 0123456789ab, at 2026-11-30T21:04:05Z by ann"."""
    said = f"number {identity.number}, sequence {identity.sequence}, sha256 {identity.sha256[:12]}"
    return f"{said}, at {identity.at} by {identity.who}{'; waits to be confirmed' if waits else ''}"


def render_history(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each row, oldest first: time, number, what, who, which file, why."""
    if not rows:
        return "Nothing was applied on this machine.\n"
    return "".join(f"{line}\n" for line in _history_lines(rows))


def _history_lines(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for row in rows:
        number = row.get("number", "")
        digest = str(row.get("sha256", ""))[:12]
        why = f" ({' '.join(str(row['why']).split())})" if row.get("why") else ""
        yield f"{row.get('at', '')}  {number!s:>4}  {row.get('what', ''):<10}  {digest:<12}  by {row.get('who', '')}{why}"


def _value(value: object) -> str:
    """A value as TOML writes it, in ASCII, which no terminal acts on; a table that is not there as a dash."""
    return "-" if value is None else json.dumps(list(value) if isinstance(value, tuple) else value)
