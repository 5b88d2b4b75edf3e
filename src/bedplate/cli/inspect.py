"""Show this machine on one screen: packages, NUMA nodes, switches, accelerators, NICs and disks, and what is wrong where.

Numbers in brackets are the findings that `bedplate doctor` explains. It reads and changes nothing, and needs no root.

examples:
  bedplate inspect                          this machine
  bedplate inspect --from host.tar.zst      a recording of another
  bedplate inspect --from lspci.txt         what lspci -vvv said of another
  bedplate inspect --json | jq .facts.numa  every fact with the file that said it

Ends with 0, or with 2 when nothing could be read. Colour is left out in a pipe, with NO_COLOR and with TERM=dumb.
"""

from __future__ import annotations

import argparse

from bedplate.cli.audited import add_from, read_report, run_audit, this_screen

HELP = "the machine on one screen, with what is wrong marked where it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_from(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object (docs/reference/audit.schema.json)")


def main(arguments: argparse.Namespace) -> int:
    return run_audit(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    report = read_report(arguments.recording)
    if arguments.json:
        from bedplate.cli.faces.document import render_document

        print(render_document(report), end="")
    else:
        from bedplate.cli.faces.tree import render_tree

        print(render_tree(report, this_screen()), end="")
    return 0
