"""The record of an engine layer that was built here: engines/NAME.json of the state directory, beside the layer itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.paths import Paths
from bedplate.errors import ReadError
from bedplate.host.root.jsontext import parse_json
from bedplate.model.facts.stack import DeviceCode
from bedplate.model.layer import GpuCode


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """What a build published; the file has more, for people."""

    version: str
    digest: str
    """SHA-256 of the inputs that it was built from."""
    file: str
    """Name of the layer beside the record."""
    size_bytes: int
    architectures: tuple[str, ...]
    """Of models that it loads, as its own library lists them; () where it has no such list."""
    gpu: GpuCode | None = None
    """The GPU code in it; None in the record of an earlier bedplate."""


def layer_record_file(paths: Paths, engine: str) -> Path:
    """Where the record of an engine's layer lies; before the first build, nothing is there."""
    return paths.engines / f"{engine}.json"


def read_layer_record(paths: Paths, engine: str) -> LayerRecord | None:
    """The record of the layer that was published last; None before the first build, and where the record is damaged."""
    try:
        record = parse_json(layer_record_file(paths, engine).read_bytes(), "the record of a layer")
        texts = tuple(record[key] for key in ("version", "digest", "file"))
        size, architectures = record["size_bytes"], record["architectures"]
        gpu = read_gpu_code(engine, record)
    except (OSError, ReadError, KeyError, TypeError, AttributeError):
        return None
    if type(size) is not int or size < 0 or not isinstance(architectures, list):
        return None
    if not all(isinstance(text, str) for text in (*texts, *architectures)) or not _is_bare_name(texts[2]):
        return None
    version, digest, file = texts
    return LayerRecord(
        version=version, digest=digest, file=file, size_bytes=size, architectures=tuple(architectures), gpu=gpu
    )


def _is_bare_name(file: str) -> bool:
    return file not in ("", ".", "..") and "/" not in file and "\0" not in file


def read_gpu_code(name: str, record: dict[str, Any]) -> GpuCode | None:
    """The GPU code that the record of the layer `name` tells of; None where it has no such key.

    Raises KeyError or TypeError for one that no build writes.
    """
    gpu = record.get("gpu")
    if gpu is None:
        return None
    binaries = tuple(
        DeviceCode(path=row["path"], architectures=tuple(row["architectures"]), intermediate=tuple(row["intermediate"]))
        for row in gpu["binaries"]
    )
    return GpuCode(
        layer=name,
        apis=tuple(gpu["apis"]),
        binaries=binaries,
        driver_floors=tuple(gpu["driver_floors"]),
        toolkit=gpu.get("toolkit", ""),
    )
