"""Secrets in command lines: what must not stand in a fact, a report or a recording. Pure.

A secret is known by the name that stands before it (secret_names.py: an option, a variable, a key of JSON, a header, a part
of a URL's query), by its own shape (secret_shapes.py), or by the program whose option it is (secret_programs.py). Where it
ends is as much a guess as where it begins: it goes on to the end of its argument or line, or to what looks like the next
name or option. In doubt it is hidden: a report without an argument says less, a secret in it cannot be recalled.

Every expression here is linear: a process of any user may put 120,000 letters into its command line. The marks of names are
found once, left to right, and what is hidden is stepped over.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bedplate.host.secrets.secret_names import (
    HIDDEN,
    hide_value,
    is_header,
    is_key_name,
    is_place,
    is_plain,
    is_secret_name,
    is_switch,
    may_be_secret,
    words_of,
)
from bedplate.host.secrets.secret_programs import hide_own_options, hide_own_options_in
from bedplate.host.secrets.secret_shapes import hide_account_word, hide_forms, hide_random
from bedplate.model.lazy_pattern import LazyPattern

WORD_MOST = 8192  # characters of one argument that are shown; a JSON configuration of vLLM has some 2000

# NAME=, NAME: and --NAME=; NAME+= of a shell, NAME:= of httpie, and the name in brackets: a[token]=, a['token']=.
# "Sense Key : Medium Error" is what a disk answers, in the kernel's log.
_MARK = re.compile(
    r"(?<![\w.-])(?<!Sense )(?P<name>-{0,3}[A-Za-z_][\w.-]*+)(?:[\"']?\]{1,4})?"
    r"(?:[ \t]*+(?:[+?:]?=(?!>)|->|=>)[ \t]*+|[ \t]*+:[ \t]*+)"
)
# "NAME": and "NAME", of a list of arguments, of headers or of tuples.
_QUOTED_MARK = re.compile(
    r"(?P<quote>\\{0,8}[\"'])(?P<name>[\w.-][\w. -]{0,119})(?P=quote)\s*+"
    r"(?:(?:[:=]>?|,(?=\s*+\\{0,8}[\"']))\s*+|(?<=\s)(?=\\{0,8}[\"']))"
)
# --NAME VALUE of a script, which may be in the next line; in quotes; in a list of YAML; a value may begin with a dash.
_SPACED_MARK = re.compile(
    r"(?<![^\s\"'=\[(,;|&`])(?P<name>--?[A-Za-z][\w.-]*+)[\"']?+(?:[ \t]++|,[ \t]*+|(?=\\?\r?\n))"
    r"(?:\\?\r?\n[ \t]*+(?:-[ \t]++)?)?(?=[^\s-]|-(?!-|[A-Za-z]{1,3}(?:[\s=]|$)))"
)
# The name and the value of one thing, each in a part of its own: {"name": "HF_TOKEN", "value": "a"}.
_PAIR_MARK = re.compile(
    r"\b(?:name|key)\\{0,8}[\"']?+\s*+[:=]\s*+\\{0,8}[\"']?+(?P<name>[\w.-]{1,120}+)\\{0,8}[\"']?+[\s,]{1,40}+\\{0,8}[\"']?+value"
    r"\\{0,8}[\"']?+\s*+[:=]\s*+"
)
_TAG_MARK = LazyPattern(r"<(?P<name>[A-Za-z_][\w.:-]{0,119}+)>(?=[^<])")
# Names without dashes that a value follows: redis.conf, netrc(5), SQL, HAProxy, and "wandb login KEY".
_BARE_MARK = re.compile(
    r"(?<![\w.-])(?:requirepass|masterauth|primaryauth|(?:add-)?authtoken|identified[ \t]by"
    r"|(?:login|user|username)[ \t]{1,8}\S{1,128}[ \t]{1,8}(?:insecure-)?password"
    r"|(?:wandb|huggingface-cli|vault)[ \t]{1,8}login)[ \t]++(?=[^\s-])",
    re.IGNORECASE,
)
# ... behind a command that gives it to the name: csh, fish, a Dockerfile, nginx, "aws configure set".
_SET_MARK = re.compile(
    r"(?<![A-Za-z0-9.])(?:set|setenv|env|arg|header|param)[ \t]++(?:-[A-Za-z]{1,4}[ \t]++)?"
    r"\$?(?P<name>[A-Za-z_][\w.-]*+)[ \t]++(?=[^\s=-])",
    re.IGNORECASE,
)
# Of an argument.
_BARE_NAME = re.compile(
    r"[a-z0-9]+(?:_[a-z0-9]+)+|(?:[a-z0-9]{1,20}-)?(?:key|token|secret|password|passphrase|authtoken)"
    r"|requirepass|masterauth|primaryauth",
    re.IGNORECASE,
)
_SLASHED = re.compile(r"[/+][A-Za-z][\w-]{0,80}")  # /password VALUE
_LONG_OPTION = LazyPattern(r"--[A-Za-z]++(?:[-_.:][A-Za-z0-9]++|[0-9]{1,3}+(?![A-Za-z0-9]))*+(?:[=:].*)?", re.DOTALL)
# What a word processor or a terminal makes of the characters of an option.
_LOOKALIKES = str.maketrans("‐‑‒–—―−＝：\u00a0\u202f", "-------=:  ")
# Characters that are written as numbers: %3D of a URL, \\x3d of a unit, \\u003d of JSON, \\075 of a table of mounts.
_ESCAPED = re.compile(
    r"%(?P<url>[0-7][0-9A-Fa-f])|\\{1,8}(?:x(?P<x>[0-7][0-9A-Fa-f])|u00(?P<u>[0-7][0-9A-Fa-f])|(?P<octal>[01][0-7]{2})|(?P<blank>[ts]))"
)
_ESCAPED_RUN = re.compile(r"(?<!\S)[^\s%\\]*+[%\\]\S*+(?:(?<=[:=,])[ \t][^\n]*+)?")  # a name takes its value along
_ESCAPES_MOST = 3  # times that a text is escaped: a URL in a query of a URL
_SEPARATOR = LazyPattern(r"[\s\0]++|[,;&]\s*+")
# What the next part looks like, behind a separator: NAME=, NAME:, but no "aGVsbG8=" at the end of a line, and no "http://".
_NEXT_NAME = LazyPattern(r"-{0,2}[A-Za-z_][\w.-]*+(?:=(?![=\s])(?!$)|:(?!//))")
_NEXT_WORDS = LazyPattern(r"(?:[A-Za-z]++ ){1,3}[A-Za-z]++=")  # of ADO: "Password=a;User Id=b"
_NEXT_OPTION = LazyPattern(r"--[A-Za-z]|-[A-Za-z]{1,3}(?:[\s=]|$)")
_NEXT_QUOTE = LazyPattern(r"[\\\"'{}\[\])]")
_QUOTE_OPEN = LazyPattern(r"\$?(?P<quote>\\{0,8}[\"'])")
_QUOTE_TAIL = LazyPattern(r"[^\s,;&)}\]]*+")  # of "a"b, in which b belongs to the value
_QUOTE_NEXT = LazyPattern(r"[^\s,;&)}\]\"'\\]*+\$?(?P<quote>\\{0,8}[\"'])")  # ... and of "a"'b c'
_ACCOUNT_STOPS = LazyPattern(r"[\s\"'&\0,;]")
_WORD_STOPS = LazyPattern(r"[\s\0\"']")
_BRACKETS = LazyPattern(r"[\[\]{}()]|\\{0,8}[\"']")
_LINE_STOPS = LazyPattern(r"[\n\0]")
_HEAD = LazyPattern(r"[ \t]*+(?:-{0,2}[A-Za-z_][\w.-]*+=)?")
_HEAD_MOST = 128  # characters before a name that are looked at
_PEEK = 160  # characters of an account's name and password


def hide_secrets(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments with each secret replaced by ***: ("--api-key", "abc") -> ("--api-key", "***"). As many as before."""
    if not all(map(str.isascii, argv)):
        plain = tuple(word.translate(_LOOKALIKES) for word in argv)
        shown_plain = _hide_words(plain)
        return tuple(
            word if shown == as_ascii else shown for word, as_ascii, shown in zip(argv, plain, shown_plain, strict=True)
        )
    return _hide_words(argv)


