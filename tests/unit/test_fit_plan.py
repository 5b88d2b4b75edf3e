"""Whether a model fits: the smallest number of devices, what a longer context takes, ceilings, and what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.catalog.accelerators import find_accelerator_row, read_accelerator_rows
from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.flows.fit import read_fit_model
from bedplate.flows.fit_targets import read_named_targets
from bedplate.model.catalogued import Arithmetic
from bedplate.model.fit import FitModel, FitResult, FitWish
from bedplate.plan.fit import plan_fit, rate_of, read_share

ENGINES = read_fit_engines()
ROWS = read_accelerator_rows()


def model(name: str, precision: str = "") -> FitModel:
    found = read_fit_model(name, ENGINES)
    weights = tuple(choice for choice in found.weights if precision in ("", choice.precision))
    return replace(found, weights=weights)


def judge(
    name: str, on: str, engine: str, precision: str, *, context: int = 8192, concurrency: int = 1, price: float | None = None
) -> FitResult:
    wish = FitWish(context=context, concurrency=concurrency, price_per_hour=price)
    engines = [row for row in ENGINES.engine if row.id == engine]
    (result,) = plan_fit(model(name, precision), read_named_targets(on, engines, ROWS), engines, wish)
    return result


@pytest.mark.parametrize(
    ("on", "engine", "precision", "devices", "copies"),
    [
        ("8xh100", "vllm", "bf16", 2, 4),
        ("8xa100-pcie-80gb", "sglang", "bf16", 2, 4),
        ("8xh100", "vllm", "fp8", 2, 4),
        ("8xh100", "vllm", "int4", 1, 8),
        ("8xh200", "vllm", "bf16", 2, 4),
        ("1xb300", "vllm", "bf16", 1, 1),
        ("8xl40s", "llamacpp", "q8_0", 2, 4),
    ],
)
def test_the_fewest_devices_hold_a_copy_and_the_others_more(
    on: str, engine: str, precision: str, devices: int, copies: int
) -> None:
    result = judge("llama-3.1-70b", on, engine, precision)
    assert (result.fits, result.devices, result.copies) == (True, devices, copies)


def test_what_does_not_fit_says_how_much_is_missing() -> None:
    result = judge("deepseek-v3", "8xl4", "vllm", "fp8")
    assert result.fits is False and result.parts is not None
    assert result.parts.spare_bytes < 0 and "too large for each of 8 devices" in result.reason
    assert result.ceilings is None and result.most_sequences == 0


def test_the_parts_are_the_whole() -> None:
    parts = judge("llama-3.1-8b", "h100", "vllm", "bf16").parts
    assert parts is not None
    assert parts.used_bytes + parts.spare_bytes == parts.total_bytes


def test_the_most_that_is_named_fits_and_one_more_does_not() -> None:
    first = judge("llama-3.1-8b", "h100", "vllm", "bf16")
    most = judge("llama-3.1-8b", "h100", "vllm", "bf16", concurrency=first.most_sequences)
    over = judge("llama-3.1-8b", "h100", "vllm", "bf16", concurrency=first.most_sequences + 1)
    assert (most.fits, over.fits) == (True, False)


def test_a_context_is_bounded_by_what_the_model_was_made_for() -> None:
    assert judge("gpt-oss-20b", "h200", "vllm", "mxfp4").most_context == 131072


def test_tensor_parallelism_divides_no_latent_cache() -> None:
    """Each of eight devices keeps all of DeepSeek's; of Llama 70B's eight KV heads each keeps one."""
    latent = judge("deepseek-v3", "8xh200", "vllm", "fp8").parts
    alone = judge("deepseek-v3", "8xb300", "vllm", "nvfp4").parts
    assert latent is not None and alone is not None
    assert latent.kv_bytes == alone.kv_bytes == 70272 * 8192


def test_a_window_stops_growing() -> None:
    short, long = (judge("gemma-3-27b", "h200", "llamacpp", "q8_0", context=tokens).parts for tokens in (32768, 65536))
    assert short is not None and long is not None
    assert (long.kv_bytes - short.kv_bytes) / 32768 == pytest.approx(81920, rel=0.01)


def test_a_state_is_for_each_sequence_and_not_for_each_token() -> None:
    four, eight = (judge("nemotron-h-56b", "4xh200", "vllm", "bf16", concurrency=count, context=256) for count in (4, 8))
    longer = judge("nemotron-h-56b", "4xh200", "vllm", "bf16", concurrency=4, context=512)
    assert four.parts is not None and eight.parts is not None and longer.parts is not None
    assert eight.parts.state_bytes == pytest.approx(2 * four.parts.state_bytes, rel=0.01)
    assert longer.parts.state_bytes == four.parts.state_bytes


def test_what_is_not_known_gives_no_number() -> None:
    result = judge("qwen3.5-27b", "h100", "vllm", "bf16")
    assert (result.fits, result.parts, result.ceilings) == (None, None, None)
    assert result.reason == "the size of the weights is not known"


def test_one_request_is_bounded_by_the_memory() -> None:
    """Llama 8B in bf16 on an H100: 15 GB of 16 are read for a token (not the embedding), so at most 3350 / 16 tokens."""
    ceilings = judge("llama-3.1-8b", "h100", "vllm", "bf16", context=1).ceilings
    assert ceilings is not None and ceilings.decode_one_tps == pytest.approx(3350e9 / (2 * 7.504e9), rel=0.01)


def test_many_requests_are_bounded_by_the_arithmetic() -> None:
    ceilings = judge("llama-3.1-8b", "h200", "vllm", "bf16", context=16, concurrency=4096).ceilings
    assert ceilings is not None and ceilings.decode_all_tps == pytest.approx(989e12 / (2 * 7.504e9), rel=0.01)
    assert ceilings.prefill_tps == pytest.approx(989e12 / (2 * 7.504e9), rel=0.01)


def test_idle_copies_add_nothing() -> None:
    eight, one = (
        judge("llama-3.1-8b", "8xh100", "vllm", "bf16").ceilings,
        judge("llama-3.1-8b", "h100", "vllm", "bf16").ceilings,
    )
    assert eight is not None and one is not None and eight == one


def test_a_mixture_reads_more_of_its_experts_the_more_tokens_a_step_has() -> None:
    mixture = model("qwen3-235b-a22b")
    shares = [read_share(mixture, tokens) for tokens in (1, 8, 64, 4096)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(21.57 / 235.1, rel=0.01) and shares[-1] == pytest.approx(1, abs=0.01)


def test_the_cost_is_of_a_million_tokens_at_the_ceiling() -> None:
    ceilings = judge("llama-3.1-8b", "h100", "vllm", "bf16", price=3.6).ceilings
    assert ceilings is not None and ceilings.decode_all_tps is not None
    assert ceilings.cost_per_million == pytest.approx(1000 / ceilings.decode_all_tps)


def test_a_device_without_an_arithmetic_multiplies_in_bf16() -> None:
    assert rate_of(find_accelerator_row("a100-sxm-80gb", ROWS), Arithmetic.FP8) == (Arithmetic.BF16, 312e12)
    assert rate_of(find_accelerator_row("h100", ROWS), Arithmetic.FP8) == (Arithmetic.FP8, 1978e12)
    assert rate_of(find_accelerator_row("b300", ROWS), Arithmetic.INT8) == (Arithmetic.BF16, 2250e12)  # int8 is slower there


@given(
    name=st.sampled_from(["llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "gpt-oss-20b", "nemotron-h-56b"]),
    on=st.sampled_from(["l4", "2xl40s", "8xh100", "8xmi300x", "3xarc-b580"]),
    context=st.integers(1, 1 << 20),
    concurrency=st.integers(1, 4096),
)
def test_more_is_never_easier(name: str, on: str, context: int, concurrency: int) -> None:
    wish = FitWish(context=context, concurrency=concurrency)
    more = FitWish(context=context * 2, concurrency=concurrency)
    targets = read_named_targets(on, ENGINES.engine, ROWS)
    before, after = (plan_fit(model(name), targets, ENGINES.engine, asked) for asked in (wish, more))
    assert all(first.fits or not second.fits for first, second in zip(before, after, strict=True))
