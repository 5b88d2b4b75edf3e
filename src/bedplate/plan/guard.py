"""Decide how the neighbours' limits move: additive increase, multiplicative decrease, one limit at a time. Pure.

Attribution first, action second. A limit is tightened only when the engine's own counters show that it waits for that
resource AND the neighbours use it; without the second it is not their doing, and nothing moves. An engine with more busy
threads than CPUs waits for itself: where two moves in a row did not help, the limit goes back and stays there for a while.
The engine is never touched.
Thresholds and factors: the run-queue delay of busy threads is below 1 % on a host whose CPUs are not contended, PSI averages
over 2 s; three of them lie between two moves, so that the effect of one is seen before the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bedplate.model.guard import (
    GuardBounds,
    GuardMove,
    GuardReading,
    GuardState,
    GuardStep,
    NeighbourLimits,
    Resource,
)
from bedplate.model.units import MIB, render_size
from bedplate.plan.shares import floor_bytes

DWELL_S = 6.0
QUIET_S = 10.0
MOST_DELAY = 0.02  # share of the time in which the engine's busiest threads wanted to run and could not
MOST_STALL = 0.02  # share of the time; PSI "some"
TIGHTEN = 0.7
RELAX_CPU_PCT, RELAX_MEMORY = 5, 0.05  # of all CPUs; of the machine's memory
HELPED = 0.8  # of the excess before: above it a move was in vain
MOST_VAIN = 2
GIVE_UP_S = 60.0
LEAST_CPU_PCT, LEAST_IO_WEIGHT = 5, 1
PAGE_BYTES = 4096
_ACTIVE_CPU, _ACTIVE_IO_BYTES = 0.05, 1 * MIB  # of one CPU; a second: below this the neighbours are not at work


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """How far one resource is above its threshold, between two readings."""

    resource: Resource
    excess: float
    """1 is the threshold."""
    active: bool
    """Whether neighbours used the resource meanwhile."""
    text: str


def start_guard(bounds: GuardBounds) -> GuardState:
    """The state before the first reading: limits as planned."""
    return GuardState(limits=bounds.planned, moved_at_s=None, quiet_s=0.0)


def step_guard(state: GuardState, before: GuardReading, now: GuardReading, bounds: GuardBounds) -> GuardStep:
    """The next state, with at most one move. Readings that are not apart in time change nothing."""
    elapsed_s = now.at_s - before.at_s
    if elapsed_s <= 0:
        return GuardStep(state=state, move=None, remark="")
    signals = [signal for signal in read_signals(before, now, bounds) if signal.excess > 1]
    waiting = state.moved_at_s is not None and now.at_s - state.moved_at_s < DWELL_S
    theirs = [signal for signal in signals if signal.active]
    if not signals:
        quiet = replace(state, quiet_s=state.quiet_s + elapsed_s)
        if quiet.quiet_s < QUIET_S or waiting:
            return GuardStep(state=quiet, move=None, remark="")
        return _relax(quiet, now, bounds)
    state = replace(state, quiet_s=0.0)
    if waiting or now.at_s < state.given_up_until_s:
        return GuardStep(state=state, move=None, remark="")
    if not theirs:
        return GuardStep(state=state, move=None, remark=f"not the neighbours' doing: {signals[0].text}")
    return _tighten(state, max(theirs, key=lambda signal: signal.excess), now, bounds)


def read_signals(before: GuardReading, now: GuardReading, bounds: GuardBounds) -> tuple[Signal, ...]:
    """What the engine waited for between two readings; a counter that the kernel does not have gives no signal."""
    elapsed_s = now.at_s - before.at_s
    signals: list[Signal] = []
    waited, ran = now.engine_wait_s - before.engine_wait_s, now.engine_run_s - before.engine_run_s
    if ran > 0 and waited >= 0:  # less than before: a thread ended
        delay = waited / (waited + ran)
        cpu_s = _delta(before.neighbour_cpu_s, now.neighbour_cpu_s)
        signals.append(
            Signal(
                resource=Resource.CPU,
                excess=delay / MOST_DELAY,
                active=cpu_s is not None and cpu_s / elapsed_s > _ACTIVE_CPU,
                text=f"run-queue delay {delay:.1%} of the engine's busiest threads",
            )
        )
    stall_s = _delta(before.engine_memory_stall_s, now.engine_memory_stall_s)
    refaults = _delta(before.engine_refaults, now.engine_refaults)
    if stall_s is not None:
        share = stall_s / elapsed_s
        signals.append(
            Signal(
                resource=Resource.MEMORY,
                excess=share / MOST_STALL,
                active=bool(now.neighbour_memory_bytes and now.neighbour_memory_bytes > floor_bytes(bounds.memory_bytes)),
                text=f"memory stall {share:.1%} of the engine, {render_size(int(refaults or 0) * PAGE_BYTES)} read again",
            )
        )
    io_stall_s = _delta(before.engine_io_stall_s, now.engine_io_stall_s)
    if io_stall_s is not None:
        share = io_stall_s / elapsed_s
        moved = _delta(before.neighbour_io_bytes, now.neighbour_io_bytes)
        signals.append(
            Signal(
                resource=Resource.IO,
                excess=share / MOST_STALL,
                active=moved is not None and moved / elapsed_s > _ACTIVE_IO_BYTES,
                text=f"I/O stall {share:.1%} of the engine",
            )
        )
    return tuple(signals)


def _tighten(state: GuardState, signal: Signal, now: GuardReading, bounds: GuardBounds) -> GuardStep:
    """A limit lower than the one in force, down to a floor of the guard's own; a plan below that floor stays as it is."""
    limits = state.limits
    again = state.tightened is signal.resource
    vain = state.vain + 1 if again and signal.excess > HELPED * state.excess else 0
    if vain >= MOST_VAIN:
        step = _moved(
            state, _as_planned(limits, signal.resource, bounds), signal.resource, f"did not help: {signal.text}", now
        )
        return replace(step, state=replace(step.state, given_up_until_s=now.at_s + GIVE_UP_S))
    match signal.resource:
        case Resource.CPU:
            old_pct = limits.cpu_max_pct if limits.cpu_max_pct is not None else 100
            tighter = replace(limits, cpu_max_pct=min(old_pct, max(LEAST_CPU_PCT, int(old_pct * TIGHTEN))))
        case Resource.MEMORY:
            held = now.neighbour_memory_bytes or 0
            in_force = limits.memory_high_bytes if limits.memory_high_bytes is not None else bounds.memory_bytes
            wanted = max(floor_bytes(bounds.memory_bytes), int(min(in_force, held) * TIGHTEN))
            tighter = replace(limits, memory_high_bytes=min(in_force, wanted))
        case Resource.IO:
            old_weight = limits.io_weight if limits.io_weight is not None else 100
            tighter = replace(limits, io_weight=min(old_weight, max(LEAST_IO_WEIGHT, int(old_weight * TIGHTEN))))
    if tighter == limits:
        return GuardStep(state=state, move=None, remark=f"at its floor: {signal.text}")
    step = _moved(state, tighter, signal.resource, signal.text, now)
    return replace(step, state=replace(step.state, tightened=signal.resource, excess=signal.excess, vain=vain))