def _hide_words(argv: tuple[str, ...]) -> tuple[str, ...]:
    shown: list[str] = []
    option = ""  # whose values come now
    for word in hide_own_options(argv):
        if option and is_secret_name(option) and not _is_other_option(option, word):
            if word in ("=", ":", ":="):
                shown.append(word)
                continue
            hidden = hide_value(option, word)
            shown.append(hidden or word)
            if word.startswith("-"):  # it may have been an option after all, whose value is a secret
                option = _next_option(word, option)
            elif hidden is None and word.lower().rstrip().endswith(
                ("bearer", "basic", "token", "digest", "apikey", "negotiate")
            ):
                option = "--bearer"  # "Authorization: Bearer" that was split by a shell
            elif not (option.endswith(":") and is_header(option) and "://" not in word):  # a header that was split goes on
                option = option if is_key_name(option) else ""  # vllm takes several keys behind one --api-key
            continue
        hidden = hide_value(option, word) if option and not word.startswith("-") else None
        if hidden is not None:
            shown.append(hidden)
        else:
            shown.append(_cut(hide_random(hide_secrets_in(hide_account_word(word)), option)))
        option = _next_option(word, option)
    return tuple(shown)


def _is_other_option(option: str, word: str) -> bool:
    """Whether a word behind a secret's name is an option, not its value, which may begin with dashes too."""
    if not option.startswith("-") and not option.endswith((":", "=")) and word.startswith("-"):
        return True
    return word.startswith("--") and (word == "--" or _LONG_OPTION.fullmatch(word) is not None)


