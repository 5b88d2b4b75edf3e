"""Patterns that are compiled when they are first used: they match as `re` does, and each of them can be compiled."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import bedplate.host
import bedplate.plan
from bedplate.host.record.trim import _RULES, _start_of
from bedplate.model.lazy_pattern import LazyPattern


def lazy_patterns(value: object) -> Iterator[LazyPattern]:
    """The pattern that a module's variable is, or those of a table of them."""
    if isinstance(value, LazyPattern):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from lazy_patterns(part)


def test_it_matches_as_re_does() -> None:
    text, plain, lazy = "a1 b22 c", re.compile(r"[a-z](\d+)"), LazyPattern(r"[a-z](\d+)")
    spans = [found.span() for found in plain.finditer(text)]
    assert [found.span() for found in lazy.finditer(text)] == spans == [(0, 2), (3, 6)]
    assert [found.span() for found in lazy.finditer(text, 1, 5)] == [(3, 5)]
    assert lazy.sub(lambda found: found[1], text) == plain.sub(lambda found: found[1], text) == "1 22 c"
    assert lazy.fullmatch("a1") is not None
    assert lazy.fullmatch(text) is None
    assert lazy.match(text, 3) is not None
    assert lazy.match("1a1") is None
    assert lazy.search("1a1", 2) is None
    assert LazyPattern("A", re.IGNORECASE).fullmatch("a") is not None


def test_it_is_compiled_once_and_not_before_its_first_use() -> None:
    lazy = LazyPattern("(")
    with pytest.raises(re.error, match="missing"):
        lazy.search("a")
    right = LazyPattern("a")
    assert right.compiled is right.compiled


def test_every_lazy_pattern_of_the_package_can_be_compiled() -> None:
    found = 0
    for package in (bedplate.host, bedplate.plan):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(module.name)).values():
                for pattern in lazy_patterns(value):
                    assert pattern.compiled.pattern
                    found += 1
    assert found >= 80


@pytest.mark.parametrize(("pattern", "start"), [(r"/proc/cmdline", "/proc/cmdline"), (r"/boot/config-.*", "/boot/config-")])
def test_the_start_of_a_pattern_is_what_stands_before_its_first_operator(pattern: str, start: str) -> None:
    assert _start_of(pattern) == start


def test_no_rule_of_trim_has_an_alternative_or_a_repetition_that_its_start_hides() -> None:
    """The start is looked for before the pattern: "/a|/b" would leave out every path that begins with /b."""
    for start, pattern, _ in _RULES:
        text = pattern.compiled.pattern
        outside = re.sub(r"\[[^\]]*\]|\\.", "", text)
        while (shorter := re.sub(r"\([^()]*\)", "", outside)) != outside:
            outside = shorter
        assert "|" not in outside, text
        assert text.startswith(start)
        assert text[len(start) : len(start) + 1] not in ("?", "*", "+", "{"), text
