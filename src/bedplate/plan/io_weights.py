"""Weights of I/O, where io.cost or bfq divides a disk: a share among siblings, as for CPUs, but without a floor. Pure.

Nobody measured yet what a floor would cost an engine at a disk, so the policies state none and neighbours have a hundredth.
What nobody weighed has OTHERS, which is the kernel's default (cgroup-v2.rst, io.weight, from 1 to 10000).
"""

from __future__ import annotations

ENGINE = 10_000
OTHERS = 100
BACKGROUND = 1
