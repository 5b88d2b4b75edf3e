"""Watch whether engines wait for neighbours, and move the neighbours' limits: slowly, one at a time, each with its reason.

Engines are never touched. However it ends, all that was set is given back; killed, or hung, a timer of systemd does that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.guard import (
    RENEW_S,
    find_group,
    has_set_limits,
    hold_guard_lock,
    move_limits,
    read_planned,
    release_limits,
    renew_lease,
)
from bedplate.errors import CommandError, PreflightError, UsageError
from bedplate.host.kernel.guard_readings import MOUNT, GuardReader, read_limits
from bedplate.host.kernel.memory import parse_meminfo
from bedplate.host.root.root import Root
from bedplate.interrupts import hold_signals
from bedplate.model.guard import GuardBounds, GuardStep, NeighbourLimits, Released
from bedplate.model.progress import Progress
from bedplate.plan.guard import start_guard, step_guard

_REMARK_EVERY_S = 60.0
_FIELDS = {"CPUQuota": "cpu_max_pct", "MemoryHigh": "memory_high_bytes", "IOWeight": "io_weight"}
_SETTLE_LOOKS, _SETTLE_PAUSE_S = 60, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRequest:
    """What a guard watches, whose limits it may move, and for how long."""

    engine: str = "inference.slice"
    """Control group of the engines, as systemd-cgls prints it."""
    neighbour: str = "neighbour.slice"
    """Unit whose limits may move."""
    interval_s: float = 1.0
    """Between two readings."""
    seconds: float | None = None
    """How long; None: until it is interrupted."""
    dry_run: bool = False
    """Tell what would move, and move nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardListener:
    """Who hears what a guard does while it runs."""

    on_step: Callable[[GuardStep], None]
    """A move with its reason, or a remark, which comes at most once a minute."""
    on_released: Callable[[Released], None]
    """What was given back."""


def guard(root_dir: Path, request: GuardRequest, progress: Progress, heard: GuardListener) -> None:
    """Watch until the time is over or it is interrupted, and give back what was set.

    Raises UsageError for a request that cannot be, PreflightError naming all that the host lacks, BusyError beside another
    guard of the same unit.
    """
    if not 0.1 <= request.interval_s <= 60:
        raise UsageError(f"--interval: got {request.interval_s:g}, expected 0.1 to 60 seconds")
    _check_unit(request.neighbour)
    root = Root(root_dir)
    _check_host(root, needs_root=not request.dry_run)
    group = find_group(root, request.neighbour)
    if request.dry_run:
        _watch(root, request, group, progress, heard, met=[])
    else:
        _guard(root, request, group, progress, heard)


def release(root_dir: Path, unit: str) -> Released:
    """Give back at once all that a guard has set of a unit. Raises UsageError, PreflightError."""
    _check_unit(unit)
    root = Root(root_dir)
    _check_host(root, needs_root=True)
    return release_limits(root, unit)


def _check_unit(unit: str) -> None:
    if "/" in unit or not unit.endswith((".slice", ".service", ".scope")):
        raise UsageError(f"--neighbour: got {unit!r}, expected a unit such as neighbour.slice")


def _guard(root: Root, request: GuardRequest, group: str, progress: Progress, heard: GuardListener) -> None:
    """Watch, and give back at the end, whatever that is, all that was set; say then what was met of others' changes."""
    unit = request.neighbour
    with hold_guard_lock(root, unit):
        if has_set_limits(root, unit):
            progress.note("another guard ended without restoring its limits")
            planned = read_planned(root, unit)
            heard.on_released(release_limits(root, unit))
            _wait_for(root, group, planned)
        met: list[str] = []
        try:
            _watch(root, request, group, progress, heard, met=met)
        finally:
            with hold_signals():  # a second Ctrl-C waits until all is back
                set_now = has_set_limits(root, unit)
                last = release_limits(root, unit) if set_now else Released(files=(), drifted=())
                if set_now or met:
                    drifted = tuple(dict.fromkeys((*met, *last.drifted)))
                    heard.on_released(replace(last, drifted=drifted))


