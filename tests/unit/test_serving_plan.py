"""Placement, limits and the refusal with its arithmetic; the launch that follows from them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.engines import ENGINES, engine_for
from bedplate.engines.llamacpp import engine_threads, make_launch, pool_tokens
from bedplate.errors import ModelRefused
from bedplate.model.instance import instance_of, model_file_of, socket_of
from bedplate.model.launch import Format, Limits, ModelRef, ModelTask, Placement
from bedplate.model.serving_host import CpuBudget, MemoryBudget
from bedplate.model.units import GIB, MIB
from bedplate.plan.limits import SMALLEST_CONTEXT, memory_ceiling_bytes, memory_need, plan_limits, usable_bytes
from bedplate.plan.place import plan_placement, sort_layers

TWO = Placement(cpus=(0, 1))


def make_model(**wished: object) -> ModelRef:
    fields: dict[str, object] = {
        "name": "m",
        "sha256": "0" * 64,
        "path": "/m",
        "format": Format.GGUF,
        "size_bytes": 4 * GIB,
        "architecture": "llama",
        "parameters": 8_000_000_000,
        "quantisation": "Q4_0",
        "context_length": 131072,
        "kv_bytes_per_token": 131072,
    }
    return ModelRef(**{**fields, **wished})  # type: ignore[arg-type]


def make_memory(available_bytes: int, *, total_bytes: int = 64 * GIB, engines_bytes: int = 0) -> MemoryBudget:
    return MemoryBudget(total_bytes=total_bytes, available_bytes=available_bytes, engines_bytes=engines_bytes)


@pytest.mark.parametrize(
    ("cpus", "quota", "threads"),
    [(2, None, 2), (64, None, 64), (64, 4.0, 4), (8, 1.5, 1), (8, 0.5, 1), (2, 16.0, 2)],
)
def test_threads_follow_cpus_and_quota(cpus: int, quota: float | None, threads: int) -> None:
    placement = plan_placement(CpuBudget(cpus=tuple(range(cpus)), quota=quota, because=""))
    assert engine_threads(placement) == threads


def test_a_model_with_room_gets_the_default_context() -> None:
    limits = plan_limits(make_model(), TWO, make_memory(32 * GIB))
    assert (limits.context, limits.parallel) == (8192, 2)
    assert limits.memory_bytes == memory_need(make_model(), context=8192, parallel=2).total_bytes
    # 4 GiB of weights, 2 * 8192 + 64 tokens of 128 KiB in blocks of 256, 48 MiB, the logits and the mask of a batch
    assert limits.memory_bytes == 4 * GIB + 16640 * 131072 + 48 * MIB + 4 * 160_000 * 512 + 2 * 16640 * 512


def test_the_context_is_halved_until_it_fits() -> None:
    assert plan_limits(make_model(), TWO, make_memory(int(7.3 * GIB))).context == 4096


def test_a_short_model_gets_its_own_context() -> None:
    assert plan_limits(make_model(context_length=512), TWO, make_memory(32 * GIB)).context == 512
    assert plan_limits(make_model(context_length=0), TWO, make_memory(32 * GIB)).context == 4096


def test_what_engines_hold_already_counts_as_theirs() -> None:
    with pytest.raises(ModelRefused):
        plan_limits(make_model(), TWO, make_memory(1 * GIB))
    assert plan_limits(make_model(), TWO, make_memory(1 * GIB, engines_bytes=8 * GIB)).context == 8192


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ModelRefused) as refused:
        plan_limits(make_model(name="big"), TWO, make_memory(4 * GIB, total_bytes=5 * GIB), promised_bytes=512 * MIB)
    assert refused.value.message == (
        "big: does not fit: 4.0 GiB weights + 160.0 MiB KV cache + 361.8 MiB buffers = 4.5 GiB for 2 requests of 512 tokens,"
        " but 3.3 GiB of 5.0 GiB is available after 512.0 MiB for the models before it"
    )
    assert refused.value.hint


def test_a_wished_context_is_never_cut() -> None:
    with pytest.raises(ModelRefused, match="65536 tokens"):
        plan_limits(make_model(), TWO, make_memory(8 * GIB), context=65536)


@given(
    size=st.integers(1, 10**12),
    context=st.integers(0, 10**6),
    per_token=st.integers(0, 10**6),
    available=st.integers(0, 10**12),
    promised=st.integers(0, 10**12),
    cpus=st.integers(1, 256),
)
def test_limits_never_promise_more_than_there_is(
    size: int, context: int, per_token: int, available: int, promised: int, cpus: int
) -> None:
    model = make_model(size_bytes=size, context_length=context, kv_bytes_per_token=per_token)
    memory = make_memory(available, total_bytes=10**12)
    try:
        limits = plan_limits(model, Placement(cpus=tuple(range(cpus))), memory, promised_bytes=promised)
    except ModelRefused:
        return
    assert size < limits.memory_bytes <= usable_bytes(memory) - promised
    assert limits.memory_bytes <= memory_ceiling_bytes(limits, memory) <= memory.total_bytes
    assert 2 <= limits.parallel <= 8
    assert limits.context >= min(SMALLEST_CONTEXT, context or SMALLEST_CONTEXT)


@pytest.mark.parametrize(
    ("files", "newest"),
    [
        ((), None),
        (("vllm_1.raw", "llamacpp.raw", "llamacpp_1.txt"), None),
        (("llamacpp_0.9.1.raw", "llamacpp_0.10.0.raw"), "llamacpp_0.10.0.raw"),
        (("llamacpp_1.0rc1.raw", "llamacpp_1.0.1.raw"), "llamacpp_1.0.1.raw"),
    ],
)
def test_the_newest_layer_is_taken(files: tuple[str, ...], newest: str | None) -> None:
    found = sort_layers("llamacpp", files)
    assert (found[0] if found else None) == newest


@pytest.mark.parametrize(
    ("model", "instance"),
    [
        ("known-answer", "known-answer"),
        ("Qwen/Qwen3-8B", "Qwen_Qwen3-8B-ab61d745"),
        ("llama3:8b", "llama3_8b-99a25d44"),
        ("m-8a366a40", "m-8a366a40-62ed70cf"),
        ("x" * 100, "x" * 55 + "-5e0e5d8f"),
    ],
)
def test_instances(model: str, instance: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", instance_of(model))
    assert len(socket_of(model)) < 108
    assert instance_of(model) == instance


@pytest.mark.parametrize("name", ["", "-x", "a b", "a'b", 'a"b', "a\n", "a%b", "a$b", "a;b", "../x", "é", "x" * 129])
def test_a_name_that_could_break_a_file_is_refused(name: str) -> None:
    with pytest.raises(ModelRefused, match="is not a valid model name"):
        instance_of(name)


def test_each_slot_has_its_whole_context_in_the_pool() -> None:
    """One request may take several slots, and must leave the others what they were promised."""
    limits = Limits(context=4096, parallel=4, memory_bytes=10 * GIB)
    launch = make_launch(make_model(name="a/b"), Placement(cpus=(0, 1, 2), cpu_quota=2.5), limits)
    options = dict(zip(launch.argv, launch.argv[1:], strict=False))
    assert (options["--parallel"], options["--threads"], options["--threads-batch"]) == ("4", "2", "2")
    assert options["--ctx-size"] == str(pool_tokens(limits)) == str(4 * 4096 + 64)
    assert (options["--model"], options["--host"]) == (model_file_of("a/b"), socket_of("a/b"))
    assert launch.socket.endswith(".sock")
    assert launch.memory_bytes == limits.memory_bytes


@pytest.mark.parametrize(
    ("parameters", "cpus", "batch", "deadline_s"),
    [
        (4_000_000, 2, "512", 10.4),
        (1_000_000_000, 2, "128", 35.6),
        (8_000_000_000, 64, "512", 35.6),
        (8_000_000_000, 2, "32", 61.2),
    ],
)
def test_the_probe_waits_for_a_batch_of_somebody_else(parameters: int, cpus: int, batch: str, deadline_s: float) -> None:
    limits = Limits(context=512, parallel=1, memory_bytes=GIB)
    launch = make_launch(make_model(parameters=parameters), Placement(cpus=tuple(range(cpus))), limits)
    assert launch.argv[launch.argv.index("--batch-size") + 1] == batch
    assert launch.probe.deadline_s == pytest.approx(deadline_s, abs=0.1)
    assert not re.search(r"[][\\.*+?^$(){}|']", launch.probe.expect), "read as plain text and as a regular expression"
    assert re.search(launch.probe.expect, '{"usage":{"completion_tokens":1,"prompt_tokens":1}}')
    assert not re.search(launch.probe.expect, '{"usage":{"completion_tokens":0,"prompt_tokens":1}}')


def test_a_format_without_an_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_for(make_model()).name == "llamacpp"
    assert engine_for(make_model(format=Format.SAFETENSORS)).name == "vllm"
    monkeypatch.delitem(ENGINES, "llamacpp")
    with pytest.raises(ModelRefused, match="no engine reads gguf: vllm reads safetensors"):
        engine_for(make_model())


@pytest.mark.parametrize("parallel", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("task", [ModelTask.EMBED, ModelTask.RERANK])
def test_a_text_that_is_pooled_fits_into_one_batch_which_divides_among_the_slots(task: ModelTask, parallel: int) -> None:
    model = make_model(parameters=100_000_000, context_length=512, task=task)
    launch = make_launch(model, TWO, Limits(context=512, parallel=parallel, memory_bytes=GIB))
    batch = int(launch.argv[launch.argv.index("--ubatch-size") + 1])
    assert batch >= 512 and batch % parallel == 0
    assert launch.argv[launch.argv.index("--batch-size") + 1] == str(batch)
    assert ("--embeddings" in launch.argv, "--reranking" in launch.argv) == (task == "embed", task == "rerank")


def test_files_of_a_model_s_directory_are_given_by_their_paths_in_it() -> None:
    model = make_model(name="a/b", main="m-00001-of-00002.gguf", projector="mmproj.gguf", adapters=("x.gguf", "y.gguf"))
    launch = make_launch(model, TWO, Limits(context=512, parallel=2, memory_bytes=GIB))
    here = model_file_of("a/b")
    assert launch.argv[1:5] == ("--model", f"{here}/m-00001-of-00002.gguf", "--mmproj", f"{here}/mmproj.gguf")
    assert [launch.argv[index + 1] for index, word in enumerate(launch.argv) if word == "--lora"] == [
        f"{here}/x.gguf",
        f"{here}/y.gguf",
    ]
    blind = make_launch(make_model(), TWO, Limits(context=512, parallel=2, memory_bytes=GIB))
    assert launch.probe.deadline_s > blind.probe.deadline_s


@pytest.mark.parametrize(
    ("model", "known", "types", "says"),
    [
        ({"architecture": "qwen99"}, ("llama",), {"F16"}, "does not know the architecture 'qwen99'"),
        ({}, ("llama",), {"F16", "Q8_K"}, "type Q8_K"),
    ],
)
def test_what_the_build_of_an_engine_cannot_serve_is_refused(
    model: dict[str, object], known: tuple[str, ...], types: set[str], says: str
) -> None:
    made = make_model(**model)
    with pytest.raises(ModelRefused, match=says):
        engine_for(made).check_model(made, known, types)
    engine_for(made).check_model(made, (), {"F16"})  # a build that says nothing of itself refuses nothing
