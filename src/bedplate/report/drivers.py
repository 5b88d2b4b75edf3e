"""Driver layers as text: one that was built, and those that can be built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bedplate.report.format import disk

_STATES = {True: "verified", False: "refused", None: "unverified"}


def render_driver(layer: Mapping[str, Any]) -> str:
    """What was built: `layer` has the keys of image/driver.DriverLayer."""
    state = "verified" if layer["verified"] else "UNVERIFIED"
    lines = [f"{layer['name']} {layer['version']} for the kernel {layer['kernel']}  {state}: {layer['because']}"]
    lines.append(f"{layer['path']}  {disk(layer['size_bytes'])}")
    lines.append(f"modules: {', '.join(layer['modules'])}")
    if layer["cpu_s"] is not None:
        lines.append(f"compiled in {layer['cpu_s']:.0f} CPU seconds")
    return "\n".join(lines) + "\n"


def driver_object(recipe: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe and what the catalogue says of it, as --json prints it."""
    keys = ("name", "version", "flavour", "source", "kernel")
    said = {"state": _STATES[verdict["builds"]], "because": verdict["because"], "evidence": list(verdict["evidence"])}
    return {key: recipe[key] for key in keys} | said


def render_drivers(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each driver that can be built."""
    lines = [
        f"{row['name']:12} {row['version'] or '-':22} {row['flavour']:12} {row['kernel']:24} {row['state']}\n"
        f"    {row['because']}"
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines)
