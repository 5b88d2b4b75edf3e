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

from bedplate.cli.audit import add_from, add_judging, finish_audit, judges
from bedplate.flows import audit
from bedplate.flows.pages import check_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate doctor`: where the facts come from, what is printed, and which severity makes it end with 1."""
    add_from(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object with all facts (docs/reference/audit.schema.json)"
    )
    form.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code scanning tools")
    add_judging(parser)


@judges
def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 when a finding reaches --fail-on, else 0; 2 for a bug, after its traceback.

    Raises AuditError (2) for what it could not read, UsageError (2) for a page that cannot be written.
    """
    check_page(arguments.html)
    return finish_audit(audit.read_report(arguments.recording, suppress=arguments.suppress), arguments, verb="doctor")
