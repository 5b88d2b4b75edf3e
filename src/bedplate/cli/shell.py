"""Open a root shell in the machine, on its debug console. Only development images have one.

Ctrl-] disconnects. The shell stays as it is, and the next `bedplate shell` continues in it.

examples:
  bedplate shell
  bedplate shell -c "systemctl status"     run one command, print its output and return
"""

from __future__ import annotations

import argparse
import sys

from bedplate.cli.argument_types import seconds
from bedplate.errors import NotRunningError
from bedplate.flows.console import attach_terminal, connect_console, run_in_machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate shell`; without --command it needs a terminal."""
    parser.add_argument("-c", "--command", metavar="COMMAND", help="run one command and exit with its status")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="with -c: end the command after this many seconds without output (default: 60)",
    )


def main(arguments: argparse.Namespace) -> int:
    """Status of the command of -c; 0 when a terminal was left by Ctrl-] or the machine ended.

    Raises NotRunningError without a machine, a debug console or a terminal; BootError when the console is silent too long.
    """
    if arguments.command is not None:
        answer = run_in_machine(arguments.command, silence_s=arguments.timeout)
        print(answer.output, end="")
        return answer.status
    with connect_console() as console:
        if not sys.stdin.isatty():
            raise NotRunningError(
                "standard input is not a terminal", hint='To run one command, use: bedplate shell -c "..."'
            )
        print("Connected. Press Ctrl-] to disconnect.", file=sys.stderr)
        try:
            attach_terminal(console, sys.stdin.fileno(), sys.stdout.fileno())
        finally:
            print("\nDisconnected; the shell keeps running.", file=sys.stderr)
    return 0
