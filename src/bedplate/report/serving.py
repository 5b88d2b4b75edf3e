"""What a host serves, as text: its CPUs, then a line for each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedplate.model.units import render_size


def render_serving(record: Mapping[str, Any]) -> str:
    """The JSON object of `bedplate serve` as lines for people, without its problems; ends with a line end."""
    lines = [f"CPUs: {len(record['cpus'])} ({record['because']})"]
    lines += [
        f"{model['name']}: {model['engine']}, {model['parallel']} requests of {model['context']} tokens,"
        f" {render_size(model['memory_bytes'])}, layer {model['layer']}"
        for model in record["models"]
    ]
    return "\n".join(lines) + "\n"
