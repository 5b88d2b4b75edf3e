"""Where an engine runs: which CPUs, and which version of its layer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.launch import Placement
from bedplate.model.serving_host import CpuBudget
from bedplate.model.versions import version_key


def plan_placement(facts: CpuBudget) -> Placement:
    """All CPUs that are really available. Neighbours are held back by the weights of their slices, not by a cage here:
    pinning one neighbour to one of two CPUs that the engine uses too left 2.8 % of its speed."""
    return Placement(cpus=facts.cpus, cpu_quota=facts.quota, because=facts.because, amx=facts.amx)


def sort_layers(engine: str, files: Sequence[str]) -> tuple[str, ...]:
    """The files named ENGINE_VERSION.raw, the newest first ("llamacpp_0.10.0.raw" is newer than "llamacpp_0.9.1.raw")."""
    versions = {
        name: version_key(name[len(engine) + 1 : -len(".raw")])
        for name in files
        if name.startswith(f"{engine}_") and name.endswith(".raw")
    }
    return tuple(sorted(versions, key=lambda name: versions[name], reverse=True))
