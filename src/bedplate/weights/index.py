"""index.json: which models lie in a directory. One schema, one writer, one reader: for the store, models disks and `serve`.

    {"schema": 1, "models": [{"name": "qwen", "sha256": "…", "path": "sha256/…", "format": "gguf", …}]}

A row is a ModelRef; its path is relative to the directory of the index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from bedplate.errors import BedplateError, ReadError
from bedplate.model.launch import Format, ModelRef, ModelTask
from bedplate.model.origin import Origin

SCHEMA = 2
"""The highest that is read. Models that need nothing newer are written as schema 1, which earlier bedplates read too."""
_SINCE_2 = {"task": "generate", "main": "", "projector": "", "adapters": []}
"""What schema 2 added, with what a row without it means."""
_NAME_LENGTH = 200  # characters; a disk may be made by others, so its names are wider than those that the store gives
DIGEST = re.compile(r"[0-9a-f]{64}")


class NewerIndex(ReadError):
    """A later bedplate wrote it: what it means is not known, so nothing may be derived from it or written over it."""


def render_index(models: Sequence[ModelRef]) -> str:
    """The index of these models, whose paths are relative; sorted, so that the same set gives the same text."""
    rows = [_row(model) for model in sorted(models, key=lambda model: model.name)]
    schema = max((_schema_of(row) for row in rows), default=1)
    return json.dumps({"schema": schema, "models": rows}, indent=1, sort_keys=True) + "\n"


def parse_index(text: str | bytes, where: str, problems: list[BedplateError] | None = None) -> tuple[ModelRef, ...]:
    """The models of an index, in its order. Raises ReadError naming `where`; NewerIndex for a higher schema number.

    With `problems`, what is wrong with one row goes there and leaves the others.
    """
    table = _parse_object(text, where, "index of models")
    if not isinstance(table.get("models"), list):
        raise ReadError(f"{where}: is not an index of models: it has no list of models")
    models: list[ModelRef] = []
    for row in table["models"]:
        try:
            models.append(_parse_row(row, where))
        except ReadError as error:
            if problems is None:
                raise
            problems.append(error)
    return tuple(models)


def render_record(model: ModelRef, origin: Origin | None = None) -> str:
    """One model as JSON, as the store keeps it beside the content; keys are sorted: equal models give equal texts.

    The origin stands beside the model, where bedplates that do not know it leave it alone.
    """
    row = _row(model)
    beside = {"origin": asdict(origin)} if origin is not None else {}
    return json.dumps({"schema": _schema_of(row), "model": row} | beside, indent=1, sort_keys=True) + "\n"


def parse_origin(text: str | bytes, where: str) -> Origin | None:
    """Where the model of a record came from; None where the record does not say, or says it in another form."""
    row = _parse_object(text, where, "record of a model").get("origin")
    types = {field.name: bool if field.type == "bool" else str for field in fields(Origin)}
    if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != types:
        return None
    return Origin(**row)


def parse_record(text: str | bytes, where: str) -> ModelRef:
    """The model of a record. Raises ReadError naming `where`; NewerIndex for a higher schema number."""
    return _parse_row(_parse_object(text, where, "record of a model").get("model"), where)


def _parse_object(text: str | bytes, where: str, what: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{where}: is not a valid {what}: {error}") from error
    if not isinstance(table, dict):
        raise ReadError(f"{where}: is not a valid {what}")
    schema = table.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerIndex(f"{where}: schema: expected {SCHEMA}, got {schema}", hint="Use the newer bedplate that wrote it.")
    if schema not in range(1, SCHEMA + 1):
        raise ReadError(f"{where}: is not a valid {what} of schema 1 to {SCHEMA}")
    return table


def _row(model: ModelRef) -> dict[str, Any]:
    """Its fields as JSON; those of schema 2 where they say something."""
    row = asdict(model) | {"adapters": list(model.adapters)}
    return {key: value for key, value in row.items() if key not in _SINCE_2 or value != _SINCE_2[key]}


def _schema_of(row: dict[str, Any]) -> int:
    return 2 if _SINCE_2.keys() & row.keys() else 1


def _parse_row(row: Any, where: str) -> ModelRef:
    types = {field.name: int if field.type == "int" else str for field in fields(ModelRef)} | {"adapters": list}
    if isinstance(row, dict):
        row = _SINCE_2 | row
    if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != types:
        raise ReadError(f"{where}: a row is not a model: {str(row)[:80]}", hint="Remove the row, and add the model again.")
    name = row["name"]
    if not name.isprintable() or not 0 < len(name) <= _NAME_LENGTH or not DIGEST.fullmatch(row["sha256"]):
        raise ReadError(f"{where}: {name!r}: bad name or digest")
    if row["path"] not in (f"sha256/{row['sha256']}", f"trees/{row['sha256']}") or row["format"] not in list(Format):
        raise ReadError(f"{where}: {name}: bad path or format: {row['path'][:100]!r}, {row['format'][:20]!r}")
    inside = [name for name in (row["main"], row["projector"], *row["adapters"]) if name != ""]
    if row["task"] not in list(ModelTask) or not all(isinstance(name, str) and is_file_name(name) for name in inside):
        raise ReadError(f"{where}: {name}: bad task or files: {row['task'][:20]!r}, {str(inside)[:100]}")
    shown = {"format": Format(row["format"]), "task": ModelTask(row["task"]), "adapters": tuple(row["adapters"])}
    return ModelRef(**row | shown)


def is_file_name(name: str) -> bool:
    """Whether a record may name a file so: one directly in the model's directory, and nowhere else."""
    return name.isprintable() and "/" not in name and not name.startswith(".") and len(name) <= _NAME_LENGTH
