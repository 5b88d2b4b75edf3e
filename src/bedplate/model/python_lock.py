"""What a layer asks of a resolver of Python packages, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonLayer:
    """What is asked of uv: the pins of one layer, and the root and driver below it."""

    name: str
    pins: tuple[str, ...]
    """ "vllm==0.19.1", "torch==2.10.0": what the stack decided of Python packages."""
    python: str
    """ "3.13"."""
    glibc: str
    """ "2.41"."""
    driver: str | None
    """Upstream version of NVIDIA's driver; None without one."""
    driver_floors: Mapping[str, str]
    """The lowest driver by the name of the CUDA runtime package: {"nvidia-cuda-runtime": "580"}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonLock:
    """What uv answered: requirements with hashes, or why there are none."""

    layer: str
    text: str
    """A requirements file, each package with its hashes; "" when uv found no answer."""
    packages: int
    conflict: str = ""
    """uv's own words when it disagrees with the rows; "" when it agrees."""
