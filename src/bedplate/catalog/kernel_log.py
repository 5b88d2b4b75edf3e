"""The strict loaders of what the catalog knows of the kernel's log: messages, and the codes of NVIDIA's drivers.

kernel_log.toml has a row for each message and the steps of each remedy. nvidia_xid.toml and nvidia_sxid.toml have a line for
each code; they are long, and only read where a log has such a code or a person asks for one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bedplate.catalog.strict import build_row, is_date, parse_table, read_data, read_toml, schema_problems
from bedplate.errors import DataError
from bedplate.model.facts.kernel_log import KernelEvent
from bedplate.model.kernel_log_row import CodeClass, CodeSource, DriverCode, KernelLogRow, Remedy, RemedySteps

_HERE = Path(__file__).parent
MESSAGES = _HERE / "kernel_log.toml"
CODES = {"xid": _HERE / "nvidia_xid.toml", "sxid": _HERE / "nvidia_sxid.toml"}
"""The file of each family of codes."""
_EXAMPLES = {
    "xid": "NVRM: Xid (PCI:0000:43:00): {code}, {text}",
    "sxid": "nvidia-nvswitch0: SXid (PCI:0000:05:00.0): {code}, {text}",
}
_TITLES = {"xid": "{{place}} {says} (Xid {code})", "sxid": "NVSwitch {{place}} {says} (SXid {code})"}
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_GROUPS = {"address", "origin", "port", "code", "subject", "process"}
_HINT = "Correct the rows; their keys are the fields of the classes in model/kernel_log_row.py."

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMessages:
    """kernel_log.toml: what messages are known, in the order in which they are tried, and what to do about them."""

    rows: tuple[KernelLogRow, ...]
    steps: tuple[RemedySteps, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFile:
    """nvidia_xid.toml or nvidia_sxid.toml as it is parsed; `schema` must be 1."""

    schema: int
    source: tuple[CodeSource, ...]
    kinds: tuple[CodeClass, ...]
    codes: tuple[DriverCode, ...]


@functools.cache
def read_kernel_messages(path: Path = MESSAGES) -> KernelMessages:
    """The messages that are known, without the codes. Raises DataError with all problems, ReadError without the file."""
    return parse_kernel_messages(read_data(path), name=path.name)


def parse_kernel_messages(text: str, *, name: str) -> KernelMessages:
    """Rows and steps of a text. Raises DataError with all problems: wrong keys, ids twice, a remedy without steps."""
    table = parse_table(text, name=name)
    problems: list[str] = []
    problems += schema_problems(table.get("schema"), f"{name}:")
    problems += [
        f"{name}:{key}: unknown key; known keys: schema, remedy, message"
        for key in table
        if key not in ("schema", "remedy", "message")
    ]
    steps = tuple(_tables(table, "remedy", RemedySteps, name, problems))
    rows = tuple(_tables(table, "message", KernelLogRow, name, problems))
    for missing in sorted(set(Remedy) - {step.id for step in steps}):
        problems.append(f"{name}:remedy: {missing} has no steps")
    problems += _row_problems(rows, name)
    if problems:
        raise DataError(problems, hint=_HINT)
    return KernelMessages(rows=rows, steps=steps)


@functools.cache
def read_codes(family: str, path: Path | None = None) -> tuple[KernelLogRow, ...]:
    """A row for each code of a family, "xid" or "sxid", by number. Raises DataError with all problems, ReadError."""
    file = read_toml(path or CODES[family], CodeFile)
    name = (path or CODES[family]).name
    problems = schema_problems(file.schema, f"{name}:")
    kinds = {kind.id: kind for kind in file.kinds}
    sources = {source.id: source for source in file.source}
    rows: list[KernelLogRow] = []
    for code in file.codes:
        if code.kind not in kinds or code.of not in sources:
            problems.append(f"{name}:{code.code}: the kind {code.kind!r} or the source {code.of!r} is not in the file")
            continue
        rows.append(_code_row(family, code, kinds[code.kind], sources[code.of]))
    problems += _row_problems(rows, name)
    if problems:
        raise DataError(problems, hint=_HINT)
    return tuple(sorted(rows, key=lambda row: int(row.id.rpartition("-")[2])))


def read_rows_for(events: Iterable[KernelEvent]) -> tuple[KernelLogRow, ...]:
    """The rows that explain these events: all messages, and the codes of those families that are among them.

    NVSwitches come before GPUs: an error of a switch is seen by the GPUs behind it, too.
    """
    families = {event.row for event in events if event.row in CODES}
    rows = read_kernel_messages().rows
    return (*(row for family in sorted(families) for row in read_codes(family)), *rows)


def find_kernel_row(name: str) -> KernelLogRow | None:
    """The row of a name as a person writes it: "xid-79", "Xid 79", "kernel.aer-fatal"; None for one that no row has.

    A number that is in no row has the row of its family, which says what an unknown code is.
    """
    wanted = re.sub(r"[\s_]+", "-", name.strip().lower().removeprefix("kernel."))
    family, _, number = wanted.partition("-")
    if family in CODES and number:
        known = next((row for row in read_codes(family) if row.id == wanted), None)
        if known is not None or not number.isdecimal():
            return known
        wanted = family
    return next((row for row in read_kernel_messages().rows if row.id == wanted), None)


def _code_row(family: str, code: DriverCode, kind: CodeClass, source: CodeSource) -> KernelLogRow:
    label = {"xid": "Xid", "sxid": "SXid"}[family]
    note = f" {code.note}" if code.note else ""
    return KernelLogRow(
        id=f"{family}-{code.code}",
        title=_TITLES[family].format(says=code.says, code=code.code),
        means=f"{label} {code.code}, {code.name}: the device {code.says}.{note}",
        harm=kind.harm,
        fault=kind.fault,
        remedy=kind.remedy,
        severity=code.severity or kind.severity,
        examples=(_EXAMPLES[family].format(code=code.code, text=code.text),),
        source=source.title,
        read=source.read,
        nonfatal_severity=kind.nonfatal_severity,
        said=kind.said,
        causes=kind.causes,
        before_s=kind.before_s,
        after_s=kind.after_s,
        anywhere=kind.anywhere,
        fix=kind.fix,
        fix_in_vm=kind.fix_in_vm,
    )


def _tables(table: dict[str, Any], key: str, cls: type[T], name: str, problems: list[str]) -> Iterator[T]:
    listed = table.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        problems.append(f"{name}:{key}: expected [[{key}]] tables")
        return
    for index, row in enumerate(listed):
        built = build_row(row, cls, where=f"{name}:{row.get('id', f'{key}[{index}]')}", problems=problems)
        if built is not None:
            yield built


def _row_problems(rows: Iterable[KernelLogRow], name: str) -> Iterator[str]:
    seen: set[str] = set()
    for row in rows:
        where = f"{name}:{row.id}"
        if row.id in seen:
            yield f"{where}.id: appears twice"
        seen.add(row.id)
        if not _ID.fullmatch(row.id):
            yield f"{where}.id: got {row.id!r}, expected words of small letters and digits, joined by hyphens"
        for key in ("title", "means", "harm", "source"):
            if not str(getattr(row, key)).strip():
                yield f"{where}.{key}: is empty"
        if row.title.endswith("."):
            yield f"{where}.title: ends with a full stop"
        if not row.examples:
            yield f"{where}.examples: missing; which message is it?"
        if not is_date(row.read):
            yield f"{where}.read: got {row.read!r}, expected a date such as 2026-11-30"
        if bool(row.many) != (row.many_severity is not None):
            yield f"{where}.many: a number needs many_severity, and the reverse"
        yield from (f"{where}.pattern: {text}" for text in _pattern_problems(row.pattern))


def _pattern_problems(pattern: str) -> Iterator[str]:
    """What can be told without compiling it, which costs more than all else here; a test compiles every one."""
    for group in re.findall(r"\(\?P<(\w+)>", pattern):
        if group not in _GROUPS:
            yield f"has the group {group!r}, expected one of {', '.join(sorted(_GROUPS))}"
    if pattern.startswith("^") or "(?i" in pattern:
        yield "is matched from the beginning and by case; leave ^ and (?i) out"
