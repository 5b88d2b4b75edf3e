"""Print the logs of the machine and of the build.

examples:
  bedplate logs               print the guest's serial console
  bedplate logs -f            print it, and follow it until Ctrl-C
  bedplate logs build -n 50   print the last 50 lines of the log of the build
  bedplate logs --list        list the logs
"""

from __future__ import annotations

import argparse
import sys

from bedplate.cli.argument_types import whole_number
from bedplate.cli.result import print_result
from bedplate.errors import UsageError
from bedplate.flows.logs import choose_log, find_logs, read_log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate logs`: which log, how much of it, and whether to follow it."""
    parser.add_argument("name", nargs="?", default="serial", help="name of the log (default: serial, the guest's console)")
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing as the log grows")
    parser.add_argument("-n", "--lines", type=whole_number(0), metavar="N", help="print only the last N lines")
    parser.add_argument("--list", action="store_true", help="list the logs and their files")
    parser.add_argument("--json", action="store_true", help="with --list: print the list as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Print a log as it is, but with plain line ends; the exit status is 0. With --follow only Ctrl-C or a closed pipe ends
    it.

    Raises UsageError for a name that no log has, ReadError when there are no logs at all.
    """
    if arguments.json and not arguments.list:
        raise UsageError("--json: can only be used with --list", hint="Run: bedplate logs --list --json")
    logs = find_logs()
    if arguments.list:
        record = {"schema": 1, "logs": {name: str(file) for name, file in logs.items()}}
        return print_result(arguments, record, "".join(f"{name:<14} {file}\n" for name, file in logs.items()), indent=None)
    for piece in read_log(choose_log(arguments.name, logs), last=arguments.lines, follow=arguments.follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
    return 0
