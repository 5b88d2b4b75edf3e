"""Find what keeps this machine's accelerators from full speed: what is wrong, what it costs, the fix and the undo.

It reads and judges; it changes nothing. It needs neither root nor an accelerator. It lists what it could not check.

examples:
  bedplate doctor                                 check this machine
  bedplate doctor --verbose                       show all evidence, fixes and undo steps
  bedplate doctor --html report.html              also write an HTML page with a map of the machine
  bedplate doctor --from host.tar.zst --json      check a recording, and print JSON
  lspci -vvv > lspci.txt; bedplate doctor --from lspci.txt
  bedplate doctor --from pasted.txt               check what somebody pasted: several outputs, prompts, quotes, fences
  ssh host 'nvidia-smi; lspci -vvv; dmesg' | bedplate doctor --from -
  bedplate doctor --fail-on high --sarif > doctor.sarif

Exit status: 0 when no finding reaches --fail-on, 1 when one does, 2 when the machine or the recording could not be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.audit import add_from, run_audit
from bedplate.cli.screen import this_screen
from bedplate.errors import AuditError, UsageError

if TYPE_CHECKING:
    from bedplate.model.audit_report import AuditReport
    from bedplate.model.facts.finding import Severity

HELP = "find what keeps accelerators from full speed, with the fix and the undo"
_NEVER = "never"
_SEVERITIES = ("critical", "high", "medium", "low", "info")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate doctor`: where the facts come from, what is printed, and which severity makes it end with 1."""
    add_from(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object with all facts (docs/reference/audit.schema.json)"
    )
    form.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code scanning tools")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write one self-contained HTML page")
    parser.add_argument(
        "--fail-on",
        metavar="SEVERITY",
        choices=(*_SEVERITIES, _NEVER),
        default="medium",
        help=f"exit with 1 if a finding has at least this severity: {', '.join((*_SEVERITIES, _NEVER))} (default: medium)",
    )
    parser.add_argument(
        "--suppress",
        metavar="FILE",
        type=Path,
        help="file that lists findings to suppress, each with a reason (default: /etc/bedplate/suppress.toml if it exists)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show all evidence, the whole fix and the undo of every finding"
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 when a finding reaches --fail-on, else 0; 2 for a bug, after its traceback.

    Raises AuditError (2) for what it could not read, UsageError (2) for a page that is a directory.
    """
    return run_audit(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    from bedplate.flows import audit
    from bedplate.model.facts.finding import Severity

    threshold = None if arguments.fail_on == _NEVER else Severity(arguments.fail_on)
    if arguments.html is not None and arguments.html.is_dir():
        raise UsageError(f"--html: {arguments.html} is a directory", hint="Name a file in it.")
    report = audit.read_report(arguments.recording, suppress=arguments.suppress)
    if arguments.html is not None:
        _write_page(arguments.html, report)
        print(f"wrote {arguments.html}", file=sys.stderr)
    _print(report, arguments, threshold)
    return status_of(report, threshold)


def status_of(report: AuditReport, threshold: Severity | None) -> int:
    """1 when a finding reaches the threshold, else 0; a threshold of None, from --fail-on never, is never reached."""
    from bedplate.model.audit_report import at_least

    return int(threshold is not None and any(at_least(finding.severity, threshold) for finding in report.findings))


def _print(report: AuditReport, arguments: argparse.Namespace, threshold: Severity | None) -> None:
    if arguments.json:
        from bedplate.flows.audit import without_people
        from bedplate.report.audit.document import render_document

        text = render_document(without_people(report))
    elif arguments.sarif:
        from bedplate.report.audit.sarif import render_sarif

        text = render_sarif(report)
    else:
        from bedplate.report.audit.listing import render_listing

        text = render_listing(report, this_screen(), threshold=threshold, verbose=arguments.verbose)
    print(text, end="")


def _write_page(file: Path, report: AuditReport) -> None:
    from bedplate.flows.audit import write_page

    try:
        write_page(file, report)
    except OSError as error:
        raise AuditError(f"--html: cannot write {file}: {error.strerror or error}") from error
