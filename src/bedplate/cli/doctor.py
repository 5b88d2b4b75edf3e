"""Say what stands between this machine and its accelerators: what is wrong, what it costs, the fix and the undo.

It reads, judges and changes nothing. It needs neither root nor an accelerator; what it could not know it says.

examples:
  bedplate doctor                                 this machine
  bedplate doctor --verbose                       with all evidence, fixes and undos
  bedplate doctor --html report.html              the same as one page, with a map of the machine
  bedplate doctor --from host.tar.zst --json      a recording, as JSON
  lspci -vvv > lspci.txt; bedplate doctor --from lspci.txt
  bedplate doctor --fail-on high --sarif > doctor.sarif

Ends with 0 when no finding reaches --fail-on, with 1 when one does, with 2 when nothing could be read.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.audited import add_from, read_report, run_audit, this_screen
from bedplate.errors import AuditError, UsageError

if TYPE_CHECKING:
    from bedplate.cli.faces.report import Report
    from bedplate.model.facts.finding import Severity

HELP = "what stands between this machine and its accelerators, the fix and the undo"
_NEVER = "never"
_SEVERITIES = ("critical", "high", "medium", "low", "info")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_from(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="one JSON object with all facts (docs/reference/audit.schema.json)"
    )
    form.add_argument("--sarif", action="store_true", help="SARIF 2.1.0, for code scanning views")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page, too")
    parser.add_argument(
        "--fail-on",
        metavar="SEVERITY",
        choices=(*_SEVERITIES, _NEVER),
        default="medium",
        help=f"end with 1 from this severity on: {', '.join((*_SEVERITIES, _NEVER))} (default: medium)",
    )
    parser.add_argument(
        "--suppress",
        metavar="FILE",
        type=Path,
        help="findings to set aside, each with a reason (default: /etc/bedplate/suppress.toml, where it is there)",
    )
    parser.add_argument("--verbose", action="store_true", help="all evidence, the whole fix and the undo of every finding")


def main(arguments: argparse.Namespace) -> int:
    return run_audit(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    from bedplate.model.facts.finding import Severity

    threshold = None if arguments.fail_on == _NEVER else Severity(arguments.fail_on)
    if arguments.html is not None and arguments.html.is_dir():
        raise UsageError(f"--html: {arguments.html} is a directory", hint="Name a file in it.")
    report = read_report(arguments.recording, suppress=arguments.suppress)
    if arguments.html is not None:
        _write_page(arguments.html, report)
        print(f"wrote {arguments.html}", file=sys.stderr)
    _print(report, arguments, threshold)
    return status_of(report, threshold)


def status_of(report: Report, threshold: Severity | None) -> int:
    """1 when a finding reaches the threshold, else 0; None is never reached."""
    from bedplate.cli.faces.report import at_least

    return int(threshold is not None and any(at_least(one.severity, threshold) for one in report.findings))


def _print(report: Report, arguments: argparse.Namespace, threshold: Severity | None) -> None:
    if arguments.json:
        from bedplate.cli.faces.document import render_document

        text = render_document(report)
    elif arguments.sarif:
        from bedplate.cli.faces.sarif import render_sarif

        text = render_sarif(report)
    else:
        from bedplate.cli.faces.listing import render_listing

        text = render_listing(report, this_screen(), threshold=threshold, verbose=arguments.verbose)
    print(text, end="")


def _write_page(file: Path, report: Report) -> None:
    """The page under its name all at once, or not at all."""
    import time

    from bedplate.cli.faces.page import render_page

    text = render_page(report, made=time.strftime("%Y-%m-%d"))
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("x", encoding="utf-8", errors="backslashreplace") as sink:
                sink.write(text)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise AuditError(f"--html: cannot write {file}: {error.strerror or error}") from error
