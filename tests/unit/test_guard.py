"""The closed loop over the neighbours, on made readings."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.guard import GuardBounds, GuardMove, GuardReading, GuardState, NeighbourLimits, Resource
from bedplate.model.units import GIB, MIB
from bedplate.plan import guard
from bedplate.plan.guard import start_guard, step_guard
from bedplate.plan.shares import floor_bytes

PLANNED = NeighbourLimits(cpu_max_pct=None, memory_high_bytes=4 * GIB, io_weight=100)
BOUNDS = GuardBounds(cpus=2, planned=PLANNED, memory_bytes=16 * GIB)
QUIET = GuardReading(
    at_s=100.0,
    engine_run_s=50.0,
    engine_wait_s=1.0,
    engine_throttled=0,
    engine_memory_stall_s=0.0,
    engine_refaults=0,
    engine_io_stall_s=0.0,
    neighbour_cpu_s=10.0,
    neighbour_memory_bytes=2 * GIB,
    neighbour_io_bytes=0,
)


def later(reading: GuardReading, **more: float) -> GuardReading:
    """A second after, with the counters grown by these; the engine ran for all of it."""
    grown = {name: (getattr(reading, name) or 0) + value for name, value in more.items()}
    return replace(reading, **{"at_s": reading.at_s + 1, "engine_run_s": reading.engine_run_s + 1, **grown})  # type: ignore[arg-type]


def run(
    state: GuardState, reading: GuardReading, seconds: int, **more: float
) -> tuple[GuardState, GuardReading, list[GuardMove]]:
    moves: list[GuardMove] = []
    for _ in range(seconds):
        after = later(reading, **more)
        step = step_guard(state, reading, after, BOUNDS)
        state, reading = step.state, after
        moves += [step.move] if step.move else []
    return state, reading, moves


def test_nothing_moves_while_nothing_is_waited_for() -> None:
    state, _, moves = run(start_guard(BOUNDS), QUIET, 100, neighbour_cpu_s=2)
    assert moves == []
    assert state.limits == PLANNED


def test_a_delay_that_neighbours_cause_takes_from_their_cpus_and_gives_back() -> None:
    state, reading, moves = run(start_guard(BOUNDS), QUIET, 1, engine_wait_s=0.5, neighbour_cpu_s=1.5)
    assert [(move.resource, move.old, move.new) for move in moves] == [(Resource.CPU, "none", "70 % of the CPUs")]
    assert moves[0].because == "run-queue delay 33.3% of the engine's busiest threads"
    state, _, moves = run(state, reading, 120)
    assert [move.new for move in moves] == [f"{pct} % of the CPUs" for pct in (75, 80, 85, 90, 95)] + ["none"]
    assert state.limits == PLANNED


def test_a_delay_without_neighbours_at_work_is_not_their_doing() -> None:
    state = start_guard(BOUNDS)
    step = step_guard(state, QUIET, later(QUIET, engine_wait_s=0.5), BOUNDS)
    assert step.move is None
    assert step.remark.startswith("not the neighbours' doing: run-queue delay")


def test_between_two_moves_lies_the_time_to_see_the_first() -> None:
    _, _, moves = run(start_guard(BOUNDS), QUIET, 6, engine_wait_s=0.5, neighbour_cpu_s=1)
    assert len(moves) == 1


def test_what_does_not_help_is_taken_back_and_left_for_a_while() -> None:
    """An engine with more busy threads than CPUs waits for itself, whatever the neighbours get."""
    state, reading, moves = run(start_guard(BOUNDS), QUIET, 13, engine_wait_s=0.5, neighbour_cpu_s=1)
    assert [move.new for move in moves] == ["70 % of the CPUs", "49 % of the CPUs", "none"]
    assert moves[-1].because.startswith("did not help")
    _, _, moves = run(state, reading, 50, engine_wait_s=0.5, neighbour_cpu_s=1)
    assert moves == []


def test_memory_goes_down_from_what_is_held() -> None:
    _, _, moves = run(start_guard(BOUNDS), QUIET, 1, engine_memory_stall_s=0.2, engine_refaults=256)
    assert [(move.resource, move.old, move.new) for move in moves] == [(Resource.MEMORY, "4.0 GiB", "1.4 GiB")]
    assert "1.0 MiB read again" in moves[0].because


def test_the_strongest_signal_moves_first() -> None:
    more = {"engine_wait_s": 0.03, "neighbour_cpu_s": 1, "engine_io_stall_s": 0.5, "neighbour_io_bytes": 100 * MIB}
    _, _, moves = run(start_guard(BOUNDS), QUIET, 1, **more)
    assert [move.resource for move in moves] == [Resource.IO]


counters = st.fixed_dictionaries(
    {
        "engine_wait_s": st.floats(0, 1),
        "engine_memory_stall_s": st.floats(0, 1),
        "engine_io_stall_s": st.floats(0, 1),
        "neighbour_cpu_s": st.floats(0, 2),
        "neighbour_io_bytes": st.integers(0, 10**9),
    }
)


@given(st.lists(counters, min_size=1, max_size=60))
def test_limits_stay_between_their_floors_and_the_plan_and_come_back(course: list[dict[str, float]]) -> None:
    state, reading = start_guard(BOUNDS), QUIET
    for more in course:
        state, reading, _ = run(state, reading, 1, **more)
        limits = state.limits
        assert limits.cpu_max_pct is None or guard.LEAST_CPU_PCT <= limits.cpu_max_pct < 100
        assert limits.memory_high_bytes is not None
        assert floor_bytes(BOUNDS.memory_bytes) <= limits.memory_high_bytes <= 4 * GIB
        assert limits.io_weight is not None
        assert guard.LEAST_IO_WEIGHT <= limits.io_weight <= 100
    assert run(state, reading, 600)[0].limits == PLANNED


plans = st.builds(
    NeighbourLimits,
    cpu_max_pct=st.none() | st.integers(0, 100),
    memory_high_bytes=st.none() | st.integers(0, 16 * GIB),
    io_weight=st.none() | st.integers(1, 10_000),
)


def heights(limits: NeighbourLimits) -> tuple[int, int, int]:
    """No limit is the highest; of the I/O weight none is the kernel's own, 100."""
    cpu, memory, weight = limits.cpu_max_pct, limits.memory_high_bytes, limits.io_weight
    return (
        1000 if cpu is None else cpu,
        1 << 62 if memory is None else memory,
        100 if weight is None else weight,
    )


