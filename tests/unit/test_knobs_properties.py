"""Of all rows: order and repetition change nothing, and every condition answers with a reason."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.facts_factory import (
    GIB,
    make_cpu,
    make_engine,
    make_facts,
    make_kernel,
    make_memory,
    make_nic,
    make_os,
    not_recorded,
    with_gpus,
)
from tests.unit.knob_cases import KNOBS, audit_knobs, judge_knobs

from bedplate.catalog.knobs import knob_paths
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown, known, missing
from bedplate.plan.rules.conditions import CONDITIONS
from bedplate.plan.rules.files import parameters
from bedplate.plan.rules.formulas import FORMULAS

TEXTS = st.sampled_from(
    ["0", "1", "2", "60", "max", "", "always [madvise] never", "none", "0-3,8", "x y", "performance", "\0"]
)


@st.composite
def machines(draw: st.DrawFn) -> HostFacts:
    """Machines with any text in any file of the catalog, and some that could not be read."""
    paths = [path.replace("*", name) for path in knob_paths(KNOBS) for name in (("a", "b") if "*" in path else ("",))]
    knobs = tuple(
        missing(draw(st.sampled_from(list(Unknown))), path) if draw(st.booleans()) else known(draw(TEXTS), path)
        for path in draw(st.lists(st.sampled_from(paths), max_size=40))
    )
    more: dict[str, Any] = {"model_paths": ("/models/a", "/models/b"), "numa_bytes": ((0, GIB), (1, GIB))}
    engines = tuple(make_engine(pid=pid, **more) for pid in draw(st.lists(st.integers(1, 9), max_size=3, unique=True)))
    words = st.sampled_from(["isolcpus=1", "quiet", "mitigations=off", "preempt=none", "sysctl.vm.defrag_mode=1", "audit=0"])
    facts = make_facts(knobs=knobs, engines=engines, kernel=make_kernel(cmdline=tuple(draw(st.lists(words, max_size=3)))))
    nics = tuple(make_nic(name, irqs=((1, (0,)), (2, (7,)))) for name in draw(st.permutations(["a", "b"])))
    return dataclasses.replace(with_gpus(facts, draw(st.integers(0, 3))), network=nics)


def shuffled(facts: HostFacts, random: Any) -> HostFacts:
    def mix(values: tuple[Any, ...]) -> tuple[Any, ...]:
        mixed = list(values)
        random.shuffle(mixed)
        return tuple(mixed)

    names = ("knobs", "engines", "network", "pci", "accelerators", "blocks", "mounts")
    inner = ("threads", "numa_bytes", "limits", "model_paths")
    changes: list[dict[str, Any]] = [{name: mix(getattr(engine, name)) for name in inner} for engine in facts.engines]
    engines = tuple(dataclasses.replace(engine, **change) for engine, change in zip(facts.engines, changes, strict=True))
    facts = dataclasses.replace(facts, engines=engines)
    mixed: dict[str, Any] = {name: mix(getattr(facts, name)) for name in names}
    return dataclasses.replace(facts, **mixed)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(machines(), st.randoms(use_true_random=False))
def test_order_of_facts_does_not_matter_and_twice_gives_the_same(facts: HostFacts, random: Any) -> None:
    judged, findings = judge_knobs(facts, KNOBS), audit_knobs(facts, KNOBS)
    other = shuffled(facts, random)
    assert judge_knobs(other, KNOBS) == judged == judge_knobs(facts, KNOBS)
    assert audit_knobs(other, KNOBS) == findings == audit_knobs(facts, KNOBS)
    assert [result.id for result in judged] == [f"knob.{knob.id}" for knob in KNOBS]
    for finding in findings:
        assert finding.fix and finding.undo and finding.where and finding.title and finding.effect
        assert not any("{" in line and "}" in line for line in (*finding.fix, *finding.undo))


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_command_line_is_read(words: list[str]) -> None:
    for parameter in parameters(words, "isolcpus"):
        assert (parameter.value is None) == (parameter.unknown is not None)


def test_every_condition_answers_on_every_machine_with_a_reason() -> None:
    blank = make_facts(
        cpu=make_cpu(cpus=(), caches=(), flags=(), architecture="", governors=()),
        memory=make_memory(total_bytes=0, available_bytes=0, swap_total_bytes=0),
        os=make_os(init=not_recorded(), virtualisation=not_recorded(), container=not_recorded(), tee=not_recorded()),
        kernel=make_kernel(release=not_recorded(), cmdline=()),
    )
    for facts in (blank, make_facts(), with_gpus(make_facts(engines=(make_engine(),)), 2)):
        for name, condition in CONDITIONS.items():
            assert condition(facts).because, name
        for formula in FORMULAS.values():
            assert formula(facts) is None or isinstance(formula(facts), str)
    assert CONDITIONS["has_engine"](blank).holds is None
    assert CONDITIONS["has_swap"](blank).holds is None
