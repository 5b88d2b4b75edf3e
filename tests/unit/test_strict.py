"""Data files: how they are read."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from bedplate.catalog import strict
from bedplate.catalog.findings import parse_suppressions, read_suppressions
from bedplate.catalog.strict import is_date, parse_table, read_data, schema_problems
from bedplate.errors import DataError, ReadError


def test_a_file_without_end_is_refused_after_a_few_mebibytes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReadError, match="/dev/zero: is larger than 4 MiB"):
        read_suppressions(Path("/dev/zero"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ReadError, match=r"rows.toml: is not UTF-8: byte 0 is 0xff"):
        read_data(tmp_path / "rows.toml")
    with pytest.raises(ReadError, match="cannot read"):
        read_data(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "9" * 5000, "a number of too many digits"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        ("a." * 50_000 + "a = 1", "a key has 32 dots or more"),
        ("[[" + '"\\"" . ' * 50_000 + "a]]", "a key has 32 dots or more"),
        ("a = {b = 1, " + "'c'." * 50_000 + "c = 1}", "a key has 32 dots or more"),
        ("a = ", "not TOML: Invalid value"),
    ],
)
def test_what_toml_cannot_hold_is_a_problem_of_the_file(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        parse_table(text, name="x.toml")


def test_the_key_schema_is_judged_in_one_place() -> None:
    """The version of a file's form; a text or true is none, though Python takes true for 1."""
    assert schema_problems(1, "x.toml:") == []
    for got in (2, True, 1.0, "1", None):
        assert schema_problems(got, "x.toml:") == [f"x.toml:schema: got {got!r}, expected 1"]
    source = Path(strict.__file__).parents[1]
    own = [
        path.name
        for path in sorted(source.rglob("*.py"))
        if re.search(r"schema: (got|expected)|schema.* [!=]= 1\b", path.read_text())
    ]
    assert own == ["strict.py", "index.py"]  # the other is the index of a newer bedplate


def test_a_number_too_long_to_print_is_refused() -> None:
    row = "schema = 1\n[[suppress]]\nid = 0x" + "f" * 5000 + "\nreason = 'of the house'\n"
    with pytest.raises(DataError, match="a number of too many digits"):
        parse_suppressions(row, name="x.toml")


def test_the_operating_system_is_quoted_without_its_number(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"nowhere: cannot read: No such file or directory$"):
        read_data(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("2026-11-30", True),
        ("2026-11-31", False),
        ("2026-13-01", False),
        ("20261130", False),
        ("2026-W48-1", False),
        ("", False),
    ],
)
def test_a_date_is_a_day_in_one_form(text: str, good: bool) -> None:
    """A row of the kernel's log could be read on the 45th, and one of the stack on 20261130."""
    assert is_date(text) is good
