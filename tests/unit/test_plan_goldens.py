"""What is planned for the small recorded machines of tests/machines and for made ones, as reviewed text.

A difference is to be read, and accepted by a person: BEDPLATE_ACCEPT=1 writes the text anew.
"""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

import pytest
from tests.golden_file import compare
from tests.unit.facts_factory import (
    make_block,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_memory,
    make_numa,
    with_gpus,
)
from tests.unit.tune_machines import GIB, KNOBS, SPEED, make_group, make_groups, plan

from bedplate.catalog.knobs import knob_configs, knob_paths
from bedplate.host.facts import read_host
from bedplate.host.kernel.groups import read_groups
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Unknown
from bedplate.model.tuning import Plan, Policy

MACHINES = Path(__file__).parents[1] / "machines"
RECORDED = ("serving-cgroup2", "ubuntu-vllm", "pod-cgroup1", "serving-host", "serving-cgroup1-container")
_DULL = ("does not apply", "unknown: ", "is a form of", "no value is recommended", "holds already: ")


def render(made: Plan) -> str:
    """Refusals, changes with their reasons, and what is left alone where that says something of this machine."""
    lines = [f"policy {made.policy}", *_wrap(made.host, ""), ""]
    for refusal in made.refusals:
        lines += [*_wrap(f"refused: {refusal.what}: {refusal.because}", ""), *_wrap(refusal.hint, "  hint: "), ""]
    for change in made.changes:
        old = "-" if change.old is None else change.old or "(empty)"
        needs = ", ".join(need for need in change.needs if need != "root")
        lines += _wrap(f"{change.setting}: {old} -> {change.new or '(empty)'}" + (f"  [{needs}]" if needs else ""), "")
        lines += _wrap(f"{change.knob}: {change.because}", "  ")
    lines += ["", "left alone:"]
    for skip in sorted(made.skips, key=lambda skip: skip.knob):
        if not skip.reason.startswith(_DULL):
            lines += _wrap(f"{skip.knob}: {skip.reason}", "  ")
    dull = sum(skip.reason.startswith(_DULL) for skip in made.skips)
    lines.append(f"  and {dull} that hold already, do not apply, or are unknown")
    return "\n".join(lines) + "\n"


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 118, initial_indent=indent, subsequent_indent="    ", break_long_words=False)


@pytest.mark.parametrize("name", RECORDED)
def test_the_plan_of_a_recorded_machine_is_the_reviewed_one(name: str) -> None:
    root = Root(MACHINES / name, absent=Unknown.NOT_RECORDED)
    facts = read_host(root, knob_paths(KNOBS), origin=name, config_options=knob_configs(KNOBS))
    compare(f"plan-{name}.txt", render(plan(facts, read_groups(root))))


def test_the_plan_of_a_small_guest_of_the_image_is_the_reviewed_one() -> None:
    """Two CPUs, 2 GiB, llama.cpp in inference.slice, bounds as the image ships them."""
    cpu, unit = make_cpu(nodes=1, cores_per_node=2), "/inference.slice/bedplate-engine@chat.service"
    engine = make_engine(engine="llama.cpp", cgroup=make_cgroup(path=unit), rss_bytes=GIB // 2, numa_bytes=(), devices=())
    facts = make_facts(
        cpu=cpu,
        numa=make_numa(cpu, mem_bytes=2 * GIB),
        memory=make_memory(total_bytes=2 * GIB, available_bytes=GIB, swap_total_bytes=0),
        engines=(engine,),
        blocks=(make_block("vda"),),
    )
    groups = make_groups(
        make_group("/inference.slice", cpu_weight="1900", memory_low=str(2 * GIB * 9 // 10), memory_swap_max="0"),
        make_group(unit, memory_current=str(600 << 20)),
        make_group("/neighbour.slice", memory_high=str(GIB // 2), memory_max=str(GIB // 2)),
        *(make_group(path, cpu_weight="212") for path in ("/init.scope", "/system.slice", "/user.slice")),
        make_group("/background.slice", cpu_idle="1", memory_high=str(GIB // 2), io_weight="default 1"),
    )
    compare("plan-made-image-guest.txt", render(plan(facts, groups)))


def test_the_plan_of_a_server_with_eight_accelerators_is_the_reviewed_one() -> None:
    cpu = make_cpu(nodes=2, cores_per_node=48, threads_per_core=2)
    unit = "/system.slice/vllm.service"
    engine = make_engine(devices=tuple(f"/dev/nvidia{n}" for n in range(8)), oom_score_adj=0, cgroup=make_cgroup(path=unit))
    facts = make_facts(
        cpu=cpu,
        numa=make_numa(cpu, mem_bytes=512 * GIB),
        memory=make_memory(total_bytes=1024 * GIB, available_bytes=930 * GIB, swap_total_bytes=64 * GIB),
        engines=(dataclasses.replace(engine, rss_bytes=96 * GIB),),
        blocks=(make_block(mounts=("/models", "/")),),
    )
    groups = make_groups(make_group(unit, memory_current=str(80 * GIB)), make_group("/machine.slice"))
    compare("plan-made-8-gpus.txt", render(plan(with_gpus(facts, 8), groups, Policy.SHARED_HOST, io=(SPEED,))))