@given(plans, st.lists(counters, min_size=1, max_size=60), st.integers(0, 16 * GIB))
def test_nothing_is_ever_above_the_plan_and_a_signal_never_loosens(
    planned: NeighbourLimits, course: list[dict[str, float]], held: int
) -> None:
    """A plan below the guard's own floor was raised to it, by a move that was called a tightening."""
    bounds = GuardBounds(cpus=2, planned=planned, memory_bytes=16 * GIB)
    state, reading = start_guard(bounds), replace(QUIET, neighbour_memory_bytes=held)
    for more in course:
        after = later(reading, **more)
        step = step_guard(state, reading, after, bounds)
        before, now = heights(state.limits), heights(step.state.limits)
        assert all(new <= top for new, top in zip(now, heights(planned), strict=True))
        if step.move is not None and not step.move.because.startswith(("did not help", "no signal for")):
            assert all(new <= old for new, old in zip(now, before, strict=True))
            assert now != before
        state, reading = step.state, after


def test_counters_that_the_kernel_does_not_have_give_no_signal() -> None:
    bare = replace(QUIET, engine_memory_stall_s=None, engine_io_stall_s=None, engine_refaults=None, neighbour_cpu_s=None)
    step = step_guard(start_guard(BOUNDS), bare, replace(bare, at_s=101.0, engine_run_s=51.0, engine_wait_s=1.5), BOUNDS)
    assert step.move is None
    assert step_guard(start_guard(BOUNDS), bare, bare, BOUNDS).move is None
