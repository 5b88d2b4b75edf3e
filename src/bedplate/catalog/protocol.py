"""The strict loader of protocol*.toml: what each parameter of the inference protocol does, engine by engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import build_row, parse_table, read_data, schema_problems
from bedplate.errors import DataError
from bedplate.model.protocol import ParameterEffect, ParameterRow

_HERE = Path(__file__).parent
_FILES = tuple(_HERE / name for name in ("protocol.toml", "protocol_vllm.toml", "protocol_transformers.toml"))
_KEYS = ("schema", "parameter")
_JSON_FIELDS = ("example", "other", "request", "becomes")


def read_protocol(paths: Sequence[Path] = _FILES) -> tuple[ParameterRow, ...]:
    """All rows in the order of the files. Raises DataError with all problems of one, ReadError when it cannot be read."""
    return tuple(row for path in paths for row in parse_protocol(read_data(path), name=path.name))


def read_request_script(path: Path = _HERE / "request.lua") -> str:
    """The Lua text that reads a request's body in HAProxy; it needs the rules of `front.script.render_script` before it."""
    return read_data(path)


def parse_protocol(text: str, *, name: str) -> tuple[ParameterRow, ...]:
    """Rows of a text; a parameter stands once for each engine and path. Raises DataError with every problem."""
    table = parse_table(text, name=name)
    problems = schema_problems(table.get("schema"), f"{name}:")
    problems += [f"{name}:{key}: unknown key; known keys: {', '.join(_KEYS)}" for key in table if key not in _KEYS]
    listed: Any = table.get("parameter", [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise DataError([*problems, f"{name}:parameter: expected [[parameter]] tables"])
    built = (
        build_row(row, ParameterRow, where=f"{name}:{row.get('name', f'parameter[{index}]')}", problems=problems)
        for index, row in enumerate(listed)
    )
    rows = tuple(row for row in built if row is not None)
    seen: set[tuple[str, str, str]] = set()
    for row in rows:
        problems += [f"{name}:{row.name}.{text}" for text in _row_problems(row)]
        for path in row.paths:
            if (row.engine, path, row.name) in seen:
                problems.append(f"{name}:{row.name}: stands twice for {path} of {row.engine}")
            seen.add((row.engine, path, row.name))
    if problems:
        raise DataError(problems, hint="Correct the rows; their keys are the fields of ParameterRow in model/protocol.py.")
    return rows


def _row_problems(row: ParameterRow) -> Iterator[str]:
    if not row.paths:
        yield "paths: is empty"
    if not row.kinds:
        yield "kinds: is empty"
    for field in _JSON_FIELDS:
        text = getattr(row, field)
        if text and text != "*" and not _is_json(text):
            yield f"{field}: got {text!r}, expected JSON"
    for value in row.values:
        if not _is_json(value):
            yield f"values: got {value!r}, expected JSON"
    if (row.effect is not ParameterEffect.WORKS or row.values) and not row.because.strip():
        yield "because: expected the reason for a parameter that is not taken, has no effect or takes some values only"
    if any(sign in row.because + row.name for sign in "\"'\\%\n"):
        yield "because: expected a sentence without quotes, backslashes and percent signs; it stands in a configuration"
    if row.effect is ParameterEffect.WORKS and row.example and not (row.setting or row.shows or row.changes):
        yield "setting, shows, changes: expected one of them: what shows that the example works?"
    if row.effect is not ParameterEffect.WORKS and not row.example:
        yield "example: is empty"
    if bool(row.values) != bool(row.other):
        yield "other: expected a value that is refused where some values are taken, and only there"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
