"""Rows of models, read from models.toml and from further files of rows, and found by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.drop_ins import RowFile, RowKind, read_shipped, rows_hint
from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.catalog.near import near_hint
from bedplate.catalog.strict import build_file, schema_problems
from bedplate.errors import DataError, UsageError
from bedplate.model.catalogued import ModelRow
from bedplate.model.decoder import DecoderShape

MODELS = Path(__file__).parent / "models.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file of model rows as it is parsed; `schema` must be 1."""

    schema: int
    model: tuple[ModelRow, ...] = ()


def read_model_rows(drop_ins: Sequence[RowFile] = ()) -> tuple[ModelRow, ...]:
    """The rows that ship, then those of further files, in their order. Raises ReadError, DataError with every problem.

    No row may repeat an id or a name of another one, whatever its case; the problem names both places.
    """
    rows: list[ModelRow] = []
    places: dict[str, str] = {}
    problems: list[str] = []
    precisions = [precision.id for precision in read_fit_engines().precision]
    for file in (read_shipped(MODELS), *drop_ins):
        try:
            table = build_file(file.read_tables(), ModelFile, name=file.name)
        except DataError as error:
            problems += error.problems
            continue
        problems += schema_problems(table.schema, f"{file.name}:")
        for row in table.model:
            place = f"{file.name}:{row.id}"
            names = dict.fromkeys([row.id.lower(), *(name.lower() for name in row.names)])
            problems += [
                f"{place}: the name {name!r} stands twice, here and in {places[name]}" for name in names if name in places
            ]
            places.update((name, place) for name in names if name not in places)
            problems += [f"{place}: {problem}" for problem in shape_problems(row.shape)]
            problems += [] if row.checkpoint else [f"{place}: has no checkpoint"]
            unknown = [checkpoint.precision for checkpoint in row.checkpoint if checkpoint.precision not in precisions]
            problems += [f"{place}.checkpoint: got the precision {id!r}, expected {', '.join(precisions)}" for id in unknown]
            rows.append(row)
    if problems:
        raise DataError(problems, hint=rows_hint(RowKind.MODELS, drop_ins))
    return tuple(rows)


def shape_problems(shape: DecoderShape) -> list[str]:
    """What of a shape contradicts itself, a sentence each; () for a shape that can be reckoned with."""
    problems = [
        f"shape.{name}: got {value}, expected at least 1"
        for name, value in (
            ("layers", shape.layers),
            ("hidden", shape.hidden),
            ("heads", shape.heads),
            ("vocabulary", shape.vocabulary),
        )
        if value < 1
    ]
    if (shape.kv_lora_rank > 0) == (shape.kv_heads > 0):
        problems.append("shape: expected either kv_heads (and head_size) or kv_lora_rank (and rope_size)")
    if shape.kv_heads and not shape.head_size:
        problems.append("shape.head_size: missing")
    if (shape.window_layers > 0) != (shape.window > 0):
        problems.append("shape: window and window_layers belong together")
    if max(shape.window_layers, shape.attention_layers, shape.state_layers, shape.dense_layers) > shape.layers:
        problems.append("shape: more layers of one kind than layers")
    return problems


def find_model_row(name: str, rows: Sequence[ModelRow]) -> ModelRow:
    """The row with this id or published name, whatever its case. Raises UsageError that lists near names."""
    wanted = name.lower()
    for row in rows:
        if wanted in (row.id.lower(), *(known.lower() for known in row.names)):
            return row
    names = {known.lower(): row.id for row in rows for known in (row.id, *row.names)}
    raise UsageError(f"{name[:200]!r}: is no file, no directory, and no model of the catalog", hint=near_hint(name, names))
