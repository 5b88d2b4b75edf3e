"""Reviewed text: a file under tests/golden that a test compares with, and one switch that writes it again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def compare(name: str, text: str) -> None:
    """Fails unless `text` is what tests/golden/NAME holds. BEDPLATE_ACCEPT=1 writes the file first: read the diff then."""
    golden = GOLDEN / name
    if os.environ.get("BEDPLATE_ACCEPT"):
        golden.write_text(text)
    if not golden.is_file():
        pytest.fail(f"tests/golden/{name} is not there: run with BEDPLATE_ACCEPT=1 and read it", pytrace=False)
    assert text == golden.read_text(), f"BEDPLATE_ACCEPT=1 writes tests/golden/{name} again; read the diff"
