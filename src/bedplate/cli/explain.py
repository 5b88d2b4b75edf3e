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
import json
import os
import shutil
import sys

from bedplate.model.kernel_log_row import KernelLogRow
from bedplate.model.knob import Knob


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
    from bedplate.flows.explain import find_row, read_rows
    from bedplate.report.explain import (
        WIDEST,
        Style,
        render_finding,
        render_kernel_row,
        render_knob,
        render_list,
        render_row,
    )

    rows = read_rows()
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    if arguments.name is None:
        records = [render_row(knob, rows.knobs) for knob in rows.knobs]
        records += [render_row(finding, rows.knobs) for finding in rows.findings]
        records += [render_row(message, rows.knobs) for message in rows.messages]
        listed = render_list(rows.knobs, rows.findings, rows.messages, width=width)
        print(json.dumps(records, indent=1) if arguments.json else listed)
        return 0
    row = find_row(rows.knobs, rows.findings, arguments.name)
    if arguments.json:
        print(json.dumps(render_row(row, rows.knobs), indent=1))
        return 0
    style = Style(width=width, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    if isinstance(row, Knob):
        print(render_knob(row, rows.knobs, style=style))
    elif isinstance(row, KernelLogRow):
        print(render_kernel_row(row, rows.steps, style=style))
    else:
        print(render_finding(row, rows.knobs, style=style))
    return 0
