"""A bundle of rows: one TOML file with rows of any kind, a head that names and dates it, and a signature in its last line.

    schema = 1

    [bundle]
    name = "acme"
    sequence = 12
    date = "2026-11-30"

    [[device]] ...

    # signature: ed25519 PUBLIC-KEY SIGNATURE

The signature is of all bytes before its line, so that the file is verified before it is parsed. There is nothing else in it:
no archive, no path, no compression. Who may sign bundles of a name says /etc/bedplate/catalog.keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from bedplate.catalog.drop_ins import ROW_TABLES, RowFile
from bedplate.catalog.strict import build_row, is_date, parse_table, schema_problems, unprintable_problems
from bedplate.errors import DataError, ReadError
from bedplate.model.bundle import CatalogBundle, RowChange

REFERENCE = "docs/how-to/bundles.md"
MOST_SEQUENCE = 1 << 53
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SIGNATURE = re.compile(r"# signature: ed25519 ([A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{86}==)")
_MARK = "# signature:"
_HINT = f"Get the file again from whoever publishes it; {REFERENCE} says what it holds."


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleHead:
    """The `[bundle]` table of a bundle."""

    name: str
    """Lower-case letters, digits and "-"; the bundle replaces the one of its name that is in force."""
    sequence: int
    """A number that rises with each bundle of the name."""
    date: str
    """Day of publication, 2026-11-30; not before that of the bundle it replaces."""
    note: str = ""
    """What it brings, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedText:
    """A bundle that was taken apart and not yet verified."""

    content: str
    """What is signed: all lines but the last."""
    public: bytes
    """The key that says it signed, 32 bytes."""
    signature: bytes
    """64 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """A bundle as it is parsed: its head, and its rows by the name of their table."""

    head: BundleHead
    tables: Mapping[str, list[dict[str, Any]]]

    @property
    def rows(self) -> int:
        """Rows of all tables; a table that stands for several releases is one."""
        return sum(map(len, self.tables.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One line of catalog.keys: a key that may sign bundles of a name."""

    name: str
    public: bytes


def is_bundle_name(text: str) -> bool:
    """Whether this can be the name of a bundle, and so of a file: lower-case letters, digits and "-", at most 40."""
    return _NAME.fullmatch(text) is not None


def split_signature(text: str, *, name: str, hint: str = _HINT) -> SignedText:
    """Take the last line off. Raises ReadError for a text without a signature in its last line, or with a damaged one."""
    content, _, last = text.removesuffix("\n").rpartition("\n")
    found = _SIGNATURE.fullmatch(last) if text.endswith("\n") else None
    if found is not None:
        signed = SignedText(content=f"{content}\n", public=base64.b64decode(found[1]), signature=base64.b64decode(found[2]))
        if text == signed.content + render_signature(signed.public, signed.signature):  # base64 has one form of them
            return signed
    problem = "its signature is damaged" if last.startswith(_MARK) else "is not signed: its last line has no signature"
    raise ReadError(f"{name}: {problem}", hint=hint)


def render_signature(public: bytes, signature: bytes) -> str:
    """The last line of a bundle, with its line end."""
    return f"{_MARK} ed25519 {render_key(public)} {base64.b64encode(signature).decode()}\n"


def render_key(public: bytes) -> str:
    """A public key as catalog.keys and the last line of a bundle have it: 44 characters of base64."""
    return base64.b64encode(public).decode()


def parse_bundle(text: str, *, name: str, hint: str = _HINT) -> BundleContent:
    """Head and rows of a bundle, signed or not. Raises DataError with every problem of its form, and `hint`.

    What the rows say is for their loaders, which know all the others. The hint is for whoever received the bundle, unless
    its publisher asks.
    """
    try:
        table = parse_table(text, name=name)
    except DataError as error:
        raise DataError(error.problems, hint=hint) from error
    problems = schema_problems(table.pop("schema", None), f"{name}:") + unprintable_problems(table, name)
    problems += _unprintable_lines(text, name)
    given = table.pop("bundle", None)
    head = build_row(given, BundleHead, where=f"{name}:bundle", problems=problems) if isinstance(given, dict) else None
    if not isinstance(given, dict):
        problems.append(f"{name}:bundle: expected a table [bundle] with name, sequence and date")
    if head is not None:
        problems += [f"{name}:bundle.{problem}" for problem in _head_problems(head)]
    known = [kind for kinds in ROW_TABLES.values() for kind in kinds]
    for key, rows in table.items():
        if key not in known:
            problems.append(f"{name}:{key}: unknown key; known keys: schema, bundle, {', '.join(known)}")
        elif not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            problems.append(f"{name}:{key}: expected [[{key}]] tables")
    if not table:
        problems.append(f"{name}: has no rows")
    if problems or head is None:
        raise DataError(problems, hint=hint)
    return BundleContent(head=head, tables=table)


