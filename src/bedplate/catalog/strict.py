"""The strict loader of data files: a TOML table becomes a frozen dataclass, or every problem of the file is told at once.

Unknown keys (with the nearest right one), missing keys and values of the wrong type are each one line `file:key: text`.
A dataclass field may be str, bool, int, float, a tuple of them, another such dataclass, a tuple of dataclasses, or any
of these `| None`. A StrEnum field takes one of its values.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import re
import stat
import tomllib
import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from bedplate.errors import DataError, ReadError

T = TypeVar("T")
# int() bounds decimal digits alone; of other bases come numbers that no message can print (int_max_str_digits).
_LONG_NUMBER = re.compile(r"0[xob][0-9a-fA-F_]{60}")
# tomllib takes time and memory by the square of the parts of a dotted key: 200 KB of them take minutes.
_LONG_KEY = re.compile(r"""(?m)^[ \t]*+\[{0,2}+(?:[ \t]*+(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.){32}""")
_LONG_INNER_KEY = re.compile(r"""[{,][ \t]*+(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
_MOST_BYTES = 4 << 20  # the longest of ours has 60 KB
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_data(path: Path) -> str:
    """The text of a data file. Raises ReadError when it cannot be read, is not UTF-8, or has more than 4 MiB."""
    try:
        with path.open("rb") as file:
            return _read_text(path, file)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror or error}") from error


def _read_text(path: Path, file: BinaryIO) -> str:
    try:
        content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ReadError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB, too large for a data file")
        return content.decode()
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error


def read_regular(path: Path) -> str:
    """The text of a data file that must be a regular file, wherever links lead: a pipe would be waited for without an end.

    Raises ReadError as `read_data` does, and for everything else that a name can be.
    """
    try:
        _refuse_other_kind(path, path.stat().st_mode)  # opening a device can act on it, and a socket cannot be opened
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            _refuse_other_kind(path, os.fstat(file.fileno()).st_mode)
            return _read_text(path, file)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror or error}") from error


def _refuse_other_kind(path: Path, mode: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind != stat.S_IFREG:
        raise ReadError(
            f"{path}: is {_KINDS.get(kind, 'no file')}, expected a regular file", hint=f"Remove it from {path.parent}."
        )


def read_toml(path: Path, cls: type[T], *, reference: str = "") -> T:
    """The file as a `cls`. Raises ReadError when it cannot be read, DataError with all of its problems otherwise."""
    return parse_toml(read_data(path), cls, name=path.name, reference=reference)


def parse_toml(text: str, cls: type[T], *, name: str, reference: str = "") -> T:
    """The text as a `cls`; name stands for the file in messages, reference is the page that lists its keys, "" for none.

    Raises DataError with all of its problems.
    """
    return build_file(parse_table(text, name=name), cls, name=name, reference=reference)


def build_file(table: dict[str, Any], cls: type[T], *, name: str, reference: str = "") -> T:
    """The whole table of a file as a `cls`, as `parse_toml` makes it of a text. Raises DataError with all problems."""
    problems: list[str] = []
    value = _build(table, cls, name + ":", problems)
    if problems:
        where = f"; the keys are listed in {reference}" if reference else ""
        raise DataError(problems, hint=f"Correct {name}{where}.")
    return typing.cast(T, value)


def schema_problems(got: object, where: str = "") -> list[str]:
    """What is wrong with the key `schema` of a file, the version of its form; [] for 1, which all of them have.

    where stands before the key: "wish.toml:".
    """
    return [] if type(got) is int and got == 1 else [f"{where}schema: got {got!r}, expected 1"]


def unprintable_problems(value: object, name: str) -> list[str]:
    """The texts and keys of a table that cannot stand in one line of a message, such as those with line ends or escapes."""
    return [
        f"{name}: got the text {text[:60]!r}, expected one without control characters"
        for text in _texts(value)
        if not text.isprintable()
    ]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from _texts(entry)


def parse_table(text: str, *, name: str) -> dict[str, Any]:
    """The text as tomllib reads it, for loaders that build their rows one by one. Raises DataError when it is not TOML."""
    if _LONG_KEY.search(text) is not None or _LONG_INNER_KEY.search(text) is not None:
        raise DataError([f"{name}: not TOML that can be read: a key has 32 dots or more"])
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError([f"{name}: not TOML: {error}"]) from error
    except RecursionError as error:
        raise DataError([f"{name}: not TOML that can be read: it is nested too deeply"]) from error
    except ValueError as error:  # of int(), past 4300 digits
        raise DataError([f"{name}: not TOML that can be read: it has a number of too many digits"]) from error
    if _LONG_NUMBER.search(text) is not None and _has_long_number(table):
        raise DataError([f"{name}: not TOML that can be read: it has a number of too many digits"])
    return table


def _has_long_number(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_long_number, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and value.bit_length() > 256


def build_row(table: dict[str, Any], cls: type[T], *, where: str, problems: list[str]) -> T | None:
    """One table as a `cls`, or None and what is wrong with it added to problems, each as `where.key: text`."""
    own: list[str] = []
    value = _build(table, cls, where + ".", own)
    problems += own
    return None if own else typing.cast(T, value)


@functools.cache
def _shape(cls: type) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Types and fields of a dataclass; resolving the types of a hundred rows one by one costs more than reading them."""
    return typing.get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls)}


def _build(table: dict[str, Any], cls: type, where: str, problems: list[str]) -> object:
    hints, fields = _shape(cls)
    for key in table:
        if key not in fields:
            import difflib  # only a wrong file needs it

            near = difflib.get_close_matches(key, fields, 1)
            help_text = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            shown = key if key.isprintable() else repr(key)
            problems.append(f"{where}{shown}: unknown key; {help_text}")
    values: dict[str, object] = {}
    for key, field in fields.items():
        if key in table:
            values[key] = _convert(table[key], hints[key], f"{where}{key}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{where}{key}: missing")
    return None if problems else cls(**values)


def _convert(value: Any, hint: Any, where: str, problems: list[str]) -> object:
    if type(value) is hint:  # nearly all values of the large files: half of the time of loading them
        return value
    hint, item = _without_none(hint)
    if item is not None:
        if not isinstance(value, list):
            problems.append(f"{where}: got {_kind(value)}, expected a list")
            return ()
        if all(type(entry) is item for entry in value):
            return tuple(value)
        return tuple(_convert(entry, item, f"{where}[{index}]", problems) for index, entry in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            problems.append(f"{where}: got {_kind(value)}, expected a table")
            return None
        return _build(value, typing.cast(type, hint), where + ".", problems)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(value)
        except ValueError:
            problems.append(f"{where}: got {_shown(value)}, expected one of {', '.join(hint)}")
            return None
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        problems.append(f"{where}: got {_kind(value)} {_shown(value)}, expected {hint.__name__}")
    return value


@functools.cache
def _without_none(hint: Any) -> tuple[Any, Any]:
    """(type without `| None`, type of the items); the items are None where it is no tuple."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
    return hint, typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None


def _shown(value: object) -> str:
    """What was got, as far as a message can hold it."""
    text = repr(value) if not isinstance(value, dict | list) else "with several values"
    return text if len(text) <= 200 else text[:200] + "..."


def _kind(value: object) -> str:
    return {"str": "text", "dict": "a table", "list": "a list", "bool": "a boolean"}.get(
        type(value).__name__, type(value).__name__
    )


def is_date(text: str) -> bool:
    """Whether it is a day of the calendar as rows write it: "2026-11-30", and no other form of ISO 8601."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
