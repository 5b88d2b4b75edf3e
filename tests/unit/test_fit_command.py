"""`bedplate fit` as it is typed: text, JSON, the page, exit codes, names that are wrong, files of strangers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.unit.facts_factory import GIB, make_gpu, make_pci
from tests.unit.json_schema import problems_of

import bedplate
from bedplate.catalog.accelerators import read_accelerator_rows
from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.cli.fit import FITS_NOWHERE
from bedplate.cli.main import main
from bedplate.errors import DataError
from bedplate.flows.fit import read_fit
from bedplate.flows.fit_targets import host_targets
from bedplate.model.facts.reading import known
from bedplate.model.serving_host import MemoryBudget
from bedplate.report.fit.document import make_fit_schema, render_fit_document
from bedplate.report.fit.page import render_fit_page
from bedplate.report.fit.text import render_fit
from bedplate.report.terminal import Screen, columns

SHIPPED = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def test_a_model_of_the_catalog_on_named_accelerators(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama-3.1-70b", "--on", "8xH100", "--concurrency", "64", "--price", "20"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("llama-3.1-70b with 64 x 8192 tokens fits in ")
    assert re.search(r"vllm +fp8 +4 x 2 +yes +\d+ +\d+ +\d+ tok/s +\d+ tok/s +\d+k tok/s +\d+\.\d\d", text)
    assert "two sources" in text


def test_a_row_that_rests_on_one_source_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama-3.1-8b", "--on", "mi355x"]) == 0
    assert "unverified: tflops: one source" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3.5-27b"])
def test_a_model_that_nothing_holds_or_of_which_nothing_is_known_ends_with_9(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", name, "--on", "l4"]) == FITS_NOWHERE == 9
    text = capsys.readouterr().out
    assert "fits nowhere" in text or "nothing can be said" in text


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["lama-3.1-8b", "--on", "h100"], "no model of the catalog", "llama-3.1-8b"),
        (["llama-3.1-8b", "--on", "8xh1000"], "no accelerator of the catalog", "h100"),
        (["llama-3.1-8b", "--on", "0xh100"], "expected COUNTxACCELERATOR", ""),
        (["llama-3.1-8b", "--on", "h100", "--engine", "vlm"], "no such engine", "vllm"),
        (["gpt-oss-20b", "--on", "h100", "--precision", "fp8"], "is not had in it", "mxfp4"),
    ],
)
def test_a_wrong_name_lists_near_ones(
    arguments: list[str], says: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and hint in error


def test_a_file_is_read_by_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(SHIPPED), "--on", "l4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["shape"]["kv_heads"] == 2 and document["model"]["parameters"] == 2_590_464
    (result,) = document["results"]
    assert (result["engine"], result["fits"], result["precision"]) == ("llamacpp", True, "Q8_0")


def test_a_config_alone_is_counted_and_beside_weights_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name in (str(tmp_path), str(tmp_path / "config.json")):
        assert main(["fit", name, "--on", "l4", "--engine", "vllm", "--json"]) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        assert result["parts"]["weights_bytes"] == 2 * (2 * (3 * 64 * 128 + 2 * 64 * 64 + 2 * 64 * 32) + 5 * 64 + 2 * 64000)
    data = np.zeros(5000, dtype=np.uint8).tobytes()
    header = json.dumps({"x": {"dtype": "U8", "shape": [5000], "data_offsets": [0, 5000]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    assert main(["fit", str(tmp_path), "--on", "l4", "--engine", "vllm", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["parts"]["weights_bytes"] == 5000
    assert main(["fit", str(tmp_path / "model.safetensors"), "--on", "l4"]) == 1
    assert "does not say what its KV cache takes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gone.gguf", "./gone", "/gone/config.json"])
def test_a_path_that_is_not_there_is_no_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", name, "--on", "l4"]) == 1
    assert "does not exist" in capsys.readouterr().err


def write_window_model(path: Path, *, name: str = "x") -> None:
    """A header with a list of the layers that have a window, as newer converters write it."""
    writer = gguf.GGUFWriter(path, "gemma3n")
    writer.add_name(name)
    writer.add_block_count(4)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_sliding_window(512)
    writer.add_sliding_window_pattern([True, True, True, False])
    writer.add_context_length(8192)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.zeros((2, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_list_of_windowed_layers_is_read_from_the_header(tmp_path: Path) -> None:
    write_window_model(tmp_path / "m.gguf")
    shape = read_fit(str(tmp_path / "m.gguf"), on="l4").model.shape
    assert (shape.window, shape.window_layers, shape.layers) == (512, 3, 4)


def test_the_document_is_what_its_schema_allows() -> None:
    schema = make_fit_schema()
    for name in ("llama-3.1-70b", "qwen3.5-27b", "nemotron-h-56b"):
        report = read_fit(name, on="any", price_per_hour=3.0)
        assert list(problems_of(json.loads(render_fit_document(report)), schema, schema)) == []


@pytest.mark.parametrize("width", [40, 80, 130])
@pytest.mark.parametrize("utf8", [True, False])
def test_prose_and_bars_stay_within_the_screen(width: int, utf8: bool) -> None:
    report = read_fit("deepseek-v3", on="8xl4,8xh200")
    text = render_fit(report, Screen(width=width, utf8=utf8))
    bars = [line for line in text.splitlines() if " GiB of " in line]
    assert len(bars) == 2 * 7
    assert all(columns(line) <= max(width, 66) for line in bars)
    assert utf8 or text.isascii()


def test_the_page_needs_nothing_else_and_shows_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "fit.html"
    assert main(["fit", "nemotron-h-56b", "--on", "8xh200,l4", "--html", str(page)]) == 0
    text = page.read_text()
    assert f"wrote {page}" in capsys.readouterr().err
    assert not re.search(r"""(src|href)=["'](?!#)|<script|https?://""", text)
    for part in ("weights", "kv", "state", "buffers", "runtime", "reserve"):
        assert f'class="part {part}"' in text
    assert text.count("<svg") == 4  # wide and narrow, for two targets


