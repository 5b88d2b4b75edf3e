"""Show what runs: on a host, its virtual machine; inside the operating system image, the system itself.

examples:
  bedplate status            print a short summary
  bedplate status --json     print one JSON object

Exit status: 0 when the endpoint serves, 4 when no machine is running or the endpoint does not answer.
"""

from __future__ import annotations

import argparse

from bedplate.cli.result import print_result
from bedplate.cli.talk import Talk
from bedplate.errors import NotRunningError
from bedplate.flows.status import read_status
from bedplate.report.status import render_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The one option of `bedplate status`: one JSON object instead of lines for people."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the endpoint answers /health with 200, else 4: nothing runs, or it does not serve yet."""
    record = read_status(Talk())
    print_result(arguments, record, render_status(record), indent=None)
    return 0 if record.get("health") == 200 else NotRunningError.exit_code
