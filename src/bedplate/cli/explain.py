"""Explain a knob, a finding, or a message of the kernel's log: the reason, the evidence, the fix and the undo.

NAME is the id of a knob (numa.zone_reclaim), the id of a finding (knob.numa.zone_reclaim), or the kernel's name of a setting
(vm.swappiness, isolcpus=), or a message or code of the kernel's log (aer-fatal, xid-79, sxid-12028). Without NAME, all of
them are listed, except the codes, which docs/reference/kernel-log.md has.

examples:
  bedplate explain vm.swappiness        explain one knob
  bedplate explain cargo.isolcpus       explain a setting to avoid, and what to do instead
  bedplate explain pci.acs-mixed        explain a finding of `bedplate doctor`
  bedplate explain xid-79               explain a code of NVIDIA's driver in the kernel's log
  bedplate explain                      list all knobs and findings, one per line
  bedplate explain --json cpu.isolcpus  print the entry as JSON
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from bedplate.cli.result import print_result
from bedplate.flows.explain import find_row, read_rows
from bedplate.report.explain import WIDEST, Style, render_entry, render_list, render_row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate explain`: one name at most; without one, all rows are listed."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="id of a knob, a finding or a kernel message, or the kernel's name of a setting (default: list all)",
    )
    parser.add_argument("--json", action="store_true", help="print the entry, or all of them, as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Print the row, or a line for each row of the catalog; the exit status is 0.

    Raises UsageError for a name that no row has.
    """
    rows = read_rows()
    style = Style(
        width=min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns),
        colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
    )
    if arguments.name is None:
        records = [render_row(row, rows.knobs) for row in rows.all]
        listed = render_list(rows.knobs, rows.findings, rows.messages, width=style.width)
        return print_result(arguments, records, f"{listed}\n")
    row = find_row(rows.knobs, rows.findings, arguments.name)
    text = render_entry(row, rows.knobs, rows.steps, style=style)
    return print_result(arguments, render_row(row, rows.knobs), f"{text}\n")
