"""Which layers have a sliding window in architectures whose files do not say so: window_patterns.toml."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.strict import read_toml, schema_problems
from bedplate.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPattern:
    """One row: of each `period` layers, all but the last keep only a window."""

    names: tuple[str, ...]
    """Of the architecture: in GGUF, and in config.json's model_type."""
    period: int
    chunk: int = 0
    """Tokens of the window where the file does not say them; 0: it does."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPatterns:
    """window_patterns.toml as it is parsed; `schema` must be 1."""

    schema: int
    pattern: tuple[WindowPattern, ...]


def count_window_layers(layers: int, period: int) -> int:
    """How many of so many layers keep only a window where the last of each `period` keeps everything."""
    return layers - layers // period


@functools.cache
def find_window_pattern(architecture: str) -> WindowPattern | None:
    """The row of an architecture, or None. Raises ReadError, and DataError for a bad row."""
    path = Path(__file__).parent / "window_patterns.toml"
    file = read_toml(path, WindowPatterns)
    problems = schema_problems(file.schema, f"{path.name}:")
    problems += [f"{path.name}:{row.names[0]}: period below 2" for row in file.pattern if row.period < 2]
    if problems:
        raise DataError(problems)
    return next((row for row in file.pattern if architecture in row.names), None)
