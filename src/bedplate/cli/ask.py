"""Ask a model a question from the terminal, and stream its answer.

examples:
  bedplate ask "What is TTFT?"                      ask the model of the running machine
  git diff | bedplate ask -                         read the question from standard input
  bedplate ask --json --max-tokens 16 "Name a GPU"  print one JSON object with the answer and its times
  bedplate ask --endpoint http://10.0.0.7:8080 "Hello"
  BEDPLATE_KEY=bp_... SSL_CERT_FILE=ca.pem bedplate ask --endpoint https://llm.example.org:8080 "Hello"
"""

from __future__ import annotations

import argparse
import sys
import time

from bedplate.cli.argument_types import number, seconds
from bedplate.cli.result import print_result
from bedplate.flows.ask import ask
from bedplate.model.launch import DEFAULT_MAX_TOKENS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate ask`. The ranges of numbers are checked by `main` and by the engine, not here."""
    parser.add_argument("question", nargs="+", help='words of the question; "-" reads it from standard input')
    parser.add_argument("--model", metavar="NAME", help="model to ask (default: the first that the endpoint lists)")
    parser.add_argument(
        "--endpoint", metavar="URL", help="endpoint to ask (default: $BEDPLATE_ENDPOINT, else the running machine)"
    )
    parser.add_argument("--system", metavar="TEXT", help="system message to send before the question")
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=DEFAULT_MAX_TOKENS,
        metavar="N",
        help="longest answer in tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature", type=number(0, 100), default=0.0, metavar="T", help="sampling temperature; 0 is greedy (default: 0)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=120.0,
        metavar="SECONDS",
        help="give up after this many seconds without a token (default: 120)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: model, answer, number of pieces, times")


def main(arguments: argparse.Namespace) -> int:
    """Print the answer as it streams, or one JSON object at its end; the exit status is 0.

    Raises UsageError for an empty question, NotRunningError where nothing answers, BedplateError when the engine refuses the
    question or breaks off; what was printed until then stays.
    """
    words = arguments.question
    answering = ask(
        sys.stdin.read().strip() if words == ["-"] else " ".join(words),
        endpoint=arguments.endpoint,
        model=arguments.model,
        system=arguments.system,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        timeout_s=arguments.timeout,
    )
    started = time.monotonic()
    first_s: float | None = None
    pieces: list[str] = []
    for piece in answering.pieces:
        first_s = first_s if first_s is not None else time.monotonic() - started
        pieces.append(piece)
        if not arguments.json:
            print(piece, end="", flush=True)
    answer = "".join(pieces)
    record = {"schema": 1, "model": answering.model, "answer": answer, "pieces": len(pieces)}
    record |= {"first_token_s": first_s and round(first_s, 3), "total_s": round(time.monotonic() - started, 3)}
    return print_result(arguments, record, "" if answer.endswith("\n") else "\n", indent=None)
