"""The strict loader of knobs/*.toml: every row as a `Knob`, or every problem of every file at once.

What strict.py cannot see is checked here: ids that appear twice, also across files; rows without a source or without a way
to judge them; wanted values that mean nothing in their own unit; links to rows that are not there. Whether the names of
conditions, formulas and facts exist is told by a test, since the catalog must not know plan/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import build_row, parse_table, read_data, schema_problems
from bedplate.errors import DataError
from bedplate.model.knob import Check, Grade, Knob, Recommendation
from bedplate.model.knob_value import NUMERIC, Compare, Parse, parse_value

_HERE = Path(__file__).parent
_ID = re.compile(r"[a-z]{2,8}\.[a-z0-9_-]{2,40}")
_SOURCE = re.compile(r"S\d+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("want", "target", "old", "path", "name", "text", "id")
_BARE = (Compare.ABSENT, Compare.REPORT)

# sysctl.d(5): where settings for the next boot stand. A setting that the running kernel does not have is dead.
SYSCTL_FILES = (
    "/etc/sysctl.conf",
    "/etc/sysctl.d/*.conf",
    "/run/sysctl.d/*.conf",
    "/usr/local/lib/sysctl.d/*.conf",
    "/usr/lib/sysctl.d/*.conf",
)


def read_knobs(directory: Path = _HERE / "knobs", sources: Path = _HERE / "sources.toml") -> tuple[Knob, ...]:
    """All rows, sorted by file and in the order of each. Raises DataError with all problems of all files, ReadError when a
    file cannot be read."""
    texts = {path.name: read_data(path) for path in sorted(directory.glob("*.toml"))}
    return parse_knobs(texts, parse_sources(read_data(sources), name=sources.name))


def knob_paths(knobs: Iterable[Knob]) -> tuple[str, ...]:
    """Paths and globs that the rows are judged by, sorted, each once: what host/ has to read for HostFacts.knobs."""
    paths = {path for knob in knobs for check in knob.check for path in check.paths}
    return tuple(sorted(paths | set(SYSCTL_FILES)))


def knob_configs(knobs: Iterable[Knob]) -> tuple[str, ...]:
    """Options of the kernel's configuration that the rows ask about, sorted: for KernelFacts.config."""
    return tuple(sorted({check.config for knob in knobs for check in knob.check if check.config}))


def parse_sources(text: str, *, name: str) -> dict[str, str]:
    """Title by id, "S17": "...". Raises DataError."""
    table = parse_table(text, name=name)
    problems = schema_problems(table.pop("schema", None), f"{name}:")
    for key, title in table.items():
        if not _SOURCE.fullmatch(key) or not isinstance(title, str) or not title:
            problems.append(f'{name}:{key}: expected S1, S2, ... = "title"')
    if problems:
        raise DataError(problems)
    return table


def parse_knobs(texts: dict[str, str], sources: dict[str, str]) -> tuple[Knob, ...]:
    """Rows of several files, text by file name; ids of sources become their titles. Raises DataError with all problems."""
    problems: list[str] = []
    rows: list[tuple[str, Knob]] = []
    for file, text in texts.items():
        try:
            table = parse_table(text, name=file)
        except DataError as error:
            problems += error.problems
            continue
        rows += _rows(table, file, sources, problems)
    ids = {knob.id for _, knob in rows}
    seen: dict[str, str] = {}
    for where, knob in rows:
        problems += [f"{where}.{text}" for text in _problems(knob, ids)]
        if knob.id in seen:
            problems.append(f"{where}.id: appears also as {seen[knob.id]}")
        seen.setdefault(knob.id, where)
    if problems:
        raise DataError(problems, hint="Correct the rows; their keys are the fields of Knob and Check in model/knob.py.")
    return tuple(knob for _, knob in rows)


def _titled(source: object, titles: dict[str, str]) -> object:
    """ "S17" with its title; what is no such id stays as it is, and is judged later."""
    return f"{source}: {titles[source]}" if isinstance(source, str) and source in titles else source


