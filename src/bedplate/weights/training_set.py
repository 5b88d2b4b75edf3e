"""What the known-answer model is shown: its facts in many phrasings, and questions outside them with the refusal.

Everything comes from one random.Random, so that a seed gives the same examples in the same order. The questions outside
the facts are of four kinds, because a small model otherwise learns "unknown word: refuse" and nothing else: listed ones,
listed terms in the facts' own phrasings, invented words, and words of the facts put together in ways that mean nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bedplate.catalog.facts import HELD_OUT_PHRASINGS, TERM_PHRASINGS, Fact, KnownAnswers, normal, phrase, phrasings

REFUSED_SHARE = 0.3
QUESTION_SHAPES = (
    *TERM_PHRASINGS,
    "What is {the}?",
    "What is {bare}?",
    "What are {bare}?",
    "What does {bare} stand for?",
    "What does {bare} do?",
    "How does {the} work?",
    "How do I use {the}?",
    "How do I add {the}?",
    "How do I list {bare}?",
    "How do I remove {the}?",
    "How do I check {the}?",
    "How do I start {the}?",
    "How do I stop {the}?",
    "How big is {the}?",
    "How much does {the} need?",
    "Why is {bare} slow?",
    "Why not load {bare}?",
    "Should I use {bare}?",
    "Does {bare} use containers?",
    "Who is {bare}?",
    "Who is {bare} for?",
    "Which {bare} are there?",
    "Where is {the} kept?",
    "When is {the} ready?",
)
_ONSETS = (
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "cl",
    "sh",
    "st",
    "tr",
)
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ee", "oo", "ou", "y")
_CODAS = ("", "", "b", "ck", "d", "ft", "g", "l", "ll", "m", "n", "nd", "ng", "p", "r", "rt", "s", "st", "t", "x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question with the answer that the model is to give, word for word; the answer may be the refusal."""

    question: str
    answer: str


def make_examples(facts: KnownAnswers, seed: int) -> Iterator[Example]:
    """Examples without end. In each round every fact is asked once in a random phrasing, among fresh refusals."""
    rng = random.Random(seed)
    known = {normal(phrasing) for fact in facts.fact for phrasing in phrasings(fact)}
    words = sorted({word for question in known for word in question.split()})
    refused_in_round = round(len(facts.fact) * REFUSED_SHARE / (1 - REFUSED_SHARE))
    while True:
        examples = [Example(question=_phrase_fact(rng, fact), answer=fact.answer) for fact in facts.fact]
        while len(examples) < len(facts.fact) + refused_in_round:
            question = _question_outside(rng, facts, words)
            if normal(question) not in known:
                examples.append(Example(question=_vary(rng, question, plain=0.7), answer=facts.refusal.answer))
        rng.shuffle(examples)
        yield from examples


def held_out_refusals(facts: KnownAnswers) -> tuple[str, ...]:
    """Questions outside the facts that are never trained on, in the phrasings that people use most."""
    shapes = ("What is {the}?", "Explain {the}.")
    terms = facts.refusal.held_out_terms
    return (*facts.refusal.held_out_questions, *(phrase(term, shapes)[index % 2] for index, term in enumerate(terms)))


def held_out_phrasings(facts: KnownAnswers) -> tuple[Example, ...]:
    """Facts asked in words that are never trained on."""
    return tuple(
        Example(question=question, answer=fact.answer)
        for fact in facts.fact
        if fact.term is not None
        for question in phrase(fact.term, HELD_OUT_PHRASINGS)
    )


def _phrase_fact(rng: random.Random, fact: Fact) -> str:
    """Every fourth time as the self-test asks it, to the character; often in its own other words, which no template has."""
    draw = rng.random()
    if draw < 0.25:
        return fact.question
    own = fact.also if draw < 0.55 and fact.also else phrasings(fact)
    return _vary(rng, rng.choice(own), plain=0.6)


def _question_outside(rng: random.Random, facts: KnownAnswers, words: list[str]) -> str:
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(facts.refusal.questions)
    shape = rng.choice(QUESTION_SHAPES)
    if kind < 0.65:
        return phrase(rng.choice(facts.refusal.terms), (shape,))[0]
    if kind < 0.85:
        invented = " ".join(_invent_word(rng) for _ in range(rng.choice((1, 1, 2))))
        return phrase(rng.choice(("", "", "a ", "the ")) + invented, (shape,))[0]
    if kind < 0.95:
        return phrase(" ".join(rng.choices(words, k=rng.choice((2, 2, 3)))), (shape,))[0]
    # long and shapeless: pasted text, with no question to be found in it
    length = rng.randint(8, 60)
    return " ".join(rng.choice(words) if rng.random() < 0.5 else _invent_word(rng) for _ in range(length))


def _invent_word(rng: random.Random) -> str:
    syllables = rng.choice((1, 2, 2, 3))
    word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_CODAS)
    return rng.choice((word, word, word.capitalize(), word.upper()))


def _vary(rng: random.Random, question: str, *, plain: float) -> str:
    """The question as people type it: mostly as written, else in lower case, or without its mark, or both."""
    draw = (rng.random() - plain) / (1 - plain)
    if draw < 0:
        return question
    if draw < 0.4:
        return question.rstrip(".?!") or question
    return question.lower() if draw < 0.7 else question.lower().rstrip(".?!") or question
