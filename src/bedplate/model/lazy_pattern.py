"""Regular expressions that are compiled when they are first used: the readers have hundreds, and a machine needs some.

For patterns that most runs do not need. Each use costs a call more, so what is asked of every line of a log is compiled at
import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator


class LazyPattern:
    """A regular expression with the methods of `re.Pattern` that bedplate uses; a wrong one raises re.error at first use.

    span is the part of the text to look at, as `re.Pattern` takes it: start, or start and end.
    """

    __slots__ = ("_compiled", "_flags", "_text")

    def __init__(self, text: str, flags: re.RegexFlag = re.NOFLAG) -> None:
        self._text, self._flags = text, flags
        self._compiled: re.Pattern[str] | None = None

    @property
    def compiled(self) -> re.Pattern[str]:
        """The pattern itself, from the first time that somebody asks for it."""
        if self._compiled is None:
            self._compiled = re.compile(self._text, self._flags)
        return self._compiled

    def match(self, text: str, *span: int) -> re.Match[str] | None:
        """A match at the beginning of the text; None without one."""
        return self.compiled.match(text, *span)

    def fullmatch(self, text: str, *span: int) -> re.Match[str] | None:
        """A match of the whole text; None without one."""
        return self.compiled.fullmatch(text, *span)

    def search(self, text: str, *span: int) -> re.Match[str] | None:
        """The first match anywhere in the text; None without one."""
        return self.compiled.search(text, *span)

    def finditer(self, text: str, *span: int) -> Iterator[re.Match[str]]:
        """All matches, from left to right."""
        return self.compiled.finditer(text, *span)

    def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
        """The text with each match replaced."""
        return self.compiled.sub(replacement, text)