def _as_planned(limits: NeighbourLimits, resource: Resource, bounds: GuardBounds) -> NeighbourLimits:
    match resource:
        case Resource.CPU:
            return replace(limits, cpu_max_pct=bounds.planned.cpu_max_pct)
        case Resource.MEMORY:
            return replace(limits, memory_high_bytes=bounds.planned.memory_high_bytes)
        case Resource.IO:
            return replace(limits, io_weight=bounds.planned.io_weight)


def _relax(state: GuardState, now: GuardReading, bounds: GuardBounds) -> GuardStep:
    """One limit a step back toward the plan: the CPUs first, what costs a neighbour most."""
    limits, planned = state.limits, bounds.planned
    because = f"no signal for {state.quiet_s:.0f} s"
    if limits.cpu_max_pct != planned.cpu_max_pct:
        pct = (limits.cpu_max_pct if limits.cpu_max_pct is not None else 100) + RELAX_CPU_PCT
        top = planned.cpu_max_pct if planned.cpu_max_pct is not None else 100
        wider = replace(limits, cpu_max_pct=planned.cpu_max_pct if pct >= top else pct)
        return _moved(state, wider, Resource.CPU, because, now)
    if limits.memory_high_bytes != planned.memory_high_bytes:
        top = planned.memory_high_bytes if planned.memory_high_bytes is not None else bounds.memory_bytes
        high = limits.memory_high_bytes if limits.memory_high_bytes is not None else top
        high += int(bounds.memory_bytes * RELAX_MEMORY)
        wider = replace(limits, memory_high_bytes=planned.memory_high_bytes if high >= top else high)
        return _moved(state, wider, Resource.MEMORY, because, now)
    if limits.io_weight != planned.io_weight:
        top = planned.io_weight if planned.io_weight is not None else 100
        weight = (limits.io_weight if limits.io_weight is not None else top) + max(1, top // 20)
        wider = replace(limits, io_weight=planned.io_weight if weight >= top else weight)
        return _moved(state, wider, Resource.IO, because, now)
    return GuardStep(state=state, move=None, remark="")


def _moved(state: GuardState, limits: NeighbourLimits, resource: Resource, because: str, now: GuardReading) -> GuardStep:
    move = GuardMove(
        resource=resource, old=render_limit(state.limits, resource), new=render_limit(limits, resource), because=because
    )
    return GuardStep(state=GuardState(limits=limits, moved_at_s=now.at_s, quiet_s=state.quiet_s), move=move, remark="")


def render_limit(limits: NeighbourLimits, resource: Resource) -> str:
    """One limit for people: "70 % of the CPUs", "1.2 GiB", "weight 49", "none"."""
    match resource:
        case Resource.CPU:
            return "none" if limits.cpu_max_pct is None else f"{limits.cpu_max_pct} % of the CPUs"
        case Resource.MEMORY:
            return "none" if limits.memory_high_bytes is None else render_size(limits.memory_high_bytes)
        case Resource.IO:
            return "none" if limits.io_weight is None else f"weight {limits.io_weight}"


def _delta(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None or now < before else now - before
