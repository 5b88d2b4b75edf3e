"""Disks: what is computed from a measured speed, and nothing without one.

io.cost with a wrong model gives bandwidth away; its six coefficients are those that `bedplate measure` found on this
device. QoS: the latency target is twice the 95th percentile of an unloaded device; when it is missed the kernel issues
less, but never so much less that an engine's own deep reads, which miss it too, are slowed by more than a tenth. Source:
Documentation/admin-guide/cgroup-v2.rst, block/blk-iocost.c."""

from __future__ import annotations

from bedplate.model.device_speed import LEAST_KEPT_PCT, DeviceSpeed
from bedplate.model.knob import Grade
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.tuning import Change, Means, Plan, Policy, Setting
from bedplate.model.units import GIB, MIB, render_size
from bedplate.model.wording import first_words
from bedplate.plan.tune.builder import PlanBuilder

_ROOT = "/sys/fs/cgroup"
_MODEL, _QOS = f"{_ROOT}/io.cost.model", f"{_ROOT}/io.cost.qos"
_LEAST_BACKGROUND, _MOST_BACKGROUND = 256 * MIB, 2 * GIB
# Percent of the model's rate. At least: with 50 a model that was loaded alone from a disk of 1.1 GB/s came at 0.65. At most:
# the linear model takes reads of 1 MiB for a tenth dearer than they are on a disk with a limit on operations; without any
# latency target, above 100, a neighbour's standing queue took half of the disk in one run of six. bench/README.md has both.
_LEAST_RATE, _MOST_RATE = 90, 125
_DEFAULT_DIRTY = 0.20  # vm.dirty_ratio of the kernel, of the memory that is available


def plan_disks(builder: PlanBuilder) -> None:
    """io.cost and dirty limits of the disk that holds the models, else the fastest one that was measured."""
    speed = _choose(builder)
    if speed is None:
        how = "bedplate measure DIRECTORY, on the disk of the models"
        builder.skip("io.cost", f"not measured on this host, and I/O weights have no effect without it: {how}")
        builder.skip("io.dirty", f"not measured on this host: {how}")
    else:
        _cost(builder, speed)
        _dirty(builder, speed)
    disk = f"/sys/block/{speed.device if speed is not None else 'DEVICE'}/queue"
    builder.skip(
        "io.readahead",
        "good for one loader and bad for another, and no clean A/B is known:"
        f" bedplate prove --setting {disk}/read_ahead_kb=1024",
    )
    builder.skip(
        "io.scheduler",
        "the kernel's choice is kept; beside deep random reads, `none` left a direct load 15 % of its speed,"
        " mq-deadline 40 %:"
        f" bedplate prove --setting {disk}/scheduler=mq-deadline",
    )


def divided_disk(builder: PlanBuilder) -> DeviceSpeed | None:
    """The disk that io.cost is planned for; None where there is none, and plan_disks says why."""
    speed = _choose(builder) if _has_iocost(builder) else None
    return None if speed is None or _loses(speed) else speed


def _loses(speed: DeviceSpeed) -> bool:
    return speed.kept_pct is not None and speed.kept_pct < LEAST_KEPT_PCT


def _has_iocost(builder: PlanBuilder) -> bool:
    """Whether the kernel divides a disk by a cost model."""
    root = builder.inputs.groups.find("/")
    return root is not None and root.read("io.cost.qos").value is not None and root.read("io.cost.model").value is not None


def plan_cost(speed: DeviceSpeed, *, model: str, qos: str) -> Plan:
    """The plan of nothing but io.cost of a disk, to be tried; model and qos: texts of the root group's files."""
    changes = tuple(
        Change(
            setting=Setting(means=Means.FILE, name=path),
            knob="io.cost",
            old=old,
            new=new,
            parse=Parse.WORDS,
            compare=Compare.CONTAINS,
            because=f"tried on {speed.device}",
            grade=Grade.N,
            sources=(),
        )
        for path, old, new in _cost_values(speed, model, qos)
    )
    return Plan(policy=Policy.SHARED_HOST, changes=changes, skips=(), refusals=(), host=f"{speed.device}, being measured")


