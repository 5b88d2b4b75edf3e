"""How plans divide the memory of a machine between engines, neighbours and the system, and what they keep off the swap."""

from __future__ import annotations

import dataclasses

from tests.unit.facts_factory import make_cgroup, make_engine, make_memory
from tests.unit.tune_machines import GIB, VLLM, apply, make_group, make_groups, plan, reading, reason, serving, wanted

from bedplate.model.tuning import Policy
from bedplate.model.units import MIB


def stat(active_file: int = 0, inactive_file: int = 0) -> str:
    """The lines of memory.stat that a plan reads, among others."""
    return f"anon 1\nfile {active_file + inactive_file}\ninactive_file {inactive_file}\nactive_file {active_file}\n"


def test_memory_is_divided_as_the_formulas_say() -> None:
    """64 GiB, 40 available, an engine that holds 20 GiB of which 12 are mapped weights: low 22; neighbours may take what is
    available less the weights, the 2 GiB that the engine may grow and 1.3 GiB for the system."""
    groups = make_groups(make_group(VLLM, memory_current=str(20 * GIB), memory_stat=stat(11 * GIB, GIB)))
    want = wanted(plan(serving(), groups))
    assert want["vllm.service:MemoryLow"] == want["system.slice:MemoryLow"] == str(22 * GIB)
    spare = 40 * GIB - 12 * GIB - 2 * GIB - (64 * GIB // 50 + 64 * MIB)
    assert want["neighbour.slice:MemoryMax"] == str(spare // MIB * MIB)
    assert want["neighbour.slice:MemoryHigh"] == str((spare // MIB * MIB - spare // MIB * MIB // 8) // MIB * MIB)
    assert want["user.slice:MemoryMax"] == str((spare + GIB // 8) // MIB * MIB), "what it holds already comes on top"
    assert want["background.slice:MemoryMax"] == str(spare // 2 // MIB * MIB)
    assert want["vllm.service:MemorySwapMax"] == "0"
    assert "vllm.service:MemoryMax" not in want
    assert "vllm.service:MemoryHigh" not in want


MEASURED = make_memory(total_bytes=1469 * MIB, available_bytes=1220 * MIB, swap_total_bytes=0, swap_free_bytes=0)
"""A Debian 13 guest of 1.5 GiB without swap beside whose memory grower an engine kept less than stock."""


def test_neighbours_are_bound_below_what_is_available_and_not_below_what_the_machine_has() -> None:
    held = make_group("/inference.slice/llama.service", memory_current=str(150 * MIB), memory_stat=stat(100 * MIB))
    engine = make_engine(cgroup=make_cgroup(path=held.path), rss_bytes=140 * MIB)
    want = wanted(plan(serving(engines=(engine,), memory=MEASURED), make_groups(make_group("/inference.slice"), held)))
    grown = int(want["neighbour.slice:MemoryMax"])
    assert grown + 100 * MIB + 15 * MIB + 64 * MIB < MEASURED.available_bytes, "the engine's pages and the system's stay"
    assert grown > MEASURED.available_bytes // 2
    assert int(want["system.slice:MemoryMax"]) - GIB // 8 <= grown + MIB, "system.slice bounds what starts in it later"


def test_without_swap_a_neighbour_is_ended_at_its_bound_and_never_only_slowed() -> None:
    """Past memory.high it would sleep, hold all that it has, and linger."""
    engines = (make_engine(cgroup=make_cgroup(path=VLLM), rss_bytes=140 * MIB),)
    want = wanted(plan(serving(engines=engines, memory=MEASURED), make_groups(make_group(VLLM))))
    assert want["neighbour.slice:MemoryHigh"] == want["neighbour.slice:MemoryMax"]
    swapped = dataclasses.replace(MEASURED, swap_total_bytes=GIB, swap_free_bytes=GIB)
    want = wanted(plan(serving(engines=engines, memory=swapped), make_groups(make_group(VLLM))))
    assert int(want["neighbour.slice:MemoryHigh"]) < int(want["neighbour.slice:MemoryMax"])


def test_no_bound_is_below_what_a_neighbour_holds_now() -> None:
    """A bound below it ends the neighbour in the moment in which it is set."""
    full = dataclasses.replace(MEASURED, available_bytes=90 * MIB)
    holder = make_group("/user.slice", memory_current=str(1100 * MIB), memory_stat=stat(60 * MIB, 40 * MIB))
    want = wanted(plan(serving(memory=full), make_groups(make_group(VLLM), holder)))
    assert int(want["user.slice:MemoryMax"]) == int(want["user.slice:MemoryHigh"]) == 1125 * MIB, "with an eighth to grow"


def test_an_engine_that_has_grown_makes_neighbours_smaller_when_planned_again() -> None:
    small = make_group(VLLM, memory_current=str(10 * GIB), memory_stat=stat(9 * GIB))
    large = make_group(VLLM, memory_current=str(30 * GIB), memory_stat=stat(29 * GIB))
    before, after = (wanted(plan(serving(), make_groups(group)))["neighbour.slice:MemoryMax"] for group in (small, large))
    assert int(after) == (int(before) - 22 * GIB) // MIB * MIB, "20 GiB more are mapped, and a tenth of that is promised"


def test_the_slice_of_an_engine_gets_no_bound_and_the_plan_says_what_follows() -> None:
    made = plan(serving(), make_groups(make_group(VLLM)))
    assert "system.slice:MemoryMax" not in wanted(made)
    assert "neither do services that start in it later" in reason(made, "mem.high")


def test_a_neighbour_keeps_its_floor_beside_an_engine_that_fills_the_machine() -> None:
    groups = make_groups(make_group(VLLM, memory_current=str(63 * GIB)))
    want = wanted(plan(serving(), groups))
    assert int(want["neighbour.slice:MemoryHigh"]) == GIB
    assert int(want["vllm.service:MemoryLow"]) < 0.9 * 64 * GIB


def test_weights_that_another_group_is_charged_for_are_named() -> None:
    groups = make_groups(make_group(VLLM, memory_current=str(2 * GIB)))
    made = plan(serving(), groups)
    (low,) = [change for change in made.changes if str(change.setting) == "vllm.service:MemoryLow"]
    assert "6.0 GiB of it was first read by another group" in low.because


def test_a_tighter_bound_of_the_administrator_stays() -> None:
    groups = make_groups(make_group(VLLM), make_group("/user.slice", memory_high=str(GIB)))
    assert "user.slice:MemoryHigh" not in wanted(plan(serving(), groups))


def test_a_floor_that_is_higher_stays() -> None:
    groups = make_groups(make_group(VLLM, memory_low=str(60 * GIB)), make_group("/system.slice", memory_low="max"))
    assert not [name for name in wanted(plan(serving(), groups)) if "MemoryLow" in name]


def test_an_engine_whose_memory_moves_a_little_makes_no_new_plan() -> None:
    facts, groups = serving(), make_groups(make_group(VLLM, memory_current=str(20 * GIB)))
    facts, groups = apply(plan(facts, groups), facts, groups)
    moved = make_groups(*groups.groups, dataclasses.replace(groups.find(VLLM) or make_group(VLLM), files=()))
    files = dict((groups.find(VLLM) or make_group(VLLM)).files) | {"memory.current": reading("", str(21 * GIB))}
    moved = make_groups(*groups.groups, dataclasses.replace(make_group(VLLM), files=tuple(files.items())))
    assert plan(facts, moved).changes == ()


def test_without_swap_there_is_nothing_to_keep_engines_from() -> None:
    made = plan(serving(memory=make_memory(swap_total_bytes=0)), make_groups())
    assert "there is no swap" in reason(made, "mem.swap")
    assert not [change for change in made.changes if change.knob == "mem.swap"]


def test_under_the_confidential_policy_engines_keep_off_the_swap_and_zswap_is_left_alone() -> None:
    made = plan(serving(), make_groups(), Policy.CONFIDENTIAL)
    assert [str(change.setting) for change in made.changes if change.knob == "mem.swap"] == ["vllm.service:MemorySwapMax"]
    assert "zswap is left as it is" in reason(made, "mem.swap")
