"""The rows that `bedplate fit` reckons with: whole, sourced, and found by name."""

from __future__ import annotations

import pytest

from bedplate.catalog.accelerators import ACCELERATORS, find_accelerator_row, parse_accelerators, read_accelerator_rows
from bedplate.catalog.drop_ins import RowFile
from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.catalog.models import find_model_row, read_model_rows
from bedplate.errors import DataError, UsageError
from bedplate.model.catalogued import AcceleratorRow, EngineRow, ModelRow

MODEL = """
schema = 1

[[model]]
id = "mine"
shape = { layers = 2, hidden = 64, heads = 4, kv_heads = 2, head_size = 16, intermediate = 128, vocabulary = 1000 }
source = "ours"
checked = "by hand"
date = "2026-11-30"

[[model.checkpoint]]
precision = "bf16"
"""


def test_every_row_says_where_it_is_from_and_how_it_was_checked() -> None:
    rows: list[ModelRow | AcceleratorRow | EngineRow]
    rows = [*read_model_rows(), *read_accelerator_rows(), *read_fit_engines().engine]
    assert len(rows) == 18 + 27 + 3
    assert [row.id for row in rows if not (row.source and row.checked and row.date)] == []


def test_a_row_that_rests_on_one_source_names_the_figures() -> None:
    for row in read_accelerator_rows():
        assert ("one source" in row.checked) <= bool(row.unverified), row.id


def test_dense_rates_rise_as_the_bits_fall() -> None:
    """A sparse figure among dense ones would stand out: fp8 twice of bf16, fp4 at least twice of fp8."""
    for row in read_accelerator_rows():
        rates = row.tflops
        if rates.bf16 and rates.fp8:
            assert rates.fp8 / rates.bf16 == pytest.approx(2, rel=0.02) or row.id == "gaudi3", row.id
        if rates.fp8 and rates.fp4:
            assert rates.fp4 / rates.fp8 >= 1.99, row.id


def test_every_precision_of_a_model_is_a_row() -> None:
    known = {precision.id for precision in read_fit_engines().precision}
    assert {checkpoint.precision for row in read_model_rows() for checkpoint in row.checkpoint} <= known


@pytest.mark.parametrize("name", ["llama-3.1-70b", "LLAMA-3.1-70B", "meta-llama/Llama-3.3-70B-Instruct"])
def test_a_model_is_found_by_its_published_names_too(name: str) -> None:
    assert find_model_row(name, read_model_rows()).id == "llama-3.1-70b"


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(UsageError) as refused:
        find_model_row("lama-3.1-70b", read_model_rows())
    assert "llama-3.1-70b" in (refused.value.hint or "")
    with pytest.raises(UsageError) as refused:
        find_accelerator_row("h1000", read_accelerator_rows())
    assert "h100" in (refused.value.hint or "")
    with pytest.raises(UsageError) as refused:
        find_accelerator_row("abacus", read_accelerator_rows())
    assert "gaudi3" in (refused.value.hint or "")


def test_further_files_add_rows() -> None:
    assert find_model_row("mine", read_model_rows([RowFile(name="more.toml", text=MODEL)])).shape.layers == 2


def test_rows_of_two_files_that_contradict_each_other_are_named_with_both_places() -> None:
    files = [RowFile(name=name, text=MODEL) for name in ("a.toml", "b.toml")]
    with pytest.raises(DataError) as refused:
        read_model_rows(files)
    assert refused.value.problems == ("b.toml:mine: the name 'mine' stands twice, here and in a.toml:mine",)
    names = MODEL.replace('"mine"\n', '"other"\nnames = ["Meta-Llama/LLAMA-3.1-8B"]\n', 1)
    with pytest.raises(
        DataError, match=r"c\.toml:other: the name 'meta-llama/llama-3\.1-8b' stands twice, .*models\.toml:llama"
    ):
        read_model_rows([RowFile(name="c.toml", text=names)])
    row = 'schema = 1\n[[maker]]\nvendor = 0x10de\nnames = ["fff0 A"]\n'
    with pytest.raises(DataError) as refused:
        read_accelerator_rows([RowFile(name=name, text=row) for name in ("a.toml", "b.toml")])
    (problem,) = refused.value.problems
    assert problem == "b.toml:maker[10de].names: 10de:fff0 stands twice, here and in a.toml:maker[10de].names"
    assert "docs/how-to/fit.md" in (refused.value.hint or "")


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "0"])
def test_a_figure_that_is_none_is_refused(number: str) -> None:
    text = ACCELERATORS.read_text().replace("memory_gib = 24\n", f"memory_gib = {number}\n", 1)
    with pytest.raises(DataError, match="l4: memory_gib, bandwidth_gbs and devices_per_card must be above 0"):
        parse_accelerators([RowFile(name="x.toml", text=text)])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id = "mine"', 'id = "gpt-oss-20b"', "stands twice"),
        ("kv_heads = 2, head_size = 16, ", "", "expected either kv_heads"),
        ("layers = 2", "layers = 0", "layers: got 0"),
        ("heads = 4", "heads = 4, window = 8", "belong together"),
        ('precision = "bf16"', 'precision = "bf16"\nsize = 3', "unknown key"),
        ('precision = "bf16"', 'precision = "bf17"', r"mine\.checkpoint: got the precision 'bf17', expected bf16, fp8"),
    ],
)
def test_a_bad_row_is_refused_by_its_place(old: str, new: str, says: str) -> None:
    assert old in MODEL
    with pytest.raises(DataError, match=says) as refused:
        read_model_rows([RowFile(name="more.toml", text=MODEL.replace(old, new, 1))])
    assert all(problem.startswith("more.toml:") for problem in refused.value.problems)
    assert "docs/how-to/fit.md" in (refused.value.hint or "")
