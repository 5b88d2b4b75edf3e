"""Where an engine runs: which CPUs, and which version of its layer. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.model.host import CpuFacts
from bedplate.model.launch import Placement


def plan_placement(facts: CpuFacts) -> Placement:
    """All CPUs that are really available. Neighbours are held back by the weights of their slices, not by a cage here:
    pinning one neighbour to one of two CPUs that the engine uses too left 2.8 % of its speed."""
    return Placement(cpus=facts.cpus, cpu_quota=facts.quota, because=facts.because)


def newest_layer(engine: str, files: Sequence[str]) -> str | None:
    """The file with the highest version among ENGINE_VERSION.raw ("llamacpp_0.10.0.raw" is newer than "llamacpp_0.9.1.raw").

    None when there is none of this engine.
    """
    versions = {
        name: _version_key(name[len(engine) + 1 : -len(".raw")])
        for name in files
        if name.startswith(f"{engine}_") and name.endswith(".raw")
    }
    return max(versions, key=lambda name: versions[name], default=None)


def _version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Digits compare as numbers and stand above letters, as in 1.0rc1 < 1.0.1."""
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[A-Za-z]+", version))