def _cost_values(speed: DeviceSpeed, model: str, qos: str) -> tuple[tuple[str, str, str], ...]:
    """(file, the disk's line in it now, what is written) of io.cost."""
    new_model = (
        f"{speed.number} ctrl=user model=linear rbps={speed.read_bytes_per_s} rseqiops={speed.read_seq_iops}"
        f" rrandiops={speed.read_rand_iops} wbps={speed.write_bytes_per_s} wseqiops={speed.write_seq_iops}"
        f" wrandiops={speed.write_rand_iops}"
    )
    new_qos = (
        f"{speed.number} enable=1 ctrl=user rpct=95.00 rlat={2 * speed.read_p95_us} wpct=95.00 wlat={2 * speed.write_p95_us}"
        f" min={_LEAST_RATE}.00 max={_MOST_RATE}.00"
    )
    return (
        (_MODEL, _line_of(speed, model) or f"{speed.number} ctrl=auto", new_model),
        (_QOS, _line_of(speed, qos) or f"{speed.number} enable=0", new_qos),
    )


def _line_of(speed: DeviceSpeed, text: str) -> str | None:
    return next((line for line in text.splitlines() if line.split()[:1] == [speed.number]), None)


def _choose(builder: PlanBuilder) -> DeviceSpeed | None:
    """The measured disk under the models of the engines, else the one that reads fastest."""
    facts = builder.inputs.facts
    paths = [path for engine in facts.engines for path in engine.model_paths]
    for path in paths:
        points = [(mount, device) for device in facts.blocks for mount in device.mounts if _is_under(path, mount)]
        if not points:
            continue
        _, block = max(points, key=lambda pair: len(pair[0]))
        for speed in builder.inputs.io:
            if speed.device == block.name or speed.device in block.parents:
                return speed
    return max(builder.inputs.io, key=lambda speed: (speed.read_bytes_per_s, speed.device), default=None)


def _is_under(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _cost(builder: PlanBuilder, speed: DeviceSpeed) -> None:
    root = builder.inputs.groups.find("/")
    qos = root.read("io.cost.qos").value if root is not None else None
    model = root.read("io.cost.model").value if root is not None else None
    if qos is None or model is None:
        builder.skip("io.cost", "this kernel has no io.cost (CONFIG_BLK_CGROUP_IOCOST), or the root group could not be read")
        return
    others = [other.device for other in builder.inputs.io if other is not speed]
    rest = f"; {first_words(others)} was also measured, but holds no model" if others else ""
    if _loses(speed):
        builder.skip(
            "io.cost",
            f"a load from {speed.device} without any neighbour kept {speed.kept_pct} % under it, measured {speed.made[:10]}:"
            " io.cost takes too much",
        )
        return
    because = (
        f"{speed.device} reads {render_size(speed.read_bytes_per_s)}/s and {speed.read_rand_iops} times a second at random,"
        f" measured {speed.made[:10]}{rest}"
    )
    for path, old, new in _cost_values(speed, model, qos):
        why = because if path == _MODEL else f"reads of {speed.device} within twice their unloaded {speed.read_p95_us} us"
        builder.file(path, new, knob="io.cost", because=why, parse=Parse.WORDS, compare=Compare.CONTAINS, old=old)


def _dirty(builder: PlanBuilder, speed: DeviceSpeed) -> None:
    """Writing begins in the background after one second's worth, writers wait from four on; where that is less than
    now."""
    background = min(max(speed.write_bytes_per_s, _LEAST_BACKGROUND), _MOST_BACKGROUND) // MIB * MIB
    limit = 4 * background
    now = int(_DEFAULT_DIRTY * builder.inputs.facts.memory.total_bytes)
    set_bytes = builder.inputs.files.read("/proc/sys/vm/dirty_bytes").value or "0"
    if set_bytes == "0" and limit >= now:
        builder.skip(
            "io.dirty",
            f"four seconds of writing to {speed.device} ({render_size(limit)}) are more than the {render_size(now)} that the"
            " kernel allows on this machine",
        )
        return
    rate = render_size(speed.write_bytes_per_s)
    because = (
        f"{speed.device} writes {rate}/s: {render_size(limit)} are four seconds of writing; a fifth of the RAM would be more"
    )
    for name, value in (("dirty_background_bytes", background), ("dirty_bytes", limit)):
        path = f"/proc/sys/vm/{name}"
        old = builder.inputs.files.read(path).value or "0"
        builder.file(path, str(value), knob="io.dirty", because=because, parse=Parse.BYTES, old=old)
