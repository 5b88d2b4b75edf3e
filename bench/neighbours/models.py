"""The models that are measured, of random weights where no real ones are needed; made once, kept in the cache."""

from __future__ import annotations

import os
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.catalog.shapes import ModelShape, read_shapes
from bedplate.model.progress import Progress
from bedplate.weights.random_model import Quant, write_random_model

_SEED = 4
_LOAD_BYTES = 96 << 20

# Small enough that a token takes tenths of a second where every instruction is emulated, large enough to miss: 24 MB.
_MAPPED = ModelShape(
    id="bench-mapped-5",
    architecture="llama",
    layers=5,
    width=512,
    heads=8,
    kv_heads=8,
    head_size=64,
    feed_forward=2048,
    vocabulary=4096,
    context_length=4096,
    rope_base=10000.0,
    norm_epsilon=1e-5,
    tied=True,
    source="made for this bench",
)


def host_model(paths: Paths, progress: Progress) -> Path:
    """The 1B shape of the measurements by hand, Q4_0."""
    shape = next(shape for shape in read_shapes() if shape.id == "llama-3.2-1b")
    return _made(paths, shape, Quant.Q4_0, progress)


def mapped_model(paths: Paths, progress: Progress) -> Path:
    return _made(paths, _MAPPED, Quant.Q8_0, progress)


def write_load_file(path: Path) -> None:
    """Bytes that do not compress, to be loaded: a loader does not look at them."""
    with path.open("wb") as file:
        for _ in range(_LOAD_BYTES >> 23):
            file.write(os.urandom(8 << 20))
        os.fsync(file.fileno())


def _made(paths: Paths, shape: ModelShape, quant: Quant, progress: Progress) -> Path:
    path = paths.cache / "bench/neighbours" / f"{shape.id}-{quant}-{_SEED}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        write_random_model(partial, shape, quant, seed=_SEED, progress=progress)
        partial.rename(path)
    return path
