"""No regular expression of bedplate takes time that grows with the square of its text.

The expressions are found in the source, those that are compiled into a name and those that are written in the call, each
with the methods by which it is used. The words that are hard for it are made of it: what matches up to each repetition,
followed by many of what is repeated, and by something that does not fit.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from tests.unit.growth import cpu_s, growth

from bedplate.model.lazy_pattern import LazyPattern

SOURCE = Path(__file__).parents[2] / "src"
METHODS = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
SHORT, LONG = 500, 5_000  # characters; ten times as long takes about ten times as long, or a hundred times
PROBES = (12, 15, 18, 21, 24, 27, 30, 33, 36, 40, 60, 90, 150)
HARD_S = 0.1  # of the short text: then the long one may never end
EASY_S = 0.001  # of the long text: a square of its length takes a hundred times that
MOST = 30.0
WORDS_MOST = 32  # hard texts of one use


def expressions() -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """(where it stands, compiled, method) of each use."""
    compiled: dict[str, list[tuple[str, re.Pattern[Any]]]] = defaultdict(list)
    uses: dict[str, set[str]] = defaultdict(set)
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        text = path.read_text()
        if "re." not in text and "LazyPattern" not in text and "import re" not in text and ".sub(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _function(node.value) == "compile":
                (target,) = node.targets
                if isinstance(target, ast.Name):
                    value = getattr(importlib.import_module(name), target.id, None) or _evaluate(node.value)
                    value = value.compiled if isinstance(value, LazyPattern) else value
                    if value is not None:
                        compiled[target.id].append((f"{name}:{node.lineno} {target.id}", value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "re":
                    value = _evaluate(node)
                    if value is not None:
                        yield f"{name}:{node.lineno}", value, node.func.attr
                elif isinstance(owner, ast.Name):
                    uses[owner.id].add(node.func.attr)
                elif isinstance(owner, ast.Call) and _function(owner) == "compile":
                    value = _evaluate(owner)
                    if value is not None:
                        yield f"{name}:{node.lineno}", value, node.func.attr
    for name, found in compiled.items():
        for where, value in found:
            # One that is used through a table has no call of its own.
            for method in sorted(uses[name]) or ("fullmatch", "search"):
                yield where, value, method


def _function(call: ast.Call) -> str:
    owner = call.func
    if isinstance(owner, ast.Name) and owner.id == "LazyPattern":
        return "compile"
    is_re = isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "re"
    return owner.attr if is_re and isinstance(owner, ast.Attribute) else ""


def _evaluate(call: ast.Call) -> re.Pattern[Any] | None:
    """The expression of a call, where its text is written out there; others are made at run time of names of ours."""
    flags = 0
    for value in [*call.args[1:], *(keyword.value for keyword in call.keywords if keyword.arg == "flags")]:
        for node in ast.walk(value):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re":
                value_of_re = getattr(re, node.attr)
                flags |= int(value_of_re) if isinstance(value_of_re, re.RegexFlag) else 0  # else a call inside this one
    text = call.args[0] if call.args else None
    if not isinstance(text, ast.Constant) or not isinstance(text.value, str | bytes):
        return None
    return re.compile(text.value, flags)


def words(pattern: re.Pattern[Any]) -> list[str]:
    """Beginnings of hard texts for an expression: (head, what is repeated) as (head, unit)."""
    parts: list[tuple[str, str]] = []
    tree = _parser.parse(
        pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1"),
        pattern.flags & ~32 & ~re.UNICODE,
    )
    _collect(tree, "", parts)
    alphabet = sorted({unit for _, unit in parts if len(unit) == 1})
    made = dict.fromkeys([*parts, *(("", head + unit) for head, unit in parts), *(("", head) for head, _ in parts if head)])
    made |= dict.fromkeys(("", a + b) for a in alphabet[:6] for b in alphabet[:6] if a != b)
    made |= dict.fromkeys([("", "a"), ("", " "), ("", "\n"), ("", "a."), ("", "-a")])
    return [f"{head}\0{unit}" for head, unit in made][:WORDS_MOST]


def _collect(tree: Sequence[Any], before: str, parts: list[tuple[str, str]]) -> str:
    """Adds (what leads to a repetition, one turn of it) for each repetition; gives a short text that matches."""
    text = before
    for code, value in tree:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            least, most, inner = value
            turn = _collect(inner, text, parts)[len(text) :]
            if most >= 16:
                parts.extend((text, unit) for unit in _units(inner, turn))
            text += turn * max(least, 0 if least == 0 else 1)
        elif code is codes.SUBPATTERN:
            text = _collect(value[-1], text, parts)
        elif code is codes.BRANCH:
            ways = [_collect(branch, text, parts) for branch in value[1]]
            text = ways[0]
        elif code in (codes.ASSERT, codes.ATOMIC_GROUP):
            inner = value[1] if code is codes.ASSERT else value
            made = _collect(inner, text, parts)
            text = made if code is codes.ATOMIC_GROUP else text
        elif code is codes.GROUPREF:
            text += "-"
        else:
            text += _character(code, value)
    return text


def _units(inner: Sequence[Any], turn: str) -> list[str]:
    """What one turn of a repetition may be: several characters of its set, since one of them may begin another match."""
    units = [turn] if turn else []
    if len(inner) == 1 and inner[0][0] is codes.IN:
        units += [character for character in 'a0 .-_/:\n\t"' if _fits(inner[0][1], character)]
    elif len(inner) == 1 and inner[0][0] in (codes.NOT_LITERAL, codes.ANY):
        units += ["a", " "]
    return list(dict.fromkeys(units))


def _fits(items: Sequence[Any], character: str) -> bool:
    classes = {
        codes.CATEGORY_DIGIT: r"\d",
        codes.CATEGORY_SPACE: r"\s",
        codes.CATEGORY_WORD: r"\w",
        codes.CATEGORY_NOT_DIGIT: r"\D",
        codes.CATEGORY_NOT_SPACE: r"\S",
        codes.CATEGORY_NOT_WORD: r"\W",
    }
    inverted = bool(items) and items[0][0] is codes.NEGATE
    for code, value in items:
        if code is codes.LITERAL and ord(character) == value:
            return not inverted
        if code is codes.RANGE and value[0] <= ord(character) <= value[1]:
            return not inverted
        if code is codes.CATEGORY and re.fullmatch(classes[value], character):
            return not inverted
    return inverted


def _character(code: Any, value: Any) -> str:
    if code is codes.LITERAL:
        return chr(value)
    if code is codes.NOT_LITERAL:
        return "a" if value != ord("a") else "b"
    if code is codes.ANY:
        return "a"
    if code is codes.IN:
        return next((character for character in "a0A .-_/:=\"'[{(<%@" if _fits(value, character)), "z")
    if code is codes.CATEGORY:
        return _character(codes.IN, [(code, value)])
    return ""


def _text(pattern: re.Pattern[Any], word: str, length: int) -> Any:
    head, _, unit = word.partition("\0")
    text = head + unit * max(1, (length - len(head)) // max(1, len(unit))) + "\0"  # which fits nowhere
    return text if isinstance(pattern.pattern, str) else text.encode("latin-1", errors="replace")


def _use(pattern: re.Pattern[Any], method: str) -> Callable[[Any], object]:
    if method in ("sub", "subn"):
        return partial(pattern.sub, "" if isinstance(pattern.pattern, str) else b"")
    if method == "finditer":
        return pattern.findall
    use: Callable[[Any], object] = getattr(pattern, method)
    return use


USES = sorted(
    {(where, pattern.pattern, method): (where, pattern, method) for where, pattern, method in expressions()}.values(),
    key=lambda use: (use[0], use[2]),
)


def slow_words(pattern: re.Pattern[Any], method: str) -> list[str]:
    """The first text for which the expression takes far more than ten times as long when it is ten times as long."""
    use = _use(pattern, method)
    for word in words(pattern):
        short, long = _text(pattern, word, SHORT), _text(pattern, word, LONG)
        for length in (*PROBES, SHORT):  # one that doubles with each character is seen before it never ends
            if cpu_s(partial(use, _text(pattern, word, length))) > HARD_S:
                return [f"{word!r}: more than {HARD_S} s for {length} characters"]
        if cpu_s(partial(use, long)) < EASY_S:
            continue
        ratio = growth(partial(use, short), partial(use, long), most=MOST)
        if ratio > MOST:
            return [f"{word!r}: {ratio:.0f} times"]
    return []


def test_the_expressions_of_the_source_are_found() -> None:
    where = {place for place, _, _ in USES}
    assert len(where) > 150
    assert any("_ACCOUNT" in place for place in where) and any("redact" in place for place in where)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (r"[a-z][a-z0-9+.-]*://", "sub"),
        (r"^\s*(//|#).*$", "sub"),
        (r"(?:a|a)*b", "match"),
        (r"[a-z]*(?:[./][\w./]+)+", "fullmatch"),
        (r'\{\s*"x"\s*:', "search"),
        (r"\s+$", "search"),
    ],
)
def test_an_expression_that_grows_with_the_square_is_seen(text: str, method: str) -> None:
    expected = text != r'\{\s*"x"\s*:'
    assert bool(slow_words(re.compile(text, re.MULTILINE), method)) is expected


@pytest.mark.parametrize(("where", "pattern", "method"), USES, ids=[f"{where}-{method}" for where, _, method in USES])
def test_ten_times_the_text_takes_about_ten_times_as_long(where: str, pattern: re.Pattern[Any], method: str) -> None:
    assert slow_words(pattern, method) == []
