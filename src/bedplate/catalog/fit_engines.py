"""What engines allocate, and the precisions that they load: fit_engines.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.strict import read_toml, schema_problems
from bedplate.errors import DataError
from bedplate.model.catalogued import EngineRow, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class FitEngines:
    """fit_engines.toml as it is parsed, its rows in the order of the file; `schema` must be 1."""

    schema: int
    engine: tuple[EngineRow, ...]
    precision: tuple[Precision, ...]


def read_fit_engines(path: Path = Path(__file__).parent / "fit_engines.toml") -> FitEngines:
    """Engines and precisions. Raises ReadError; DataError for a bad row, an id that stands twice, an unknown engine."""
    file = read_toml(path, FitEngines)
    problems = schema_problems(file.schema, f"{path.name}:")
    engines = [row.id for row in file.engine]
    for ids in (engines, [row.id for row in file.precision]):
        problems += [f"{path.name}:{id}: stands twice" for id in sorted(set(ids)) if ids.count(id) > 1]
    for precision in file.precision:
        unknown = sorted(set(precision.engines) - set(engines))
        problems += [f"{path.name}:{precision.id}.engines: no row for {id}" for id in unknown]
    if problems:
        raise DataError(problems)
    return file
