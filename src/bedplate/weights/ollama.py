"""Models of an Ollama store: a manifest (JSON) names the blobs of a model, which are GGUF files by their digests.

    manifests/HOST/NAMESPACE/NAME/TAG     what `ollama list` shows as NAME:TAG, or NAMESPACE/NAME:TAG
    blobs/sha256-<digest>

Written after the manifests of Ollama 0.5 to 0.12. Its templates are of a language of its own and are left out: engines use
the one in the GGUF file.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bedplate.errors import ModelRefused, ReadError
from bedplate.host.root.regular import open_regular
from bedplate.weights.safetensors import parse_json

_MOST_BYTES = 1 << 20
_KIND = re.compile(r"application/vnd\.ollama\.image\.(model|projector|adapter)")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaModel:
    """What a manifest names: one GGUF file, and what is loaded beside it."""

    name: str
    """As Ollama's clients write it: "qwen3:0.6b"."""
    model: Path
    projectors: tuple[Path, ...]
    adapters: tuple[Path, ...]
    blobs: Path
    """The directory that all of them lie in."""


def find_store(path: Path) -> Path | None:
    """The Ollama store that a path is, or lies in as a manifest; None for other paths."""
    real = path.absolute()
    if (real / "manifests").is_dir() and (real / "blobs").is_dir():
        return real
    for parent in real.parents:
        if parent.name == "manifests" and (parent.parent / "blobs").is_dir():
            return parent.parent
    return None


def list_manifests(store: Path) -> dict[str, Path]:
    """Manifest by model name, sorted."""
    paths = sorted(path for path in (store / "manifests").glob("*/*/*/*") if path.is_file())
    names = Counter(name_of(path, store) for path in paths)
    found: dict[str, Path] = {}
    for path in paths:
        name = name_of(path, store)
        if names[name] > 1:  # the same name from two places
            name = f"{path.relative_to(store / 'manifests').parts[0]}/{name}"
        found[name] = path
    return dict(sorted(found.items()))


def name_of(manifest: Path, store: Path) -> str:
    """ "qwen3:0.6b" of manifests/HOST/library/qwen3/0.6b; other namespaces stand before the name."""
    parts = manifest.absolute().relative_to(store / "manifests").parts
    if len(parts) != 4 or ".." in parts:
        raise ModelRefused(
            f"{manifest}: is no manifest of a model: expected manifests/HOST/NAMESPACE/NAME/TAG",
            hint="Name the store, and the model with --file=NAME:TAG.",
        )
    _, namespace, name, tag = parts
    return f"{name}:{tag}" if namespace == "library" else f"{namespace}/{name}:{tag}"


def read_manifest(manifest: Path, store: Path) -> OllamaModel:
    """The blobs that a manifest names. Raises ReadError, or ModelRefused where it names no GGUF file or one is missing."""
    try:
        with open_regular(manifest) as file:
            data = file.read(_MOST_BYTES + 1) or b""
    except OSError as error:
        raise ReadError(f"{manifest}: cannot read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise ModelRefused(f"{manifest}: longer than {_MOST_BYTES} bytes, no manifest of a model")
    layers = parse_json(data, str(manifest), depth=8).get("layers")
    found: dict[str, list[Path]] = {"model": [], "projector": [], "adapter": []}
    for layer in layers if isinstance(layers, list) else []:
        kind = _KIND.fullmatch(str(layer.get("mediaType"))) if isinstance(layer, dict) else None
        digest = _DIGEST.fullmatch(str(layer.get("digest"))) if isinstance(layer, dict) else None
        if kind is not None and digest is not None:
            found[kind[1]].append(store / "blobs" / f"sha256-{digest[1]}")
    if len(found["model"]) != 1:
        raise ModelRefused(
            f"{manifest}: names {len(found['model'])} GGUF files, expected 1",
            hint="Models of several files and models that run elsewhere cannot be added from an Ollama store.",
        )
    for blob in (path for paths in found.values() for path in paths):
        if not blob.exists():
            raise ModelRefused(f"{manifest}: {blob.name} is not in {blob.parent}", hint="Pull the model again.")
    return OllamaModel(
        name=name_of(manifest, store),
        model=found["model"][0],
        projectors=tuple(found["projector"]),
        adapters=tuple(found["adapter"]),
        blobs=store / "blobs",
    )
