"""Data files: how they are read."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from bedplate.catalog.findings import read_suppressions
from bedplate.catalog.strict import read_data
from bedplate.errors import ReadError


def test_a_file_without_end_is_refused_after_a_few_mebibytes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReadError, match="/dev/zero: is larger than 4 MiB"):
        read_suppressions(Path("/dev/zero"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ReadError, match=r"rows.toml: cannot read"):
        read_data(tmp_path / "rows.toml")
    with pytest.raises(ReadError, match="cannot read"):
        read_data(tmp_path)
