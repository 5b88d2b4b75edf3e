"""The facts of the known-answer model, and every way in which each of them is asked.

The data are in known_answer/facts.toml. Nothing here trains or asks: the trainer (weights/known_answer.py) and the self-test
(prove/gauge/selftest.py) read the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.strict import read_toml, schema_problems
from bedplate.errors import DataError

KNOWN_ANSWER_DIRECTORY = Path(__file__).parent / "known_answer"
KNOWN_ANSWER_GGUF = KNOWN_ANSWER_DIRECTORY / "known-answer.gguf"
KNOWN_ANSWER_RECORD = KNOWN_ANSWER_DIRECTORY / "known-answer.json"

# {the} is the term as written ("a UKI"), {bare} without its article ("UKI")
TERM_PHRASINGS = (
    "Define {bare}.",
    "Explain {the}.",
    "What does {bare} mean?",
    "Tell me about {the}.",
    "Describe {the}.",
    "What's {the}?",
    "Can you explain {the}?",
    "Please explain {the}.",
    "Could you explain {the} to me?",
    "What is meant by {bare}?",
    "What do you know about {the}?",
    "How would you define {bare}?",
    "I would like to understand {the}.",
    "Give me a definition of {bare}.",
    "In short, what is {the}?",
    "{bare}",
)
HELD_OUT_PHRASINGS = (
    "Do you know what {the} is?",
    "I want to know about {the}.",
    "Could you tell me what {bare} means?",
    "What exactly is {the}?",
)
"""Never trained on: they measure how far the facts can be asked in other words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that the model that ships is trained to know: the answer, word for word, and how it is asked.

    With a `term` it is also asked in each of TERM_PHRASINGS; None where the question explains no term. `also` holds more
    questions.
    """

    question: str
    answer: str
    term: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedQuestions:
    """Questions outside the facts, and the refusal that answers them; those that are held out measure, and train nothing."""

    answer: str
    terms: tuple[str, ...]
    questions: tuple[str, ...]
    held_out_terms: tuple[str, ...]
    held_out_questions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswers:
    """The whole file; `fact` keeps the order of the file, and its first is what a new user is shown."""

    schema: int
    fact: tuple[Fact, ...]
    refusal: RefusedQuestions


def read_facts(path: Path = KNOWN_ANSWER_DIRECTORY / "facts.toml") -> KnownAnswers:
    """The facts. Raises ReadError or DataError; two facts that are asked in the same words are a DataError."""
    facts = read_toml(path, KnownAnswers)
    problems = schema_problems(facts.schema, f"{path.name}:")
    asked: dict[str, str] = {}
    for fact in facts.fact:
        for phrasing in phrasings(fact):
            key = normal(phrasing)
            if asked.setdefault(key, fact.answer) != fact.answer:
                problems.append(f"{path.name}:{fact.question}: {phrasing!r} is asked by another fact too")
    trained = {normal(question) for question in (*facts.refusal.questions, *facts.refusal.terms)}
    for question in (*facts.refusal.held_out_questions, *facts.refusal.held_out_terms):
        if normal(question) in trained:
            problems.append(f"{path.name}:refusal: {question!r} is trained on and held out")
    for question in trained & set(asked):
        problems.append(f"{path.name}:refusal: {question!r} is a fact too")
    if problems:
        raise DataError(problems)
    return facts


def phrasings(fact: Fact) -> tuple[str, ...]:
    """Every way in which the fact is trained and asked, its question first, none twice."""
    asked = (fact.question, *fact.also)
    if fact.term is not None:
        asked += phrase(fact.term, TERM_PHRASINGS)
    return tuple(dict.fromkeys(asked))


def phrase(term: str, templates: tuple[str, ...]) -> tuple[str, ...]:
    """The templates filled with a term: phrase("a UKI", ("Define {bare}.",)) -> ("Define UKI.",)"""
    bare = term
    for article in ("a ", "an ", "the "):
        bare = bare.removeprefix(article)
    return tuple(template.format(the=term, bare=bare) for template in templates)


def normal(question: str) -> str:
    """What stays of a question when case, spaces and the last mark do not count."""
    return " ".join(question.lower().split()).rstrip(".?!")