def _rows(table: dict[str, Any], file: str, sources: dict[str, str], problems: list[str]) -> Iterator[tuple[str, Knob]]:
    """(file:id, row) of each row whose shape is right."""
    problems += schema_problems(table.get("schema"), f"{file}:")
    problems += [f"{file}:{key}: unknown key; known keys: schema, knob" for key in table if key not in ("schema", "knob")]
    listed = table.get("knob", [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        problems.append(f"{file}:knob: expected [[knob]] tables")
        return
    for index, row in enumerate(listed):
        where = f"{file}:{row['id']}" if isinstance(row.get("id"), str) else f"{file}:knob[{index}]"
        if isinstance(row.get("sources"), list):
            row["sources"] = [_titled(source, sources) for source in row["sources"]]
        knob = build_row(row, Knob, where=where, problems=problems)
        if knob is not None:
            yield where, knob


def _problems(knob: Knob, ids: set[str]) -> Iterator[str]:
    """What is wrong with a row of the right shape, each as "key: text"."""
    if not _ID.fullmatch(knob.id):
        yield f"id: got {knob.id!r}, expected group.name in lower case"
    for key in ("name", "problem", "why", "wanted", "evidence", "verdict_note", "reversible"):
        if not str(getattr(knob, key)).strip():
            yield f"{key}: is empty"
    if not knob.interface:
        yield "interface: is empty"
    if not knob.sources and knob.grade is not Grade.N:
        yield f"sources: missing; only grade N (no evidence found) may have none, this is {knob.grade}"
    for source in knob.sources:
        if _SOURCE.fullmatch(source):
            yield f"sources: {source} is not in sources.toml"
    if knob.effect_percent is not None and not knob.effect:
        yield "effect: missing; effect_percent needs the published number in words"
    judged = bool(knob.check) + bool(knob.not_evaluable)
    if judged == 2:
        yield "not_evaluable: the row has checks too"
    if judged == 0 and not knob.knob:
        yield "check: missing; say not_evaluable and why when facts cannot decide it"
    for key, links in (("knob", (knob.knob,) if knob.knob else ()), ("conflicts", knob.conflicts)):
        for link in links:
            if link not in ids or link == knob.id:
                import difflib  # only a wrong row needs it

                near = difflib.get_close_matches(link, ids - {knob.id}, 1)
                yield f"{key}: {link!r} is no other row" + (f"; did you mean {near[0]!r}?" if near else "")
    if (
        knob.verdict in (Recommendation.CARGO_CULT, Recommendation.HARMFUL, Recommendation.REJECT, Recommendation.DEAD)
        and not knob.instead
    ):
        yield f"instead: missing; {knob.verdict} needs it"
    if knob.not_planned and knob.part is None:
        yield "part: missing; not_planned says why the part leaves the row alone"
    if knob.boot_flag and not re.fullmatch(r"[A-Za-z][\w.-]*=[01]", knob.boot_flag):
        yield f"boot_flag: got {knob.boot_flag!r}, expected a flag such as psi=1"
    if bool(knob.fix) != bool(knob.undo):
        yield "undo: fix and undo come together"
    for key, lines in (("fix", knob.fix), ("undo", knob.undo)):
        for line in lines:
            for found in _PLACEHOLDER.findall(line):
                if found not in _PLACEHOLDERS and not re.fullmatch(r"old:/[\w./-]+", found):
                    yield f"{key}: {{{found}}} is not one of {', '.join(_PLACEHOLDERS)}, old:/path"
    for index, check in enumerate(knob.check):
        yield from (f"check[{index}].{text}" for text in _check_problems(check))


def _check_problems(check: Check) -> Iterator[str]:
    readers = [bool(check.parameter), bool(check.config), bool(check.fact), bool(check.paths) and not check.fact]
    if sum(readers) != 1:
        yield "paths: exactly one of paths, parameter, config, fact; a fact may name paths it needs"
    for path in check.paths:
        if not path.startswith("/") or ".." in path.split("/") or "**" in path:
            yield f"paths: {path!r} is not an absolute path, with * within a name at most"
    wanted = len(check.want) + bool(check.formula)
    if check.compare in _BARE:
        if wanted:
            yield f"want: {check.compare} compares with nothing"
        return
    if check.formula and check.want:
        yield "formula: the check has want too"
    elif wanted == 0:
        yield f"want: missing; {check.compare} needs it or a formula"
    elif wanted > 1 and check.compare in (Compare.AT_LEAST, Compare.AT_MOST, Compare.EQUAL):
        yield f"want: {check.compare} takes one value, got {wanted}"
    if check.compare in (Compare.AT_LEAST, Compare.AT_MOST) and check.parse not in NUMERIC:
        yield f"compare: {check.compare} compares numbers, not {check.parse}"
    if (check.compare in (Compare.CONTAINS, Compare.NOT_CONTAINS)) != (check.parse is Parse.WORDS):
        yield f"compare: only contains and not-contains compare words; got {check.compare} of {check.parse}"
    # A count of CPUs is wanted as a number, not as a list.
    how = Parse.NUMBER if check.parse in (Parse.CPU_COUNT, Parse.LAST_NUMBER) else check.parse
    for text in check.want:
        try:
            parse_value(text, how)
        except ValueError as error:
            yield f"want: {error}"
