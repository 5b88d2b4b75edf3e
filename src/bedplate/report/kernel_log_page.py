"""Messages and codes of the kernel's log as a page of the reference, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bedplate.model.kernel_log_row import KernelLogRow, RemedySteps
from bedplate.report.explain import FAULTS, REMEDIES, render_severity, render_title
from bedplate.report.markdown import cell, one_line, table_row

_INTRODUCTION = """\
What `bedplate doctor` knows of the kernel's log: the rows of `src/bedplate/catalog/kernel_log.toml`, `nvidia_xid.toml` and
`nvidia_sxid.toml`. `bedplate explain ID` prints one of them; its finding is `kernel.ID`. A code that is not on this page is
reported as unknown. [How the log is read](../how-to/read-the-kernel-log.md).
"""
_FAMILIES = {
    "xid": ("Xid: codes of NVIDIA's GPU driver", "`NVRM: Xid (PCI:0000:43:00): CODE, ...`"),
    "sxid": ("SXid: codes of NVIDIA's NVSwitch driver", "`nvidia-nvswitch0: SXid (PCI:0000:05:00.0): CODE, ...`"),
}


def render_kernel_log_page(
    messages: Sequence[KernelLogRow], codes: Mapping[str, Sequence[KernelLogRow]], steps: Sequence[RemedySteps]
) -> str:
    """docs/reference/kernel-log.md below its first line: messages, then the codes of each family, then what to do."""
    parts = ["# The kernel's log\n", one_line(_INTRODUCTION)]
    parts += ["| message | what happened | severity | cause |", "|---|---|---|---|"]
    parts += [
        table_row(f"[{row.id}](#{row.id})", render_title(row), render_severity(row), row.fault.value) for row in messages
    ]
    parts.append("")
    for family, rows in codes.items():
        title, form = _FAMILIES[family]
        parts += [f"## {title}\n", f"A message of the form {form}.\n"]
        parts += [
            "| code | name | the device ... | severity | cause | what to do first | source |",
            "|---|---|---|---|---|---|---|",
        ]
        sources = list(dict.fromkeys(row.source for row in rows))
        for row in rows:
            name = row.means.split(", ", 1)[1].split(":", 1)[0]
            says = row.means.split(": the device ", 1)[1]
            cells = (row.id.partition("-")[2], f"`{name}`", cell(says), render_severity(row), row.fault.value)
            parts.append(table_row(*cells, REMEDIES[row.remedy], str(sources.index(row.source) + 1)))
        parts += ["", *(f"{number}. {source} (read {_read(rows, source)})" for number, source in enumerate(sources, 1)), ""]
    parts += ["## What to do\n"]
    for step in steps:
        parts += [
            f"**{REMEDIES[step.id][0].upper()}{REMEDIES[step.id][1:]}**\n",
            "```text",
            *(line.replace("{address}", "ADDRESS") for line in step.fix),
            "```\n",
        ]
    parts += ["## Messages\n"]
    for row in messages:
        parts += _message(row)
    return "\n".join(parts)


def _message(row: KernelLogRow) -> list[str]:
    facts = [
        ("What is lost", row.harm),
        ("Severity", render_severity(row)),
        ("Cause", FAULTS[row.fault]),
        ("What to do first", REMEDIES[row.remedy]),
        ("Explains", ", ".join(f"`{cause}`" for cause in row.causes)),
        ("Reported as", f"`{row.reports_as}`" if row.reports_as else ""),
        ("Source", f"{row.source} (read {row.read})"),
    ]
    lines = [
        f"### {row.id}\n",
        f"**{render_title(row)}.** {row.means}\n",
        *(f"- {label}: {text}" for label, text in facts if text),
    ]
    return [*lines, "", "```text", *row.examples, "```", ""]


def _read(rows: Sequence[KernelLogRow], source: str) -> str:
    return next(row.read for row in rows if row.source == source)
