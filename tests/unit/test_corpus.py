"""Inputs that a coverage-guided fuzzer kept (tests/fuzz/run.py): only refusals may escape."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tests.fuzz.parsers import NAMES, PARSERS, REFUSALS

CORPUS = Path(__file__).parents[1] / "fuzz/corpus"


def test_the_corpus_is_survived() -> None:
    inputs = sorted(CORPUS.iterdir())
    assert len(inputs) > 100
    for file in inputs:
        data = file.read_bytes()
        with suppress(*REFUSALS):
            PARSERS[NAMES[data[0] % len(NAMES)]](data[1:])
