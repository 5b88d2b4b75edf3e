"""What `inspect`, `doctor` and `stack check` share, and all verbs with --from: where the machine is read, how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.screen import this_screen
from bedplate.errors import AuditError, BedplateError, DataError, ReadError, UsageError

if TYPE_CHECKING:
    from bedplate.model.audit_report import AuditReport
    from bedplate.model.facts.finding import Severity

_NEVER = "never"
_SEVERITIES = ("critical", "high", "medium", "low", "info")


def add_from(parser: argparse.ArgumentParser) -> None:
    """Add --from PATH to a verb's parser: its place in the arguments is `recording`, a Path or None for this machine."""
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="PATH",
        type=Path,
        help="read this instead of the machine: a file of `bedplate record`, a directory or archive with /proc and /sys, or "
        "text that programs printed (nvidia-smi, lspci, dmesg, lscpu, collect_env and others), as a file, a directory of "
        "files, an archive, or - for standard input",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How the findings of an audit are shown, and which of them make it end with 1."""

    threshold: Severity | None
    """None, from --fail-on never, is never reached."""
    page: Path | None
    verbose: bool


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add --html, --fail-on, --suppress and --verbose to a verb's parser; `judging_of` reads them."""
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


def judging_of(arguments: argparse.Namespace) -> Judging:
    """The options of `add_judging`. Raises UsageError for a page that is a directory, before anything is read."""
    from bedplate.model.facts.finding import Severity

    if arguments.html is not None and arguments.html.is_dir():
        raise UsageError(f"--html: {arguments.html} is a directory", hint="Name a file in it.")
    threshold = None if arguments.fail_on == _NEVER else Severity(arguments.fail_on)
    return Judging(threshold=threshold, page=arguments.html, verbose=arguments.verbose)


def finish_audit(
    report: AuditReport, judging: Judging, *, json: bool = False, sarif: bool = False, head: str = "", verb: str
) -> int:
    """Write the page and print the report; 1 when a finding reaches the threshold, else 0.

    `head` is printed before the findings, `verb` is named on the page. Raises AuditError for a page that cannot be written.
    """
    from bedplate.model.audit_report import at_least

    if judging.page is not None:
        _write_page(judging.page, report, verb)
        print(f"wrote {judging.page}", file=sys.stderr)
    if json:
        from bedplate.flows.audit import without_people
        from bedplate.report.audit.document import render_document

        text = render_document(without_people(report))
    elif sarif:
        from bedplate.flows.audit import without_people
        from bedplate.report.audit.sarif import render_sarif

        text = render_sarif(without_people(report))
    else:
        from bedplate.report.audit.listing import render_listing

        text = head + render_listing(report, this_screen(), threshold=judging.threshold, verbose=judging.verbose)
    print(text, end="")
    reached = (finding for finding in report.findings if judging.threshold and at_least(finding.severity, judging.threshold))
    return int(any(True for _ in reached))


def _write_page(file: Path, report: AuditReport, verb: str) -> None:
    from bedplate.flows.audit import write_page

    try:
        write_page(file, report, verb=verb)
    except OSError as error:
        raise AuditError(f"--html: cannot write {file}: {error.strerror or error}") from error


@contextmanager
def reading_recording(recording: Path | None) -> Iterator[None]:
    """What is wrong with a recording becomes AuditError, as doctor and inspect have it; None: of this machine, as it is."""
    try:
        yield
    except ReadError as error:
        if recording is None:
            raise
        raise AuditError(error.message, hint=error.hint) from error


def run_audit(body: Callable[[], int]) -> int:
    """The outer door of both verbs: whatever goes wrong ends with 2, since 1 means that findings were made.

    Errors that the user can act on become AuditError; a bug shows its traceback.
    """
    try:
        return body()
    except (ReadError, DataError) as error:
        raise AuditError(error.message, hint=error.hint) from error
    except (BedplateError, BrokenPipeError):
        raise
    except Exception:
        import traceback

        traceback.print_exc()
        return AuditError.exit_code