def _next_option(word: str, before: str) -> str:
    """The name whose value the next argument is; "" when that stands for itself. before: the option before this word."""
    if len(word) >= 1024:
        return ""
    if word.startswith("-") and "=" not in word.rstrip("="):
        return "" if is_switch(word) else word
    if word.lower().endswith(("bearer", "basic")):
        return "--bearer"
    is_name = (
        word.endswith((":", "="))
        or (not before and _BARE_NAME.fullmatch(word) is not None)
        or (before.startswith("-") and words_of(before)[-1:] in (["header"], ["headers"], ["h"]))
        or _SLASHED.fullmatch(word) is not None
    )
    return word if is_name and is_secret_name(word) else ""


def hide_secrets_in(text: str) -> str:
    """A single argument, or any text: named values, known forms of tokens, user:password@, private keys."""
    if not text.isascii() and (plain := text.translate(_LOOKALIKES)) != text and (hidden := hide_secrets_in(plain)) != plain:
        return hidden
    text = _hide_in(text)
    return _ESCAPED_RUN.sub(_hide_escaped, text) if "%" in text or "\\" in text else text


def _hide_escaped(found: re.Match[str]) -> str:
    """A run without blanks, without what is a secret once its escaped characters are read; as it was when there is none."""
    plain = found[0]
    for _ in range(_ESCAPES_MOST):
        before, plain = plain, _ESCAPED.sub(_unescape, plain)
        if plain == before:
            break
        if (hidden := _hide_in(plain)) != plain:
            return hidden.replace(" ", "\\040") if "\\040" in found[0] else hidden  # of a table, whose columns blanks part
    return found[0]


def _unescape(found: re.Match[str]) -> str:
    if found["blank"] is not None:
        return " "
    digits, base = (found["octal"], 8) if found["octal"] is not None else (found["url"] or found["x"] or found["u"], 16)
    return chr(int(digits, base))