def _wait_for(root: Root, group: str, planned: NeighbourLimits | None) -> None:
    """Until the group shows these limits again: what is read before that would count as the plan's. The service manager
    writes groups from a queue; after a while what stands there counts."""
    for _ in range(_SETTLE_LOOKS):
        if planned is None or read_limits(root, group, os.cpu_count() or 1) == planned:
            return
        time.sleep(_SETTLE_PAUSE_S)


def _watch(
    root: Root, request: GuardRequest, group: str, progress: Progress, heard: GuardListener, *, met: list[str]
) -> None:
    """Until the time is over. met: takes what somebody else had changed of the guard's limits when it gave them back."""
    unit = request.neighbour
    if not root.exists(f"{MOUNT}/{request.engine.strip('/')}/cgroup.procs"):
        raise UsageError(
            f"--engine: {request.engine}: no such control group in {MOUNT}",
            hint="Name the control group of your engine, as systemd-cgls prints it: --engine system.slice/vllm.service",
        )
    bounds = read_bounds(root, group)
    reader = GuardReader(root, request.engine, group)
    state, before = start_guard(bounds), reader.read()
    progress.note(f"guarding {request.engine} against {unit}")
    until = None if request.seconds is None else time.monotonic() + request.seconds
    said_at = float("-inf")
    renewed_at = before.at_s
    while until is None or time.monotonic() < until:
        time.sleep(request.interval_s)
        now = reader.read()
        if not request.dry_run and state.limits != bounds.planned and not has_set_limits(root, unit):
            progress.note("another process has restored the limits: the guard starts again")  # by its timer, or by --release
            state = start_guard(bounds)
        step = step_guard(state, before, now, bounds)
        if not request.dry_run:
            try:
                if step.move is not None and step.state.limits == bounds.planned:
                    released = release_limits(root, unit)
                    met += released.drifted
                    bounds = _with_changes(root, group, bounds, released.left)
                    step = replace(step, state=replace(step.state, limits=bounds.planned))
                elif step.move is not None:
                    move_limits(root, unit, state.limits, step.state.limits, bounds)
                    renewed_at = now.at_s
                elif has_set_limits(root, unit) and now.at_s - renewed_at >= RENEW_S:
                    renew_lease(root, unit)
                    renewed_at = now.at_s
            except CommandError as error:
                # The unit is gone, or the service manager does not answer: the limits are as before.
                step = GuardStep(
                    state=replace(state, moved_at_s=now.at_s, quiet_s=0.0), move=None, remark=f"{unit}: {error.message}"
                )
        if step.move is not None or (step.remark and now.at_s - said_at >= _REMARK_EVERY_S):
            said_at = now.at_s
            heard.on_step(step)
        state, before = step.state, now


def _with_changes(root: Root, group: str, bounds: GuardBounds, properties: Sequence[str]) -> GuardBounds:
    """The bounds with what somebody else has set meanwhile for the plan's: nothing goes above that either."""
    now = asdict(read_limits(root, group, bounds.cpus))
    changed = {field: now[field] for field in (_FIELDS[name] for name in properties)}
    return replace(bounds, planned=replace(bounds.planned, **changed))


def read_bounds(root: Root, group: str) -> GuardBounds:
    """Limits of the neighbours as they stand now, and the machine's size."""
    cpus = os.cpu_count() or 1
    return GuardBounds(
        cpus=cpus,
        planned=read_limits(root, group, cpus),
        memory_bytes=parse_meminfo(root.read("/proc/meminfo").value or "").get("MemTotal", 0),
    )


def _check_host(root: Root, *, needs_root: bool) -> None:
    """Raises PreflightError naming all that is missing."""
    missing = []
    if not root.exists("/sys/fs/cgroup/cgroup.controllers"):
        missing.append("control groups of version 2 are not mounted at /sys/fs/cgroup")
    if not systemd.is_running(root.path):
        missing.append("process 1 is not systemd")
    if needs_root and os.geteuid() != 0:
        missing.append("moving limits needs root")
    if missing:
        raise PreflightError(
            "; ".join(missing), hint="Run the command as root on a host with systemd and cgroup v2, or in the image."
        )
