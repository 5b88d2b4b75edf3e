"""Engine layers as text: a line for each, and the record of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bedplate.model.layer import LayerOffer
from bedplate.model.units import render_size


def render_layer_line(layer: Mapping[str, Any]) -> str:
    """Name, version, packages and size of a layer of `bedplate engine list --json`; no line end."""
    if layer["version"] is None:
        return f"{layer['name']:<18} not built"
    size = render_size(layer["size_bytes"])
    return f"{layer['name']:<18} {layer['version']:<14} {layer['packages']:>4} packages {size:>10}"


def render_offer(offer: LayerOffer) -> str:
    """Whether a layer is offered for a GPU, why, and what would run instead; no line end."""
    if offer.offered:
        return f"    offered for {offer.device}: {offer.because}"
    instead = f"\n    instead: {offer.instead}" if offer.instead else ""
    return f"    not offered for {offer.device}: {offer.because}{instead}"


def render_layer(record: Mapping[str, Any]) -> str:
    """The record of a layer as lines for people; ends with a line end."""
    python = record.get("python")
    lines = [
        f"{record['name']} {record['version']}, root of Debian {record['suite']}",
        f"  {record['file']}  {render_size(record['size_bytes'])}  sha256 {record['sha256']}",
        f"  inputs {record['digest'][:16]}",
        *_gpu(record.get("gpu")),
        "",
        f"{len(record['packages'])} packages of Debian",
        *(f"  {package['name']:<40} {package['version']}" for package in record["packages"]),
    ]
    if python:
        lines += ["", f"{len(python['packages'])} packages of Python {python['version']}"]
        for package in python["packages"]:
            source = "" if package["source"] == "pypi" else f" from {package['source']}"
            lines.append(f"  {package['name']:<40} {package['version']}{source}")
    return "\n".join(lines) + "\n"


def _gpu(gpu: Mapping[str, Any] | None) -> Iterable[str]:
    if gpu is None or not gpu["apis"]:
        return
    yield f"  GPU back ends: {', '.join(gpu['apis'])}"
    for binary in gpu["binaries"]:
        yield f"  {binary['path']} holds code for {', '.join(binary['architectures']) or 'no GPU'}"
        if binary["intermediate"]:
            toolkit = gpu.get("toolkit") or "its version of CUDA"
            yield f"    and PTX for {', '.join(binary['intermediate'])}, which a driver that knows {toolkit} compiles"
    if gpu["driver_floors"]:
        yield f"  needs of the driver: {', '.join(gpu['driver_floors'])}"
