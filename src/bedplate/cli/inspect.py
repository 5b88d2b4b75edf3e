"""Show this machine on one screen: packages, NUMA nodes, switches, accelerators, NICs and disks, with the problems marked.

Numbers in brackets refer to findings; `bedplate doctor` explains them. The command changes nothing and needs no root.

examples:
  bedplate inspect                          show this machine
  bedplate inspect --from host.tar.zst      show a recorded machine
  bedplate inspect --from lspci.txt         show a machine from the output of lspci -vvv
  nvidia-smi topo -m | bedplate inspect --from -
  bedplate inspect --json | jq .facts.numa  print every fact with the file it was read from

Exit status: 0, or 2 when the machine or the recording could not be read. There is no colour in a pipe, with NO_COLOR or with
TERM=dumb.
"""

from __future__ import annotations

import argparse

from bedplate.cli.audit import add_from, judges
from bedplate.cli.screen import this_screen
from bedplate.flows.audit import read_report, without_people
from bedplate.report.audit.document import render_document
from bedplate.report.audit.tree import render_tree


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate inspect`: where the facts come from, and whether they are printed for programs."""
    add_from(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (docs/reference/audit.schema.json)")


@judges
def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 whatever is wrong with the machine: findings are marks in the picture.

    Raises AuditError (2) for what it could not read.
    """
    report = read_report(arguments.recording)
    print(render_document(without_people(report)) if arguments.json else render_tree(report, this_screen()), end="")
    return 0