def _hide_in(text: str) -> str:
    text = hide_own_options_in(hide_forms(text))
    text = _hide_marked(_PAIR_MARK, text, _item_end)
    if "<" in text:
        text = _hide_marked(_TAG_MARK.compiled, text, _tag_end)
    if '"' in text or "'" in text:
        text = _hide_marked(_QUOTED_MARK, text, _quoted_end)
    if "=" in text or ":" in text or "->" in text:
        text = _hide_marked(_MARK, text, _value_end)
    if "-" in text:
        text = _hide_marked(_SPACED_MARK, text, _words_end)
    return _hide_marked(_SET_MARK, _hide_marked(_BARE_MARK, text, _words_end), _words_end)


def _hide_marked(mark: re.Pattern[str], text: str, end_of: Callable[[str, re.Match[str], int], int]) -> str:
    """The text with the value behind each mark of a secret name hidden.

    What is hidden is stepped over, and of what may stay only its beginning is looked at: so the work is linear.
    """
    parts: list[str] = []
    place = 0
    for found in mark.finditer(text):
        name = _name_of(found)
        if found.start() < place or not may_be_secret(name):
            continue
        peek = text[found.end() : found.end() + 16].lstrip("\"'\\ ")
        if is_place(name, peek):
            continue
        limit = len(text) if is_secret_name(name) else min(len(text), found.end() + _PEEK)
        end = end_of(text, found, limit)
        hidden = hide_value(name, text[found.end() : end])
        if hidden is not None and end == limit < len(text):  # an account, which goes on
            end = end_of(text, found, len(text))
        value = text[found.end() : end]
        if hidden is not None and hidden != value:
            parts += [text[place : found.end()], hidden]
            place = end
    return "".join([*parts, text[place:]]) if parts else text


def _name_of(found: re.Match[str]) -> str:
    return "password" if found.re is _BARE_MARK else found["name"]


def _tag_end(text: str, found: re.Match[str], limit: int) -> int:
    """Of the text of an element; where no tag closes it, <token> stands for a value."""
    end = text.find("<", found.end(), limit)
    return end if text.startswith("</", end) and end >= 0 else found.end()


def _item_end(text: str, found: re.Match[str], limit: int) -> int:
    return _part_end(text, found.end(), limit, in_line=True)


def _value_end(text: str, found: re.Match[str], limit: int) -> int:
    """Of a value behind NAME= or NAME:, which may have any character in it."""
    start, name = found.end(), found["name"]
    is_quoted = text[start : start + 1] in ('"', "'")
    if not is_secret_name(name) and not is_quoted and not _is_first(text, found.start()):  # an account's name and password
        stop = _ACCOUNT_STOPS.search(text, start, limit)
        return stop.start() if stop is not None else limit
    before = text[found.start() - 1 : found.start()]
    if before and before in "\"'":  # all of a quoted text: "X-Api-Key: a b"
        end = _find_quote(text, before, start, limit)
        if end == start:  # the name alone is quoted: "X-Api-Key: "a
            return _part_end(text, start + 1, limit)
        return end if end >= 0 else limit
    if _is_first(text, found.start()):
        return _line_end(text, start, limit)
    if is_header(name):
        stop = _LINE_STOPS.search(text, start, limit)
        return stop.start() if stop is not None else limit
    return _part_end(text, start, limit)


def _is_first(text: str, start: int) -> bool:
    """Whether a name begins a line, or an argument of the form NAME=NAME=VALUE: then the rest of it is the value."""
    head = text[max(0, start - _HEAD_MOST) : start]
    if "\n" not in head and start > _HEAD_MOST:
        return False
    return _HEAD.fullmatch(head.rpartition("\n")[2]) is not None


def _line_end(text: str, start: int, limit: int) -> int:
    """The end of the line, or of a later one: a key and the text of a block scalar of YAML have lines."""
    for stop in _LINE_STOPS.finditer(text, start, limit):
        if stop[0] == "\0" or _NEXT_NAME.match(text, stop.end(), limit) is not None:
            return stop.start()
    return limit


