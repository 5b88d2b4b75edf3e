"""A stack as text: the lock as the TOML file that it is kept in, an answer for a terminal, an explanation, a difference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bedplate.model.bundle import CatalogBundle
from bedplate.model.lock_digest import digest_lock
from bedplate.model.python_lock import PythonLock
from bedplate.model.stack import ChosenRelease, ReasonLink, StackConflict, StackLock, StackRecord, StackRelease
from bedplate.report.format import clean
from bedplate.report.terminal import Screen, prose

_HEAD = """\
# A stack, as `bedplate stack resolve` decided it. Each component says why it is this one; `bedplate stack why` says more.
"""


def render_lock(record: StackRecord) -> str:
    """The lock as TOML, the same text for the same record; catalog/stack_lock.py reads it back."""
    table = _lock_table(record)
    lines = [_HEAD + "schema = 1", f"sha256 = {_quoted(digest_lock(table))}"]
    lines += [f"date = {_quoted(record.date)}", f"catalogue = {_quoted(record.catalogue)}"]
    for name, texts in (("wish", record.wish), ("facts", record.lock.facts), ("cautions", record.lock.cautions)):
        lines += [f"{name} = [", *(f"  {_quoted(text)}," for text in texts), "]"] if texts else [f"{name} = []"]
    for name in ("bundle", "component"):
        for row in table.get(name, []):
            lines += ["", f"[[{name}]]", *(f"{key} = {_value(value)}" for key, value in row.items())]
    return "\n".join(lines) + "\n"


def _lock_table(record: StackRecord) -> dict[str, Any]:
    """The lock as TOML reads it back, without its digest; what is empty is left out."""
    table: dict[str, Any] = {
        "schema": 1,
        "date": record.date,
        "catalogue": record.catalogue,
        "wish": list(record.wish),
        "facts": list(record.lock.facts),
        "cautions": list(record.lock.cautions),
    }
    if record.bundles:
        table["bundle"] = [bundle_object(bundle) for bundle in record.bundles]
    table["component"] = [_choice_table(choice) for choice in record.lock.choices]
    return table


def _choice_table(choice: ChosenRelease) -> dict[str, Any]:
    release = choice.release
    texts = {
        "id": release.component,
        "layer": choice.layer,
        "version": release.version,
        "source": release.source,
        "licence": release.licence,
        "file": release.file,
        "sha256": release.sha256,
        "because": choice.because,
        "held_back": choice.held_back,
        "checked": release.checked.value,
        "date": release.date,
    }
    row: dict[str, Any] = {key: text for key, text in texts.items() if text}
    row["evidence"] = list(release.evidence)
    if release.properties:
        row["properties"] = {name: list(values) for name, values in release.properties.items()}
    return row


def bundle_object(bundle: CatalogBundle) -> dict[str, str | int]:
    """A bundle as a lock and `--json` have it."""
    return {"name": bundle.name, "sequence": bundle.sequence, "date": bundle.date, "sha256": bundle.sha256}


def _value(value: object) -> str:
    """A TOML value: text, a number, a list of texts, or a table of such lists in one line."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return _listed(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_listed(values)}" for name, values in value.items()) + " }"
    return str(value)


