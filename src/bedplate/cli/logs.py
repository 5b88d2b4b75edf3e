"""Print the logs of the machine and of the build.

examples:
  bedplate logs               print the guest's serial console
  bedplate logs -f            print it, and follow it until Ctrl-C
  bedplate logs build -n 50   print the last 50 lines of the log of the build
  bedplate logs --list        list the logs
"""

from __future__ import annotations

import argparse
import json
import sys

from bedplate.cli.argument_types import whole_number
from bedplate.errors import ReadError, UsageError


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
    from bedplate.flows.logs import find_logs, read_log

    if arguments.json and not arguments.list:
        raise UsageError("--json: can only be used with --list", hint="Run: bedplate logs --list --json")
    logs = find_logs()
    if arguments.list:
        if arguments.json:
            print(json.dumps({"schema": 1, "logs": {name: str(file) for name, file in logs.items()}}))
        else:
            for name, file in logs.items():
                print(f"{name:<14} {file}")
        return 0
    if arguments.name not in logs:
        if logs:
            raise UsageError(f"{arguments.name!r}: no such log; the logs are {', '.join(sorted(logs))}")
        raise ReadError("no log has been written yet", hint="Start the machine: bedplate up")
    for piece in read_log(logs[arguments.name], last=arguments.lines, follow=arguments.follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
    return 0
