"""Rows of the catalog as pages of the reference, in Markdown: knobs, findings, antagonists, policies."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence

from bedplate.model.audit import FindingRow
from bedplate.model.facts.finding import Severity
from bedplate.model.knob import Knob, Recommendation
from bedplate.model.plan_part import Part
from bedplate.model.policy import Neighbours, PolicyRow
from bedplate.model.proof import Antagonist
from bedplate.report.explain import GRADES, render_check
from bedplate.report.markdown import cell, link_addresses, one_line, sentence, table_row

FieldDocs = Callable[[type], Mapping[str, str]]
"""Names of a class's fields, or members, and the text under each."""

_KNOBS = """\
What the catalog (`src/bedplate/catalog/knobs/*.toml`) says of each setting of a host, and on what evidence.
`bedplate explain ID` prints one of them; a row that does not hold on a machine is the finding `knob.ID`. Existence is
decided by the running kernel: a sysctl that is set for the next boot ({files}, or the kernel command line) and that the
kernel does not have is a dead setting.
"""


def render_knobs(knobs: Sequence[Knob], sysctl_files: Sequence[str], field_docs: FieldDocs) -> str:
    """docs/reference/knobs.md below its first line: every row of the catalog, those to keep away from last.

    sysctl_files: where the system keeps what is set for the next boot.
    """
    files = ", ".join(f"`{file}`" for file in sysctl_files)
    parts = ["# Knobs\n", one_line(_KNOBS.format(files=files))]
    parts += ["| grade | evidence |", "|---|---|", *(f"| {grade} | {text} |" for grade, text in GRADES.items()), ""]
    parts += ["| verdict | meaning |", "|---|---|"]
    said = field_docs(Recommendation)
    parts += [table_row(verdict.value, said[verdict.name]) for verdict in Recommendation]
    parts += ["", "| id | name | grade | verdict | judged from facts |", "|---|---|---|---|---|"]
    parts += [
        f"| [{knob.id}](#{_anchor(knob.id)}) | {cell(knob.name)} | {knob.grade} | {knob.verdict} | {_judged(knob)} |"
        for knob in knobs
    ]
    parts.append("")
    for knob in sorted(knobs, key=lambda knob: knob.id.startswith("cargo.")):
        parts += _render_knob(knob)
    return "\n".join(parts)


def _render_knob(knob: Knob) -> list[str]:
    """One row: a heading, what is wrong and why, and the rest as a list."""
    interface = ", ".join(f"`{name}`" for name in knob.interface)
    lines = [f"## {knob.id}\n", f"**{knob.name}** ({knob.kind}: {interface})\n", f"{knob.problem} {knob.why}\n"]
    effect = f" Published effect: {knob.effect}." if knob.effect else ""
    rows = [
        ("Wanted", knob.wanted),
        ("Instead", knob.instead),
        ("Applies", " ".join([knob.applies, f"Only where {_codes(knob.when)}." if knob.when else ""]).strip()),
        ("Verdict", f"{knob.verdict} ({knob.verdict_note})"),
        ("Evidence", f"{knob.grade}: {knob.evidence}{effect}"),
        ("Sources", "; ".join(knob.sources)),
        ("Unchecked", knob.unchecked),
        ("Risk", knob.risk),
        ("Needs", ", ".join(knob.needs)),
        ("Persists", knob.persist),
        ("Undo", knob.reversible),
        ("Read", "; ".join(f"`{render_check(check)}`" for check in knob.check)),
        ("Not judged from facts", knob.not_evaluable),
        ("Conflicts", _codes(knob.conflicts)),
        ("A wrong form of", f"[{knob.knob}](#{_anchor(knob.knob)})" if knob.knob else ""),
        ("Findings about the same", _codes(tuple(dict.fromkeys(id for check in knob.check for id in check.told_by)))),
    ]
    return [*lines, *(f"- {label}: {cell(text)}" for label, text in rows if text), ""]


def _judged(knob: Knob) -> str:
    return "no" if knob.not_evaluable else "yes" if knob.check else f"as {knob.knob}"


def _anchor(id: str) -> str:
    """The anchor of a heading: dots fall away."""
    return id.replace(".", "")


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


_FINDINGS = """\
What `bedplate doctor` may find of a machine, beside the knobs that do not hold ([knobs.md](knobs.md)): the rows of
`src/bedplate/catalog/findings.toml`. `bedplate explain ID` prints one of them. How findings are made, ranked and suppressed
stands in [the audit](../explanation/audit.md).
"""


def render_findings(rows: Sequence[FindingRow], field_docs: FieldDocs) -> str:
    """docs/reference/findings.md below its first line: every row of the catalog's findings."""
    parts = ["# Findings\n", one_line(_FINDINGS)]
    parts += ["| severity | meaning |", "|---|---|"]
    said = field_docs(Severity)
    parts += [table_row(severity.value, said[severity.name]) for severity in Severity]
    parts += ["", "| id | what is wrong | severity |", "|---|---|---|"]
    parts += [f"| [{row.id}](#{_anchor(row.id)}) | {cell(row.title)} | {' or '.join(row.severities)} |" for row in rows]
    parts.append("")
    for row in rows:
        effect = row.effect if not row.sources else f"{row.effect} ({'; '.join(row.sources)})"
        parts += [f"## {row.id}\n", f"**{row.title}**\n", f"{row.why}\n"]
        parts += [f"- Reported if: {cell(row.means)}", f"- Published effect: {link_addresses(cell(effect))}"]
        parts.append("- Check by hand:\n")
        parts += ["```text", *row.check, "```", ""]
    return "\n".join(parts)


