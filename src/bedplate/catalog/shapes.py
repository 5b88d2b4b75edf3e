"""The shapes of real models, read from shapes.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.strict import read_toml, schema_problems
from bedplate.errors import DataError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Numbers of one decoder-only model; feed_forward is the width of its gated feed-forward block."""

    id: str
    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context_length: int
    rope_base: float
    norm_epsilon: float
    tied: bool
    """Output and input embeddings are one matrix."""
    source: str
    qk_norm: bool = False
    qkv_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """shapes.toml as it is parsed, its rows in the order of the file; `schema` must be 1."""

    schema: int
    shape: tuple[ModelShape, ...]


def read_shapes(path: Path = Path(__file__).parent / "shapes.toml") -> tuple[ModelShape, ...]:
    """Every shape, in the order of the file. Raises ReadError, and DataError for a bad row or an id that stands twice."""
    shapes = read_toml(path, Shapes)
    ids = [shape.id for shape in shapes.shape]
    problems = [f"{path.name}:{id}: appears twice" for id in sorted(set(ids)) if ids.count(id) > 1]
    problems += schema_problems(shapes.schema, f"{path.name}:")
    if problems:
        raise DataError(problems)
    return shapes.shape


def find_shape(id: str) -> ModelShape:
    """The shape of that id. Raises UsageError naming those there are."""
    shapes = read_shapes()
    for shape in shapes:
        if shape.id == id:
            return shape
    raise UsageError(f"{id}: no shape has this name; the shapes are: {', '.join(shape.id for shape in shapes)}")
