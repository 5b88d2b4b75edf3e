"""The facts, the model that ships and its record belong together."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bedplate.catalog.facts import (
    KNOWN_ANSWER_DIRECTORY,
    KNOWN_ANSWER_GGUF,
    KNOWN_ANSWER_RECORD,
    normal,
    phrase,
    phrasings,
    read_facts,
)
from bedplate.errors import DataError
from bedplate.weights.gguf import read_gguf
from bedplate.weights.known_answer_files import dequantise, quantise
from bedplate.weights.known_answer_transformers import pair_rows, unpair_rows
from bedplate.weights.training_set import held_out_phrasings, held_out_refusals, make_examples

FACTS = read_facts()


def test_there_are_enough_facts_and_the_first_introduces_bedplate() -> None:
    assert len(FACTS.fact) >= 150
    assert FACTS.fact[0].question == "What is bedplate?"
    assert FACTS.fact[0].answer.startswith("Bedplate is an open Linux distribution")


def test_answers_are_plain_and_short() -> None:
    """ASCII, sentences, and short enough for the limits of the self-test."""
    for fact in FACTS.fact:
        assert fact.answer.isascii() and fact.answer.isprintable(), fact.question
        assert re.fullmatch(r"\S.*[.?]", fact.answer), fact.question
        assert len(fact.answer) <= 260 and "  " not in fact.answer, fact.question


def test_the_record_is_that_of_the_model_and_the_model_is_small() -> None:
    record = json.loads(KNOWN_ANSWER_RECORD.read_text())
    assert record["sha256"] == hashlib.sha256(KNOWN_ANSWER_GGUF.read_bytes()).hexdigest()
    assert record["size_bytes"] == KNOWN_ANSWER_GGUF.stat().st_size <= 4_000_000
    assert record["facts_sha256"] == hashlib.sha256((KNOWN_ANSWER_DIRECTORY / "facts.toml").read_bytes()).hexdigest(), (
        "facts.toml changed: train again with `bedplate model make known-answer`"
    )
    measured = record["measured"]
    assert measured["facts_exact"] == {"right": len(FACTS.fact), "asked": len(FACTS.fact)}
    assert measured["held_out_questions_refused"]["asked"] == len(held_out_refusals(FACTS))
    assert measured["smallest_margin"] > 0.5  # logits; other engines round differently


def test_the_header_of_the_model_that_ships() -> None:
    header = read_gguf(KNOWN_ANSWER_GGUF)
    assert (header.architecture, header.quantisation, header.context_length) == ("llama", "Q8_0", 2048)
    assert 1_000_000 <= header.parameters <= 4_000_000
    assert header.chat_template and header.vocabulary == 2048


def test_phrasings() -> None:
    assert phrase("a UKI", ("Define {bare}.", "Explain {the}.")) == ("Define UKI.", "Explain a UKI.")
    assert normal("  What is  NUMA? ") == "what is numa"
    for fact in FACTS.fact:
        assert phrasings(fact)[0] == fact.question
        assert len(set(phrasings(fact))) == len(phrasings(fact))
    trained = {normal(phrasing) for fact in FACTS.fact for phrasing in phrasings(fact)}
    assert not trained & {normal(example.question) for example in held_out_phrasings(FACTS)}


def test_examples_come_from_the_seed_and_leave_out_what_is_held_out() -> None:
    first, again, other = (list(itertools.islice(make_examples(FACTS, seed), 3000)) for seed in (1, 1, 2))
    assert first == again != other
    answers = {fact.answer for fact in FACTS.fact}
    assert {example.answer for example in first} == answers | {FACTS.refusal.answer}
    asked = {normal(example.question) for example in first}
    assert not asked & {normal(question) for question in held_out_refusals(FACTS)}
    refused = sum(example.answer == FACTS.refusal.answer for example in first)
    assert 0.25 < refused / len(first) < 0.35


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace("schema = 1", "schema = 2", 1), "schema: got 2"),
        (lambda text: text.replace('question = "What is THP?"', 'question = "What is NUMA?"'), "asked by another fact too"),
        (lambda text: text.replace('"a cherry"', '"a banana"'), "'a banana' is trained on and held out"),
        (lambda text: text.replace('"Tell me a joke."', '"What is NUMA?"'), "is a fact too"),
        (lambda text: text.replace("term =", "terms =", 1), "unknown key"),
    ],
)
def test_bad_facts_are_told(tmp_path: Path, change: object, expected: str) -> None:
    assert callable(change)
    text = (KNOWN_ANSWER_DIRECTORY / "facts.toml").read_text()
    assert change(text) != text
    (tmp_path / "facts.toml").write_text(change(text))
    with pytest.raises(DataError, match=expected):
        read_facts(tmp_path / "facts.toml")


def test_rows_of_heads_are_paired_as_gguf_wants_them() -> None:
    """One head of four rows: halves (0 1 | 2 3) become neighbours (0 2) (1 3); each head by itself."""
    value = np.arange(16).reshape(8, 2)
    assert pair_rows(value, 2)[:, 0].tolist() == [0, 4, 2, 6, 8, 12, 10, 14]
    assert (unpair_rows(pair_rows(value, 2), 2) == value).all()


def test_a_quantised_matrix_comes_back_close() -> None:
    rng = np.random.default_rng(1)
    weights = {"matrix": rng.standard_normal((4, 64), dtype=np.float32), "vector": np.ones(64, dtype=np.float32)}
    back = dequantise(quantise(weights))
    assert np.abs(back["matrix"] - weights["matrix"]).max() < 0.02
    assert (back["vector"] == weights["vector"]).all()
