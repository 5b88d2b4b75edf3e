"""Ask the known-answer model all of its facts and demand exact answers.

Exit status 0 when every answer came back to the character, 1 when one did not, 4 when nothing answers at the endpoint.

examples:
  bedplate selftest                                    the machine that `bedplate up` started
  bedplate selftest --endpoint http://10.0.0.7:8080    another host
  bedplate selftest --phrasings --parallel 4           every trained phrasing of every fact, four at a time
  bedplate selftest --json                             the result for programs
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

HELP = "ask the known-answer model all its facts and demand exact answers"
MODEL = "known-answer"
SHOWN_MISSES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible endpoint (the machine's own)")
    parser.add_argument("--model", default=MODEL, metavar="NAME", help="the `model` field of the requests (%(default)s)")
    parser.add_argument("--phrasings", action="store_true", help="ask every trained phrasing and not only the first of each")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", choices=range(1, 65), help="requests at a time (1)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.catalog.facts import read_facts
    from bedplate.cli.ask import find_endpoint
    from bedplate.cli.terminal import terminal_progress
    from bedplate.prove.selftest import run_selftest

    with terminal_progress() as progress:
        result = run_selftest(
            read_facts(),
            endpoint=arguments.endpoint or find_endpoint(),
            model=arguments.model,
            progress=progress,
            all_phrasings=arguments.phrasings,
            parallel=arguments.parallel,
        )
    if arguments.json:
        print(json.dumps({**asdict(result), "passed": result.passed}, indent=2))
        return 0 if result.passed else 1
    for miss in result.misses[:SHOWN_MISSES]:
        print(f"question: {miss.question}")
        print(f"expected: {miss.expected}")
        print(f"got:      {miss.problem or miss.got!r}")
    if len(result.misses) > SHOWN_MISSES:
        print(f"... and {len(result.misses) - SHOWN_MISSES} more (--json shows all)")
    word = "passed" if result.passed else "FAILED"
    print(f"{result.exact} of {result.asked} answers exact, {result.elapsed_s:.1f} s: {word}")
    return 0 if result.passed else 1
