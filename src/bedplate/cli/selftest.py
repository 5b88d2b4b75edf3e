"""Ask the known-answer model about all of its facts and check that each answer is exact.

Exit status: 0 when every answer is exact to the character, 1 when any is not, 4 when the endpoint does not answer.

examples:
  bedplate selftest                                    test the machine that `bedplate up` started
  bedplate selftest --endpoint http://10.0.0.7:8080    test another host
  bedplate selftest --phrasings --parallel 4           ask every trained phrasing, four requests at a time
  bedplate selftest --json                             print the result as JSON
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from bedplate.cli.argument_types import whole_number
from bedplate.cli.result import print_result
from bedplate.cli.terminal import terminal_progress
from bedplate.flows.selftest import selftest
from bedplate.model.launch import KNOWN_ANSWER
from bedplate.report.selftest import render_selftest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate selftest`; the defaults ask the machine of this host, one request at a time."""
    parser.add_argument(
        "--endpoint", metavar="URL", help="OpenAI-compatible endpoint to test (default: the running machine)"
    )
    parser.add_argument(
        "--model",
        default=KNOWN_ANSWER,
        metavar="NAME",
        help="value of the `model` field of the requests (default: %(default)s)",
    )
    parser.add_argument(
        "--phrasings", action="store_true", help="ask every trained phrasing of each fact, not only the first"
    )
    parser.add_argument(
        "--parallel", type=whole_number(1, 64), default=1, metavar="N", help="number of requests at a time (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when every answer was exact, to the character, else 1.

    Raises NotRunningError (4) when nothing answers at the endpoint.
    """
    with terminal_progress() as progress:
        result = selftest(
            progress,
            endpoint=arguments.endpoint,
            model=arguments.model,
            all_phrasings=arguments.phrasings,
            parallel=arguments.parallel,
        )
    record = {**asdict(result), "passed": result.passed}
    print_result(arguments, record, render_selftest(record))
    return 0 if result.passed else 1