def _part_end(text: str, start: int, limit: int, *, in_line: bool = False) -> int:
    """Where the next part begins behind a blank, a comma, a semicolon or an ampersand; these alone may be of the value.

    in_line: the end of the line ends it too.
    """
    if (opened := _QUOTE_OPEN.match(text, start, limit)) is not None:
        return _quotes_end(text, opened, limit)
    if text[start : start + 1] in ("{", "["):
        start = _bracket_end(text, start, limit)
    for stop in _SEPARATOR.finditer(text, start, limit):
        end = stop.end()
        is_next = (
            end == limit
            or "\0" in stop[0]
            or (in_line and "\n" in stop[0])
            or _NEXT_NAME.match(text, end, limit) is not None
        )
        if stop[0][0] in ",;&":
            is_next = is_next or _NEXT_QUOTE.match(text, end, limit) is not None
            is_next = is_next or (stop[0][0] == ";" and _NEXT_WORDS.match(text, end, limit) is not None)
        else:
            is_next = is_next or _NEXT_OPTION.match(text, end, limit) is not None
        if is_next:
            return stop.start()
    return limit


def _words_end(text: str, found: re.Match[str], limit: int) -> int:
    """Of a value behind a blank: a word that is no secret, else all words up to the next option or name."""
    start = found.end()
    if _QUOTE_OPEN.match(text, start, limit) is None:
        stop = _WORD_STOPS.search(text, start, limit)
        end = stop.start() if stop is not None else limit
        if is_plain(_name_of(found), text[start:end]) or not is_secret_name(_name_of(found)):
            return end
    return _part_end(text, start, limit, in_line=True)


def _quoted_end(text: str, found: re.Match[str], limit: int) -> int:
    """Of a value of JSON or of Python's repr: to the quote or bracket that closes it."""
    start = found.end()
    quote = found["quote"]
    if text.startswith(quote, start):
        end = _find_quote(text, quote, start + len(quote), limit)
        return end + len(quote) if end >= 0 else limit
    if text[start : start + 1] in ("{", "[", "("):
        return _bracket_end(text, start, limit)
    if text.startswith(HIDDEN, start) and text[start + len(HIDDEN) : start + len(HIDDEN) + 1] in ("", ",", "}", "]"):
        return start + len(HIDDEN)
    if not is_secret_name(found["name"]):
        stop = _ACCOUNT_STOPS.search(text, start, limit)
        return stop.start() if stop is not None else limit
    return _part_end(text, start, limit)


def _find_quote(text: str, quote: str, start: int, limit: int) -> int:
    """The next quote that is not escaped; -1 when there is none."""
    while (end := text.find(quote, start, limit)) >= 0:
        if text[end - 1 : end] != "\\":
            return end
        start = end + len(quote)
    return -1


def _quotes_end(text: str, opened: re.Match[str], limit: int) -> int:
    """The end of a quoted value and of what is written on to it: "a"b'c d'."""
    while True:
        end = _find_quote(text, opened["quote"], opened.end(), limit)
        if end < 0:
            return limit
        end += len(opened["quote"])
        following = _QUOTE_NEXT.match(text, end, limit)
        if following is None or _find_quote(text, following["quote"], following.end(), limit) < 0:
            tail = _QUOTE_TAIL.match(text, end, limit)
            return tail.end() if tail is not None else end
        opened = following


def _bracket_end(text: str, start: int, limit: int) -> int:
    """Behind the bracket that closes the one at start; one that stands in quotes closes nothing."""
    depth = 0
    place = start
    while (found := _BRACKETS.search(text, place, limit)) is not None:
        place = found.end()
        if found[0][-1] in "\"'":
            end = _find_quote(text, found[0], place, limit)
            if end < 0:
                return limit
            place = end + len(found[0])
            continue
        depth += 1 if found[0] in "[{(" else -1
        if depth == 0:
            return place
    return limit


def _cut(word: str) -> str:
    return word if len(word) <= WORD_MOST else f"{word[:WORD_MOST]}…"
