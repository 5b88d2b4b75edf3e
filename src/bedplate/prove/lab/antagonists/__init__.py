"""Noisy neighbours: one row of catalog/antagonists.toml, at a level, in a place, bounded, counted and checked.

rows = read_antagonists()
scale = read_scale()
with prepared(Path("/var/tmp"), [(row, 200) for row in chosen], scale) as scratch:       # once an experiment
    with running(row, 100, Place(slice="neighbour.slice"), 30.0, scratch=scratch, scale=scale, rows=rows) as noise:
        ...                                     # measure
        noise.check(confined=True)              # raises AntagonistError: the sample does not count
        cpu_s = noise.cpu_s()                   # any time
        work, seconds = noise.work(), noise.elapsed_s()      # ends those that count only at their end
"""

from bedplate.prove.lab.antagonists.noise import (
    AntagonistError,
    AntagonistIdle,
    Noise,
    missing_packages,
    read_scale,
    require,
    running,
)
from bedplate.prove.lab.antagonists.place import PLAIN, CgroupTarget
from bedplate.prove.lab.antagonists.residency import evict, resident_bytes
from bedplate.prove.lab.antagonists.scratch import Scratch, prepared

__all__ = [
    "PLAIN",
    "AntagonistError",
    "AntagonistIdle",
    "CgroupTarget",
    "Noise",
    "Scratch",
    "evict",
    "missing_packages",
    "prepared",
    "read_scale",
    "require",
    "resident_bytes",
    "running",
]
