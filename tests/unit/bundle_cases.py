"""Bundles for the tests: their texts, their signatures, and what lies in the directory of a machine that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bedplate.act.signatures import read_public_key, sign_bytes
from bedplate.catalog.bundle import render_signature
from bedplate.flows.catalog import (
    CatalogPlaces,
    import_bundle,
)

INVENTED = (Path(__file__).parents[1] / "stack/invented.toml").read_text().partition("schema = 1\n")[2]

MODEL = """
[[model]]
id = "acme-1b"
shape = { layers = 2, hidden = 64, heads = 4, kv_heads = 2, head_size = 16, intermediate = 128, vocabulary = 1000 }
source = "us"
checked = "by hand"
date = "2026-11-30"

[[model.checkpoint]]
precision = "bf16"
"""

ROW = 'checked = "document"\ndate = "2026-11-28"\nevidence = ["a page"]\n'


def bundle_text(sequence: int = 12, *, name: str = "acme", date: str = "2026-11-30", rows: str = INVENTED) -> str:
    return f'schema = 1\n\n[bundle]\nname = "{name}"\nsequence = {sequence}\ndate = "{date}"\nnote = "the Z900"\n{rows}'


def signed(text: str, key: Path) -> bytes:
    """The text with a signature that is right, whatever the text is."""
    return (text + render_signature(read_public_key(key), sign_bytes(text.encode(), key))).encode()


def tree(places: CatalogPlaces) -> dict[str, bytes]:
    root = places.keys.parent
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def imported(places: CatalogPlaces, tmp_path: Path, key: Path, text: str) -> Any:
    file = tmp_path / "bundle.toml"
    file.write_bytes(signed(text, key))
    return import_bundle(file, places)


H100 = f'[[device]]\nid = "h100"\ntitle = "x"\n{ROW}'