def _unprintable_lines(text: str, name: str) -> list[str]:
    """Lines with characters that no line of a message can show, also in comments, where TOML allows some; the first ten."""
    lines = text.split("\n")
    found = [number for number, line in enumerate(lines) if not line.replace("\t", " ").isprintable()]
    if found and all(lines[number].endswith("\r") and lines[number][:-1].isprintable() for number in found):
        return [f"{name}: line {found[0] + 1} and {len(found) - 1} more end with CR LF, expected LF alone"]
    problems = [
        f"{name}: line {number + 1} has a character that cannot be printed: {lines[number][:60]!r}" for number in found
    ]
    return [*problems[:10], *([f"{name}: {len(found) - 10} more lines have such characters"] if len(found) > 10 else [])]


def _head_problems(head: BundleHead) -> Iterator[str]:
    if not is_bundle_name(head.name):
        yield f"name: got {head.name[:80]!r}, expected at most 40 lower-case letters, digits and '-'"
    if not 1 <= head.sequence <= MOST_SEQUENCE:
        yield f"sequence: got {head.sequence}, expected 1 to {MOST_SEQUENCE}"
    if not is_date(head.date):
        yield f"date: got {head.date[:80]!r}, expected a date such as 2026-11-30"


def identify_bundle(content: BundleContent, text: str) -> CatalogBundle:
    """What a lock names of a bundle; `text` is the whole file."""
    head = content.head
    return CatalogBundle(
        name=head.name, sequence=head.sequence, date=head.date, sha256=hashlib.sha256(text.encode()).hexdigest()
    )


def identify_bundles(files: Iterable[RowFile], *, stored: bool) -> tuple[CatalogBundle, ...]:
    """What a lock names of these bundles. Raises DataError; for stored ones also where a file has not the bundle's name."""
    found: list[CatalogBundle] = []
    problems: list[str] = []
    for file in files:
        try:
            bundle = identify_bundle(parse_bundle(file.text, name=file.name), file.text)
        except DataError as error:
            problems += error.problems
            continue
        if stored and PurePath(file.name).stem != bundle.name:
            problems.append(f"{file.name}: is the bundle {bundle.name}, expected the name {bundle.name}.toml")
        found.append(bundle)
    if problems:
        raise DataError(problems, hint=f"Import the bundle again, or remove the file; {REFERENCE} says how.")
    return tuple(found)


def compare_rows(old: BundleContent | None, new: BundleContent | None) -> tuple[RowChange, ...]:
    """What becomes of each row, those that stay as they are left out; None for a bundle that is not there."""
    before, after = _label_rows(old), _label_rows(new)
    changes: list[RowChange] = []
    for table, label, number in dict.fromkeys([*after, *before]):
        key = (table, label, number)
        if before.get(key) != after.get(key):
            what = "added" if key not in before else "removed" if key not in after else "changed"
            changes.append(RowChange(what=what, table=table, row=label))
    return tuple(changes)


def _label_rows(content: BundleContent | None) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Each row by its table, its name and a number, since several tables of releases can have one name."""
    seen: Counter[tuple[str, str]] = Counter()
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for table, listed in content.tables.items() if content is not None else ():
        for row in listed:
            label = _label(row)
            seen[table, label] += 1
            rows[table, label, seen[table, label]] = row
    return rows


def _label(row: dict[str, Any]) -> str:
    """The id of a row; of releases component, versions and sources; of a maker its number."""
    if "id" in row:
        return str(row["id"])
    if "vendor" in row:
        return f"{row['vendor']:#06x}" if isinstance(row["vendor"], int) else str(row["vendor"])
    parts: list[str] = []
    for key in ("component", "version", "versions", "follows", "sources"):
        value = row.get(key, ())
        parts += [value] if isinstance(value, str) else map(str, value if isinstance(value, list) else ())
    return " ".join(parts)


def parse_trusted_keys(text: str, *, name: str) -> tuple[TrustedKey, ...]:
    """Lines "acme ed25519 KEY", where KEY is 44 characters of base64; "#" begins a comment.

    Raises DataError with every problem.
    """
    keys: list[TrustedKey] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would end a comment at U+2028, which no editor shows
        words = line.partition("#")[0].split()
        if not words:
            continue
        public = _decode_key(words[2]) if len(words) == 3 and words[1] == "ed25519" else None
        if public is None or not is_bundle_name(words[0]):
            problems.append(f"{name}:{number}: got {line[:80]!r}, expected NAME ed25519 KEY, with a key of 44 characters")
            continue
        keys.append(TrustedKey(name=words[0], public=public))
    if problems:
        raise DataError(problems, hint=f"{REFERENCE} says what a line is.")
    return tuple(keys)


def has_signature(text: str) -> bool:
    """Whether the last line says that it is a signature, right or damaged."""
    return text.removesuffix("\n").rpartition("\n")[2].startswith(_MARK)


def _decode_key(text: str) -> bytes | None:
    try:
        public = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return public if len(public) == 32 and base64.b64encode(public).decode() == text else None
