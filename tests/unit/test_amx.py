"""Weights on CPUs with AMX: what llama.cpp holds of them, and which models it cannot lay out for AMX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving.conftest import model_ref

import bedplate
from bedplate.engines.llamacpp import make_launch
from bedplate.host.kernel.cpuinfo import has_amx
from bedplate.model.launch import Limits, Placement
from bedplate.model.modelfile import Tensor
from bedplate.model.units import MIB
from bedplate.plan.limits import memory_need
from bedplate.weights.amx import amx_bytes
from bedplate.weights.source import find_source

SHIPPED = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"


def tensor(name: str, type: str, *shape: int, size_bytes: int = 34_000) -> Tensor:
    return Tensor(name=name, type=type, shape=shape, offset=0, size_bytes=size_bytes)


OUTPUT = tensor("output.weight", "F32", 8, size_bytes=0)


def test_the_shipped_model_takes_what_the_engine_logs() -> None:
    """ "AMX model buffer size = 2.93 MiB" and "CPU_Mapped model buffer size = 0.53 MiB", llama-server 0.7.0 on a Xeon."""
    assert amx_bytes(find_source(SHIPPED).header.tensors) / MIB == pytest.approx(2.93 + 0.53, abs=0.015)


@pytest.mark.parametrize(
    ("weight", "times"),
    [
        (tensor("blk.0.ffn_up.weight", "Q8_0", 256, 640), 38 / 34),
        (tensor("blk.0.ffn_up.weight", "Q4_K", 256, 640), 148 / 144),
        (tensor("blk.0.ffn_up.weight", "Q4_K", 128, 640), 1),  # a row is no whole block of 256
        (tensor("blk.0.ffn_up.weight", "Q8_0", 256, 40), 1),  # 40 rows are no whole tiles
        (tensor("blk.0.ffn_up_exps.weight", "Q8_0", 256, 640, 8), 1),
        (tensor("blk.0.attn_norm.weight", "F32", 256), 1),
        (tensor("blk.0.ffn_up.weight", "F16", 256, 640), 1),
        (tensor("blk.0.ffn_up.weight", "IQ2_XXS", 256, 640), 1),
        (tensor("token_embd.weight", "Q8_0", 256, 640), 1),
    ],
)
def test_what_grows(weight: Tensor, times: float) -> None:
    assert amx_bytes((weight, OUTPUT)) == int(weight.size_bytes * times)


def test_an_embedding_that_is_the_output_too_is_held_twice() -> None:
    embedding = tensor("token_embd.weight", "Q8_0", 256, 640)
    assert amx_bytes((embedding,)) == embedding.size_bytes + embedding.size_bytes * 38 // 34
    odd = tensor("token_embd.weight", "Q8_0", 256, 641)
    assert amx_bytes((odd,)) == odd.size_bytes


@pytest.mark.parametrize(
    ("architecture", "amx", "kept"), [("deepseek2", True, True), ("deepseek2", False, False), ("llama", True, False)]
)
def test_weights_of_latent_attention_stay_as_they_are_on_amx(architecture: str, amx: bool, kept: bool) -> None:
    model = replace(model_ref("m", SHIPPED), architecture=architecture)
    limits = Limits(context=512, parallel=2, memory_bytes=1 << 30)
    assert ("--no-repack" in make_launch(model, Placement(cpus=(0,), amx=amx), limits).argv) is kept


def test_the_limits_have_room_for_the_layout_of_amx() -> None:
    model = model_ref("m", SHIPPED)
    plain, packed = (memory_need(model, context=512, parallel=2, amx=amx).weights_bytes for amx in (False, True))
    assert packed == int(plain * 38 / 34)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512_vnni amx_bf16 amx_tile amx_int8", True),
        ("fpu avx512_vnni amx_bf16 amx_tile", False),
        ("fpu amx_tile amx_int8", False),
        ("", False),
    ],
)
def test_which_cpus_have_it(flags: str, expected: bool) -> None:
    assert has_amx(flags.split()) is expected
