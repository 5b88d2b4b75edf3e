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
from bedplate.model.launch import Format, ModelRef

SCHEMA = 1
_NAME_LENGTH = 200  # characters; a disk may be made by others, so its names are wider than those that the store gives
DIGEST = re.compile(r"[0-9a-f]{64}")


class NewerIndex(ReadError):
    """A later bedplate wrote it: what it means is not known, so nothing may be derived from it or written over it."""


def render_index(models: Sequence[ModelRef]) -> str:
    """The index of these models, whose paths are relative; sorted, so that the same set gives the same text."""
    rows = [asdict(model) for model in sorted(models, key=lambda model: model.name)]
    return json.dumps({"schema": SCHEMA, "models": rows}, indent=1, sort_keys=True) + "\n"


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


def render_record(model: ModelRef) -> str:
    """One model as JSON, as the store keeps it beside the content; keys are sorted: equal models give equal texts."""
    return json.dumps({"schema": SCHEMA, "model": asdict(model)}, indent=1, sort_keys=True) + "\n"


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
    if schema != SCHEMA:
        raise ReadError(f"{where}: is not a valid {what} of schema {SCHEMA}")
    return table


def _parse_row(row: Any, where: str) -> ModelRef:
    types = {field.name: int if field.type == "int" else str for field in fields(ModelRef)}
    if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != types:
        raise ReadError(f"{where}: a row is not a model: {str(row)[:80]}", hint="Remove the row, and add the model again.")
    name = row["name"]
    if not name.isprintable() or not 0 < len(name) <= _NAME_LENGTH or not DIGEST.fullmatch(row["sha256"]):
        raise ReadError(f"{where}: {name!r}: bad name or digest")
    if row["path"] not in (f"sha256/{row['sha256']}", f"trees/{row['sha256']}") or row["format"] not in list(Format):
        raise ReadError(f"{where}: {name}: bad path or format: {row['path'][:100]!r}, {row['format'][:20]!r}")
    return ModelRef(**{**row, "format": Format(row["format"])})
