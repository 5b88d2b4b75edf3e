"""How fast a block device really is, as measured on it: what io.cost and the dirty limits are computed from."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_KEPT_PCT = 90
"""Of a load without any neighbour: where io.cost leaves less it is not planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpeed:
    """The six coefficients of the linear model of blk-iocost, and latencies of an unloaded device.

    Source: io.cost.model and io.cost.qos in Documentation/admin-guide/cgroup-v2.rst; the loads are those of the kernel's
    tools/cgroup/iocost_coef_gen.py.
    """

    device: str
    """Kernel name of the whole disk, "nvme0n1": never a partition or what lies over one."""
    number: str
    """"259:0", as io.cost.model takes it."""
    model: str
    """Of the device, so that a record is not used for another one; "" where it has none."""
    read_bytes_per_s: int
    """Of one job with 128 KiB blocks or of four with 4 MiB, as loaders read; the faster one."""
    read_seq_iops: int
    read_rand_iops: int
    write_bytes_per_s: int
    write_seq_iops: int
    write_rand_iops: int
    read_p95_us: int
    """95th percentile of the completion of single 4 KiB random reads, one at a time."""
    write_p95_us: int
    kept_pct: int | None
    """Percent of the rate of four jobs with 4 MiB blocks that io.cost as planned leaves while nothing else uses the disk;
    None where it could not be tried."""
    kernel: str
    """Release under which it was measured."""
    made: str
    """UTC, ISO 8601."""