def test_bars_of_the_page_stay_within_it() -> None:
    report = read_fit("kimi-k2", on="l4")
    for left, width in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', render_fit_page(report)):
        assert float(left) + float(width) <= 1042.5


def test_a_hostile_name_loses_its_power() -> None:
    report = read_fit("llama-3.1-8b", on="l4")
    hostile = replace(report, model=replace(report.model, name="\x1b[31m<script>", notes=("\u202e\n",)))
    assert "\x1b" not in render_fit(hostile, Screen(width=100, utf8=True))
    page = render_fit_page(hostile)
    assert "<script>" not in page and "\u202e" not in page


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama-3.1-8b", "--on", "l4", "--html", str(tmp_path)]) == 2
    assert main(["fit", "llama-3.1-8b", "--on", "l4", "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_accelerators_of_a_host_are_found_by_their_numbers() -> None:
    engines = read_fit_engines().engine
    pci = tuple(make_pci(f"0000:{bus:02x}:00.0", device=0x2330) for bus in (0x19, 0x3B))
    gpus = tuple(
        replace(make_gpu(index, device.address, name="x"), memory_bytes=known(79 * GIB, "nvml"))
        for index, device in enumerate(pci)
    )
    strange = make_gpu(2, "0000:50:00.0", name="NVIDIA Later")
    memory = MemoryBudget(total_bytes=64 * GIB, available_bytes=40 * GIB, engines_bytes=0)
    found = host_targets(
        (*pci, make_pci("0000:50:00.0", device=0x9999)), (*gpus, strange), memory, engines, read_accelerator_rows()
    )
    assert [(target.name, target.count) for target in found] == [
        ("NVIDIA H100 SXM5 80GB", 2),
        ("NVIDIA Later", 1),
        ("memory of this host", 1),
    ]
    assert found[0].memory_bytes == 79 * GIB and found[1].row is None
    assert found[2].engines == ("llamacpp",) and found[2].reserve_bytes > 24 * GIB


MODEL_ROW = """
schema = 1

[[model]]
id = "ours-1b"
shape = { layers = 2, hidden = 64, heads = 4, kv_heads = 2, head_size = 16, intermediate = 128, vocabulary = 1000 }
source = "us"
checked = "by hand"
date = "2026-11-30"

[[model.checkpoint]]
precision = "bf16"
"""
ACCELERATOR_ROW = """
schema = 1

[[accelerator]]
id = "z900"
name = "Example Z900"
pci = ["10de:ffff"]
arch = "sm_700"
memory_gib = 512
bandwidth_gbs = 20000
tflops = { bf16 = 9000 }
source = "its data sheet"
checked = "one source"
date = "2026-11-30"
unverified = "all"
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "schema = 2", "schema: got 2, expected 1"),
        ("pci = [", "pci = [] #", r"z900\.pci: is empty"),
        ("pci = [", 'pci = ["zz", ', r"z900\.pci: got 'zz', expected VENDOR:DEVICE"),
    ],
)
def test_a_bad_row_of_the_owner_is_refused_by_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    (tmp_path / "accelerators").mkdir()
    assert old in ACCELERATOR_ROW
    (tmp_path / "accelerators/ours.toml").write_text(ACCELERATOR_ROW.replace(old, new, 1))
    with pytest.raises(DataError, match=f"ours.toml:{says}"):
        read_fit("llama-3.1-8b", on="z900", drop_ins=tmp_path)


def test_rows_of_the_owner_count_too(tmp_path: Path) -> None:
    for kind, text in (("models", MODEL_ROW), ("accelerators", ACCELERATOR_ROW)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "ours.toml").write_text(text)
    report = read_fit("ours-1b", on="z900", engine="vllm", drop_ins=tmp_path)
    assert report.holds and report.results[0].target.name == "Example Z900"
