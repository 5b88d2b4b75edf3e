"""Tables and JSON of `dcgmi`: tests of a diagnostic and watches of the health monitor that did not pass; its list of GPUs.

What passed or was skipped is not kept. Sources: NVIDIA DCGM documentation, dcgmi diag, dcgmi health, dcgmi discovery.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import parse_address
from bedplate.host.root.jsontext import parse_json
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Unknown, known
from bedplate.model.facts.system import FailureKind, ToolFailure

BEGINS = re.compile(
    r"\| Diagnostic {1,60}\| Result\b|Successfully ran diagnostic for group|\|? ?Health Monitor Report\b"
    r"|\d{1,3} GPUs? found\.$|\| GPU ID {0,8}\| Device Information"
)
CONTINUES = re.compile(r"[+|]")
IS_DCGM = re.compile(r'"DCGM (?:GPU )?Diagnostic"')
_ROW = re.compile(r"\|([^|]{0,200})\|([^|]{0,400})\|\s{0,4}")
_STATUS = re.compile(r"(?:[\w ]{1,40} system: )?(Failure|Failed|Fail|Warning|Warn)\b")
_PASSED = re.compile(r"(?:Pass|Skip|Healthy)\b")
_SAYS = re.compile(r"(?:Warning|Error|Info)\b", re.IGNORECASE)
_VERSION = re.compile(r"\d{3,4}\.\d{1,4}(?:\.\d{1,4})?", re.ASCII)
_NUMBER = re.compile(r"(\d{1,3})$", re.ASCII)
_MOST = 256
_SHOWN = 300


def parse_dcgm(section: Section) -> HostFacts:
    """Failures and warnings of a table, each once, and the GPUs of a list. Raises ReadError where no row is of either."""
    rows = [
        (found[1].strip(" ->"), found[2].strip())
        for line in section.text.split("\n")
        if (found := _ROW.fullmatch(line.strip())) is not None
    ]
    if not rows:
        raise ReadError("the text of dcgmi holds no row of a table")
    source = "dcgmi health" if "Health" in section.text[:400] else "dcgmi diag"
    told = list(_not_passed(rows))
    detailed = {name for name, status, words in told if words != status}
    failures = [
        _failure(name, status, words, source) for name, status, words in told if words != status or name not in detailed
    ]
    facts = empty_facts(section.file)
    driver = next((right for left, right in rows if left == "Driver Version Detected" and _VERSION.fullmatch(right)), None)
    if driver is not None:
        facts = replace(facts, kernel=replace(facts.kernel, nvidia_version=known(driver, source, driver)))
    return replace(
        facts,
        failures=tuple(dict.fromkeys(failures[:_MOST])),
        accelerators=_listed(rows, section.file),
    )


def parse_dcgm_json(section: Section) -> HostFacts:
    """Failures and warnings of `dcgmi diag -j`. Raises ReadError for what is no such document."""
    failures = []
    for name, result in _results(parse_json(section.text, "the text of dcgmi")):
        status = str(result.get("status", ""))
        if (found := _STATUS.match(status)) is None:
            continue
        gpu = f", GPU {result['gpu_id']}" if isinstance(result.get("gpu_id"), str | int) else ""
        said = _words(result.get("warnings")) or _words(result.get("info"))
        failures.append(_failure(f"{name}{gpu}", found[1], f"{status} {said}".strip(), "dcgmi diag"))
    return replace(empty_facts(section.file), failures=tuple(dict.fromkeys(failures[:_MOST])))


def _failure(name: str, status: str, words: str, source: str) -> ToolFailure:
    kind = FailureKind.DIAGNOSTIC_FAILED if status.startswith("Fail") else FailureKind.DIAGNOSTIC_WARNED
    return ToolFailure(kind=kind, text=f"{name}: {words}"[:_SHOWN], source=source)


def _not_passed(rows: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """(test, status, its words) of each test that failed or warned; lines below it that say why are part of its words."""
    subject, name, status, words = "", "", "", ""
    for left, right in rows:
        goes_on = not left or _SAYS.match(left) is not None
        found = _STATUS.match(right)
        if goes_on and status and (found is None or ":" not in right[: found.end()]):
            words = f"{words} {right}".strip() if len(words) < _SHOWN else words
            continue
        if status and name:
            yield name, status, words
        status = ""
        if goes_on and found is None:
            continue
        if left and (found is None or _PASSED.match(right)):
            subject = left
        if found is not None and not left.startswith(("Overall", "Group")):
            name, status, words = left or subject, found[1], right
            subject = left or subject
    if status and name:
        yield name, status, words


def _results(document: object) -> Iterator[tuple[str, dict[str, object]]]:
    """(test, one of its results) wherever it stands: releases differ in what they put around the categories."""
    stack: list[tuple[str, object]] = [("", document)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, dict):
            own = value.get("name")
            name = own if isinstance(own, str) else name
            if "status" in value:
                yield name or "diagnostic", value
            stack.extend((name, inner) for inner in value.values() if isinstance(inner, dict | list))
        elif isinstance(value, list):
            stack.extend((name, inner) for inner in reversed(value))


def _words(value: object) -> str:
    """A text, the "warning", "info" or "error" of an object, or those of a list, behind each other."""
    entries = value[:8] if isinstance(value, list) else [value]
    texts = [
        entry.get("warning") or entry.get("info") or entry.get("error") if isinstance(entry, dict) else entry
        for entry in entries
    ]
    return " ".join(text for text in texts if isinstance(text, str))


def _listed(rows: list[tuple[str, str]], file: str) -> tuple[Accelerator, ...]:
    """The GPUs of `dcgmi discovery -l`, by the number that DCGM gives them."""
    found: dict[int, dict[str, str]] = {}
    current: dict[str, str] = {}
    for left, right in rows:
        key, colon, value = right.partition(":")
        if not colon:
            continue
        if key == "Name" and (number := _NUMBER.fullmatch(left)) is not None and len(found) < _MOST:
            current = found.setdefault(int(number[1]), {})
        if key in ("Name", "PCI Bus ID"):
            current.setdefault(key, value.strip())
    return tuple(
        make_accelerator(
            vendor="nvidia",
            index=index,
            name=values.get("Name", ""),
            address=parse_address(values.get("PCI Bus ID", "")),
            why=Unknown.NOT_RECORDED,
            source="dcgmi discovery",
        )
        for index, values in sorted(found.items())
    )
