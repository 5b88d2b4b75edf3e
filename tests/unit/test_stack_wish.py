"""A wish is bounded before anything is solved; its accelerators are counted, and its models need memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.facts_factory import GIB, make_facts, make_gpu, make_pci

from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_wish import make_hardware, parse_wish
from bedplate.errors import DataError, UsageError
from bedplate.flows.stack import StackRequest, hardware_of, resolve_stack
from bedplate.model.facts.reading import known
from bedplate.model.stack import StackConflict, StackRecord

ROWS = read_stack(drop_ins=None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("engines = [" + '"vllm",' * 101 + "]", "engines: got 101 entries, expected at most 100"),
        ('require = ["kernel ' + ">=6.1," * 200 + '>=6.1"]', "require: got 1212 characters in an entry"),
    ],
)
def test_a_wish_is_as_long_as_people_write_it(line: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_wish(f"schema = 1\n{line}\n", name="wish.toml")
    assert said in caught.value.message


@pytest.mark.parametrize("count", ["99999999999x h100", "0x h100", "1025 x h100", "9" * 900 + "xh100"])
def test_a_count_of_accelerators_has_a_bound(count: str) -> None:
    with pytest.raises(UsageError, match="with a count from 1 to 1024"):
        make_hardware([count], (), ROWS)


@pytest.mark.parametrize(
    ("wished", "device", "name", "count", "gib"),
    [
        ("8x h100", "h100", "NVIDIA H100 PCIe", 8, 80),  # of the rows that a device can be, the one with the most memory
        ("H200", "h200", "NVIDIA H200 SXM 141GB", 1, 141),
        ("2 x a100-pcie-80gb", "a100", "NVIDIA A100 PCIe 80GB", 2, 80),
        ("2x mi250x", "mi250x", "AMD Instinct MI250X", 4, 64),
        ("a100", "a100", "NVIDIA A100", 1, None),  # it can be one with 40 GB, of which there is no row with figures
    ],
)
def test_accelerators_of_a_wish_are_counted(wished: str, device: str, name: str, count: int, gib: int | None) -> None:
    (kind,) = make_hardware([wished], (), ROWS).counted
    assert (kind.device, kind.name, kind.count) == (device, name, count)
    assert kind.memory_bytes == (gib * GIB if gib is not None else None)


def test_accelerators_of_a_machine_are_counted_with_the_memory_that_they_report() -> None:
    pci = tuple(make_pci(f"0000:{bus:02x}:00.0", device=0x2330) for bus in (0x19, 0x3B))
    gpus = tuple(
        replace(make_gpu(index, device.address), memory_bytes=known(79 * GIB, "nvml")) for index, device in enumerate(pci)
    )
    (kind,) = hardware_of(make_facts(pci=pci, accelerators=gpus), ROWS).counted
    assert (kind.count, kind.memory_bytes, kind.name) == (2, 79 * GIB, "NVIDIA H100 SXM5 80GB")


def answer(*accelerators: str, engine: str = "vllm", model: str = "llama-3.1-70b") -> StackRecord | StackConflict:
    request = StackRequest(engines=(engine,), accelerators=accelerators, models=(model,))
    return resolve_stack(request, catalogue=ROWS, drop_ins=None)


def test_a_model_that_the_accelerators_do_not_hold_is_a_no_with_its_facts() -> None:
    refused = answer("l4")
    assert isinstance(refused, StackConflict)
    sentences = [link.sentence for link in refused.chain]
    assert "the machine has NVIDIA L4" in sentences and "you want the engine vllm" in sentences
    (need,) = [link for link in refused.chain if link.sentence.startswith("llama-3.1-70b in int4")]
    assert "takes 43.1 GiB of one device in vLLM with one request of 8192 tokens" in need.sentence and need.evidence
    (memory,) = [link for link in refused.chain if link.sentence.startswith("the machine has 1 x NVIDIA L4 with 24.0 GiB")]
    assert memory.sentence.endswith("4 of them would hold it") and memory.evidence
    assert [sentence for sentence in sentences if "releases of" in sentence] == []
    assert [nearest.sentence for nearest in refused.nearest] == ["without it"]
    assert isinstance(answer("4x l4"), StackRecord)
    assert isinstance(answer("l4", model="llama-3.1-8b"), StackRecord)


@pytest.mark.parametrize(
    ("accelerators", "engine", "model"),
    [
        (("a100",), "vllm", "llama-3.1-70b"),  # its memory is not known
        (("l4",), "vllm", "some/other-model"),  # no row
        (("l4",), "llama-cpp", "llama-3.1-70b"),  # it has the host's memory, too
        (("l4", "h200"), "vllm", "llama-3.1-70b"),  # one of the two holds it
    ],
)
def test_what_is_not_known_is_no_no(accelerators: tuple[str, ...], engine: str, model: str) -> None:
    assert isinstance(answer(*accelerators, engine=engine, model=model), StackRecord)


def test_more_hosts_than_one_are_not_judged() -> None:
    request = StackRequest(engines=("vllm",), accelerators=("l4",), models=("llama-3.1-70b",), host=("nodes=2",))
    assert isinstance(resolve_stack(request, catalogue=ROWS, drop_ins=None), StackRecord)


@pytest.mark.parametrize(("layers", "possible"), [(72, True), (80, False)])
def test_devices_that_tensor_parallelism_leaves_over_count_for_the_weights(
    layers: int, possible: bool, tmp_path: Path
) -> None:
    """Three of 45 GiB hold 118 GiB of weights by layers, which fit does not reckon with, and not 131."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/ours.toml").write_text(MODEL.replace("layers = 80", f"layers = {layers}"))
    request = StackRequest(engines=("vllm",), accelerators=("3x l40s",), models=("ours-70b",))
    assert isinstance(resolve_stack(request, catalogue=ROWS, drop_ins=tmp_path), StackRecord) is possible


def test_a_model_has_the_formats_of_its_precisions() -> None:
    assert isinstance(answer("h100", engine="llama-cpp", model="llama-3.1-8b"), StackRecord)
    refused = answer("h200", engine="llama-cpp", model="deepseek-v3.2")
    assert isinstance(refused, StackConflict)
    assert "the model deepseek-v3.2 has the format safetensors" in [link.sentence for link in refused.chain]


def test_a_model_of_the_owner_counts(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = MODEL.replace("layers = 80", "layers = 8")
    (tmp_path / "models/ours.toml").write_text(MODEL)
    request = StackRequest(engines=("vllm",), accelerators=("l4",), models=("ours-70b",))
    assert isinstance(resolve_stack(request, catalogue=ROWS, drop_ins=tmp_path), StackConflict)
    (tmp_path / "models/ours.toml").write_text(text)
    assert isinstance(resolve_stack(request, catalogue=ROWS, drop_ins=tmp_path), StackRecord)


MODEL = """
schema = 1

[[model]]
id = "ours-70b"
shape = { layers = 80, hidden = 8192, heads = 64, kv_heads = 8, head_size = 128, intermediate = 28672, vocabulary = 128256 }
source = "us"
checked = "by hand"
date = "2026-11-30"

[[model.checkpoint]]
precision = "bf16"
"""
