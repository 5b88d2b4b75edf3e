"""What `inspect`, `doctor` and `stack check` share, and all verbs with --from: where the machine is read, how they end."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from bedplate.cli.screen import this_screen
from bedplate.cli.talk import Talk
from bedplate.errors import AuditError, BedplateError, DataError, ReadError
from bedplate.model.audit_report import AuditReport, at_least
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


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add --html, --fail-on, --suppress and --verbose to a verb's parser, which `finish_audit` reads."""
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


def finish_audit(report: AuditReport, arguments: argparse.Namespace, *, head: str = "", verb: str) -> int:
    """Write the page and print the report, as the options of `add_judging`, --json and --sarif say; 1 when a finding reaches
    --fail-on, else 0.

    `head` is printed before the findings, `verb` is named on the page. Raises UsageError for a page that cannot be written.
    """
    from bedplate.flows.audit import without_people, write_audit_page

    threshold = None if arguments.fail_on == _NEVER else Severity(arguments.fail_on)
    if arguments.html is not None:
        write_audit_page(arguments.html, report, verb=verb)
        Talk().note(f"wrote {arguments.html}")
    if arguments.json:
        from bedplate.report.audit.document import render_document

        text = render_document(without_people(report))
    elif arguments.sarif:
        from bedplate.report.audit.sarif import render_sarif

        text = render_sarif(without_people(report))
    else:
        from bedplate.report.audit.listing import render_listing

        text = head + render_listing(report, this_screen(), threshold=threshold, verbose=arguments.verbose)
    print(text, end="")
    return int(any(threshold and at_least(finding.severity, threshold) for finding in report.findings))


@contextmanager
def reading_recording(recording: Path | None) -> Iterator[None]:
    """What is wrong with a recording becomes AuditError, as doctor and inspect have it; None: of this machine, as it is."""
    try:
        yield
    except ReadError as error:
        if recording is None:
            raise
        raise AuditError(error.message, hint=error.hint) from error


def judges(body: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The outer door of a verb that judges: whatever goes wrong ends with 2, since 1 means that findings were made.

    Errors that the user can act on become AuditError; a bug shows its traceback.
    """

    @wraps(body)
    def run(arguments: argparse.Namespace) -> int:
        try:
            return body(arguments)
        except (ReadError, DataError) as error:
            raise AuditError(error.message, hint=error.hint) from error
        except (BedplateError, BrokenPipeError):
            raise
        except Exception:
            traceback.print_exc()
            return AuditError.exit_code

    return run