def _quoted(text: str) -> str:
    """A TOML basic string; what JSON escapes, TOML reads, and DEL, which JSON leaves, is escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _listed(texts: Iterable[str]) -> str:
    return "[" + ", ".join(_quoted(text) for text in texts) + "]"


def render_stack_text(record: StackRecord, screen: Screen, *, verbose: bool) -> str:
    """A line for each component below the layer that it is in, then why; with a line end after the last line."""
    lines: list[str] = []
    for layer in dict.fromkeys(choice.layer for choice in sorted(record.lock.choices, key=lambda choice: choice.layer)):
        lines += prose(screen, f"layer {layer}" if layer else "host", style="bold")
        for choice in record.lock.choices:
            if choice.layer == layer:
                lines += _choice_lines(choice, screen, verbose=verbose)
        lines.append("")
    for caution in record.lock.cautions:
        lines += prose(screen, f"caution: {caution}", rest="    ")
    bundles = "".join(f", the bundle {bundle.label} ({bundle.sha256[:12]}) among them" for bundle in record.bundles)
    lines += prose(screen, f"Made on {record.date} with the rows {record.catalogue[:12]}{bundles}.", style="dim")
    return "\n".join(lines) + "\n"


def _choice_lines(choice: ChosenRelease, screen: Screen, *, verbose: bool) -> list[str]:
    release = choice.release
    variant = f"{release.variant}, " if release.variant else ""
    lines = prose(screen, f"{release.component:<22} {release.version}  ({variant}{release.source})", first="  ", rest="    ")
    lines += prose(screen, f"why: {choice.because}", first="      ", rest="      ")
    if choice.held_back:
        lines += prose(screen, choice.held_back, first="      ", rest="      ")
    if verbose:
        lines += prose(screen, f"checked: {release.checked}, {release.date}", first="      ", rest="      ", style="dim")
        for text in release.evidence:
            lines += prose(screen, f"evidence: {text}", first="      ", rest="      ", style="dim")
        if release.sha256:
            lines += prose(screen, f"{release.file} sha256 {release.sha256}", first="      ", rest="      ", style="dim")
    return lines


def render_conflict_text(conflict: StackConflict, screen: Screen) -> str:
    """The chain, link by link with its evidence, then what is possible; with a line end after the last line."""
    lines = prose(screen, "This wish is not possible, because all of these hold:", style="bold")
    lines += list(_link_lines(conflict.chain, screen))
    if conflict.nearest:
        lines += ["", *prose(screen, "Possible, if one of these lines of the wish is given up:", style="bold")]
        for nearest in conflict.nearest:
            lines += prose(screen, f"{nearest.line}: possible {nearest.sentence}", first="  - ", rest="    ")
    else:
        lines += ["", *prose(screen, "No change of one or two lines of the wish makes it possible.")]
    return "\n".join(lines) + "\n"


def _link_lines(chain: Sequence[ReasonLink], screen: Screen) -> Iterator[str]:
    for number, link in enumerate(chain, 1):
        yield from prose(screen, link.sentence, first=f"{number:>3}. ", rest="     ")
        for text in link.evidence:
            yield from prose(screen, f"evidence: {text}", first="       ", rest="       ", style="dim")


def render_why_text(choices: Sequence[ChosenRelease], screen: Screen) -> str:
    """Why these components have their versions, with all evidence; with a line end after the last line."""
    lines: list[str] = []
    for choice in choices:
        if choice.layer:
            lines += prose(screen, f"layer {choice.layer}", style="bold")
        lines += _choice_lines(choice, screen, verbose=True)
    return "\n".join(lines) + "\n"


def render_difference(old: StackRecord, new: StackRecord) -> str:
    """A line for each component and bundle that differs, "" when none does: `kernel: 6.12.118 (...) -> 7.3.4 (...)`."""
    lines: list[str] = []
    for row in difference_objects(old, new):
        name = f"{row['component']} ({row['layer']})" if row["layer"] else row["component"]
        lines.append(f"{name}: {row['old']} -> {row['new']}")
    lines += [f"bundle {row['bundle']}: {row['old']} -> {row['new']}" for row in bundle_differences(old, new)]
    return "".join(f"{line}\n" for line in lines)


def difference_objects(old: StackRecord, new: StackRecord) -> list[dict[str, str]]:
    """Components that differ, as `--json` prints them: component, layer, old, new; "absent" for one that is not there."""
    before, after = _by_key(old.lock), _by_key(new.lock)
    rows = [
        {"component": key[0], "layer": key[1], "old": old, "new": new}
        for key in dict.fromkeys([*after, *before])
        for old, new in [_told_apart(before.get(key), after.get(key))]
    ]
    return [row for row in rows if row["old"] != row["new"]]


def bundle_differences(old: StackRecord, new: StackRecord) -> list[dict[str, str]]:
    """Bundles that only one lock was made with, or that are not the same, as `--json` prints them: bundle, old, new."""
    before, after = ({bundle.name: bundle for bundle in record.bundles} for record in (old, new))
    return [
        {"bundle": name, "old": _told_bundle(before.get(name)), "new": _told_bundle(after.get(name))}
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]


def _told_bundle(bundle: CatalogBundle | None) -> str:
    return f"{bundle.sequence} of {bundle.date} (sha256 {bundle.sha256[:12]})" if bundle is not None else "absent"


def _told_apart(old: StackRelease | None, new: StackRelease | None) -> tuple[str, str]:
    """Both as texts that differ where the releases do: of one version, the files or their digests may differ."""
    texts = _told(old), _told(new)
    if old is None or new is None or texts[0] != texts[1] or (old.file, old.sha256) == (new.file, new.sha256):
        return texts
    return f"{texts[0]}{_told_file(old)}", f"{texts[1]}{_told_file(new)}"


def _told_file(release: StackRelease) -> str:
    return f", {release.file or 'no file'} sha256 {release.sha256 or 'unknown'}"


def _by_key(lock: StackLock) -> dict[tuple[str, str], StackRelease]:
    return {(choice.release.component, choice.layer): choice.release for choice in lock.choices}


def _told(release: StackRelease | None) -> str:
    return release.artefact if release is not None else "absent"


def lock_object(record: StackRecord) -> dict[str, object]:
    """The lock as `--json` prints it; `possible` is true."""
    return {
        "possible": True,
        "date": record.date,
        "catalogue": record.catalogue,
        "bundles": [bundle_object(bundle) for bundle in record.bundles],
        "wish": list(record.wish),
        "components": [choice_object(choice) for choice in record.lock.choices],
        "facts": list(record.lock.facts),
        "cautions": list(record.lock.cautions),
    }


def choice_object(choice: ChosenRelease) -> dict[str, object]:
    """One component of a lock as `--json` prints it; `file` and `sha256` are "" where the artefact is not known."""
    release = choice.release
    return {
        "component": release.component,
        "layer": choice.layer,
        "version": release.version,
        "source": release.source,
        "properties": {name: list(values) for name, values in release.properties.items()},
        "licence": release.licence,
        "file": release.file,
        "sha256": release.sha256,
        "because": choice.because,
        "held_back": choice.held_back,
        "checked": release.checked.value,
        "date": release.date,
        "evidence": list(release.evidence),
    }


def render_python_lock(lock: PythonLock) -> str:
    """What uv answered for a layer, in a line or more; ends with a line end."""
    if lock.conflict:
        words = "".join(f"  {clean(line)}\n" for line in lock.conflict.splitlines())
        return f"layer {lock.layer}: uv finds no solution, so rows and registry disagree:\n{words}"
    return f"layer {lock.layer}: {lock.packages} Python packages locked with hashes\n"


def python_object(lock: PythonLock) -> dict[str, object]:
    """What uv answered for a layer as `--json` prints it; `conflict` is "" where uv agrees."""
    return {"layer": lock.layer, "packages": lock.packages, "conflict": lock.conflict}


def conflict_object(conflict: StackConflict) -> dict[str, object]:
    """The chain and the nearest wishes as `--json` prints them; `possible` is false."""
    return {
        "possible": False,
        "chain": [
            {"sentence": link.sentence, "fact": link.fact, "evidence": list(link.evidence)} for link in conflict.chain
        ],
        "nearest": [{"line": nearest.line, "possible": nearest.sentence} for nearest in conflict.nearest],
    }
