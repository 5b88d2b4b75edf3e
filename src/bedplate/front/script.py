"""The Lua script that HAProxy loads: rules from the rows of the protocol, and the text that applies them to a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bedplate.model.protocol import JsonKind, ParameterEffect, ParameterRow

_WANTED = {
    JsonKind.STRING: "a string",
    JsonKind.INTEGER: "an integer",
    JsonKind.NUMBER: "a number",
    JsonKind.BOOLEAN: "a boolean",
    JsonKind.ARRAY: "an array",
    JsonKind.OBJECT: "an object",
}
# What each path calls "some tool must be called", and which objects, by their type, name no tool.
_FORCED = {
    "/v1/chat/completions": ('"required"', ()),
    "/v1/responses": ('"required"', ()),
    "/v1/messages": ('{"type":"any"}', ("auto", "any", "none")),
    "/v1/messages/count_tokens": ('{"type":"any"}', ("auto", "any", "none")),
}


@dataclass(slots=True)
class _Rule:
    """A parameter and those inside it, as nested as they are in JSON."""

    row: ParameterRow | None = None
    members: dict[str, _Rule] = field(default_factory=dict)
    items: dict[str, _Rule] = field(default_factory=dict)


def render_script(rows: Sequence[ParameterRow], text: str) -> str:
    """The script for these rows, and `text`, which is catalog/request.lua; the same input gives the same script.

    Raises ValueError for a row inside of a parameter that has none itself.
    """
    rules: dict[str, dict[str, _Rule]] = {}
    for row in rows:
        for path in row.paths:
            _place(rules.setdefault(row.engine, {}).setdefault(path, _Rule()), row)
    lines = ["-- Made from the rows of the protocol; changes here are lost.", "local RULES = {"]
    for engine, paths in rules.items():
        lines.append(f"  [{_quote(engine)}] = {{")
        for path, rule in paths.items():
            lines.append(f"    [{_quote(path)}] = {{ {_forced(path, rule)}parameters = {{")
            lines += [f"      [{_quote(name)}] = {_render(part)}," for name, part in rule.members.items()]
            lines.append("    } },")
        lines.append("  },")
    return "\n".join([*lines, "}", "", text])


def _place(top: _Rule, row: ParameterRow) -> None:
    rule, table = top, top.members
    for part in row.name.split("."):
        rule = table.setdefault(part.removesuffix("[]"), _Rule())
        table = rule.items if part.endswith("[]") else rule.members
    rule.row = row


def _forced(path: str, rule: _Rule) -> str:
    if path not in _FORCED or "tool_choice" not in rule.members:
        return ""
    text, plain = _FORCED[path]
    kinds = "".join(f", plain_{kind} = true" for kind in plain)
    return f"forced = {{ text = {_quote(text)}{kinds} }}, "


def _render(rule: _Rule) -> str:
    row = rule.row
    if row is None:
        raise ValueError(
            f"a row of the protocol is inside a parameter without a row: {', '.join(rule.members | rule.items)}"
        )
    if row.effect is ParameterEffect.REFUSED:
        return f"{{ refused = {_quote(row.because)} }}"
    wanted = " or ".join(_WANTED[kind] for kind in row.kinds)
    parts = [f"kinds = {{ {', '.join(f'{kind} = true' for kind in row.kinds)} }}", f"wanted = {_quote(wanted)}"]
    if row.values:
        parts.append(f"values = {{ {', '.join(f'[{_quote(value)}] = true' for value in row.values)} }}")
        parts.append(f"because = {_quote(row.because)}")
    for name, inner in (("members", rule.members), ("items", rule.items)):
        if inner:
            rows = ", ".join(f"[{_quote(key)}] = {_render(part)}" for key, part in inner.items())
            parts.append(f"{name} = {{ {rows} }}")
    return f"{{ {', '.join(parts)} }}"


def _quote(text: str) -> str:
    """A string of Lua; the loader of the rows lets no control characters pass."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