_ANTAGONISTS = """\
The neighbours that `bedplate prove` runs beside the engine: the rows of `src/bedplate/catalog/antagonists.toml`. Each takes
one resource at a level of a ladder, is bounded in time, counts its own work, and is checked for having run. To add one, add
a row; a row that is not bounded or names unknown words is refused.
"""
_KIND_NAMES = {
    "cpu": "CPU",
    "memory": "Memory capacity",
    "bandwidth": "Memory bandwidth and last-level cache",
    "io": "Block I/O",
    "pagecache": "Page cache",
    "network": "Network and interrupts",
    "combined": "Together",
}
_WORDS = {
    "workers": "one for each CPU at 100%, times the row's workers for each CPU; at least one",
    "load": "how busy each worker is, so that 25% of two CPUs is one worker at 50%",
    "cpus": "CPUs that it may use",
    "level": "the level itself, in percent",
    "seconds": "how long it may run",
    "bytes": "the level's share of the memory that is available when it starts",
    "depth": "requests in flight: 64 at 100%",
    "read_mbs": "MB/s read by each worker: 8,000 at 100%",
    "write_mbs": "MB/s written by each worker: 2,000 at 100%",
    "llc_bytes": "size of one last-level cache",
    "file": "a scratch file on the disk that was named, filled with bytes that do not compress",
    "out": "a file that may be written beside it",
    "files": "the directory that holds both",
    "file_bytes": "size of the scratch file; less where the disk has less room",
    "tree": "a directory of C files with a Makefile, or of Python's own library",
    "port": "a free port of loopback",
}


def render_antagonists(rows: Sequence[Antagonist], field_docs: FieldDocs) -> str:
    """docs/reference/antagonists.md below its first line: every row of the catalog's antagonists, by kind."""
    parts = ["# Antagonists\n", one_line(_ANTAGONISTS)]
    parts += ["| word | filled in with |", "|---|---|"]
    parts += [f"| `{{{word}}}` | {cell(text)} |" for word, text in _WORDS.items()]
    parts += ["", "| key | meaning |", "|---|---|"]
    said = field_docs(Antagonist)
    parts += [f"| `{name}` | {cell(text)} |" for name, text in said.items()]
    parts.append("")
    for kind in dict.fromkeys(row.kind for row in rows):
        parts += [f"## {_KIND_NAMES[kind]}\n", f"`--antagonist {kind}` means the first row that is no real program.\n"]
        for row in rows:
            if row.kind == kind:
                parts += _render_antagonist(row)
    return "\n".join(parts)


def _render_antagonist(row: Antagonist) -> list[str]:
    """One row: what it is and why, its command, the rest as a list."""
    real = "A real program. " if row.real else ""
    lines = [f"### {row.id}\n", f"**{row.name[0].upper()}{row.name[1:]}.** {real}{row.problem}\n"]
    if row.program:
        command = [row.program, *row.argv]
        shown = [shlex.join(row.server) + " &"] if row.server else []
        lines += ["```text", *shown, _unquoted(command), "```\n"]
    levels = ", ".join(f"{level}%" for level in row.levels_pct)
    facts = [
        ("100%", row.full),
        ("Ladder", levels),
        ("Runs together", _codes(row.parts)),
        ("Its own work", row.work if row.work != "parts" else "each part's"),
        ("Must be seen to take", row.takes if row.takes != "work" else ""),
        ("Packages", row.package),
        ("Sources", "; ".join(row.sources)),
    ]
    return [*lines, *(f"- {label}: {cell(text)}" for label, text in facts if text), ""]


def _unquoted(words: list[str]) -> str:
    """A command line in which the words in braces stay readable."""
    return " ".join(word if re.fullmatch(r"[\w{}=./:,+-]+", word) else shlex.quote(word) for word in words)


_POLICIES = """\
What machines are for: the rows of `src/bedplate/catalog/policies.toml`. A policy has an aim, takes parts of a plan and
forbids knobs, and states which share of the CPUs the rest is sure of; it never holds the value of a setting: values are
computed from the machine
([what is planned](../explanation/tuning.md)). `bedplate tune plan --policy ID` shows what follows.
"""


def render_policies(rows: Sequence[PolicyRow], field_docs: FieldDocs) -> str:
    """docs/reference/policies.md below its first line: every policy, then what a part of a plan is."""
    parts = ["# Policies\n", one_line(_POLICIES)]
    for row in rows:
        left_out = [part for part in Part if part not in row.parts]
        how = field_docs(Neighbours)[row.neighbours.name]
        parts += [f"## {row.id}\n", f"**{row.title}.** {row.aim}\n"]
        parts.append(f"- **Neighbours**: {row.neighbours}. {sentence(how)}")
        if row.floor_pct:
            parts.append(f"- **Floor**: {row.floor_pct} % of busy CPUs for neighbours. {sentence(row.floor_cost)}")
        parts.append(f"- **Service manager and logins**: {row.system_pct} % of busy CPUs each.")
        if row.forbid:
            parts.append(f"- **Never touched**: {_codes(row.forbid)}: {row.because}.")
        if left_out:
            parts.append(f"- **Left out**: {_codes(tuple(left_out))}.")
        parts.append("")
    parts += ["## Parts of a plan\n", "In the order in which changes are made.\n", "| part | what it decides |", "|---|---|"]
    said = field_docs(Part)
    parts += [f"| `{part}` | {cell(said.get(part.name, ''))} |" for part in Part]
    return "\n".join([*parts, ""])
