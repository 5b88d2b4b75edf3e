"""Put a question to a model from the terminal; the answer streams as it is made.

examples:
  bedplate ask "What is TTFT?"                      the model of the machine that runs here
  git diff | bedplate ask -                         the question comes from standard input
  bedplate ask --json --max-tokens 16 "Name a GPU"  one JSON object with the answer and its times
  bedplate ask --endpoint http://10.0.0.7:8080 "Hello"
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from bedplate.errors import NotRunningError, UsageError

HELP = "put a question to the model from the terminal"
DEFAULT_MAX_TOKENS = 512
_INSIDE_PORT = 8080


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="+", help='the question; "-" reads it from standard input')
    parser.add_argument("--model", metavar="NAME", help="default: the first that the endpoint lists")
    parser.add_argument("--endpoint", metavar="URL", help="default: BEDPLATE_ENDPOINT, else the machine that runs here")
    parser.add_argument("--system", metavar="TEXT", help="a system message before the question")
    parser.add_argument("--max-tokens", type=int, default=DEFAULT_MAX_TOKENS, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="longest silence (default: 120)")
    parser.add_argument("--json", action="store_true", help="one JSON object: answer, model, tokens, times")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.cli.chat import Chat, find_model, stream_answer

    if arguments.max_tokens < 1:
        raise UsageError(f"--max-tokens: got {arguments.max_tokens}, expected 1 or more")
    words = arguments.question
    question = sys.stdin.read().strip() if words == ["-"] else " ".join(words)
    if not question:
        raise UsageError("the question is empty", hint='Give one: bedplate ask "What is TTFT?"')
    endpoint = arguments.endpoint or os.environ.get("BEDPLATE_ENDPOINT") or find_endpoint()
    chat = Chat(
        endpoint=endpoint,
        model=arguments.model or find_model(endpoint, timeout_s=arguments.timeout),
        question=question,
        system=arguments.system,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        timeout_s=arguments.timeout,
    )
    started = time.monotonic()
    first_s: float | None = None
    pieces: list[str] = []
    for piece in stream_answer(chat):
        first_s = first_s if first_s is not None else time.monotonic() - started
        pieces.append(piece)
        if not arguments.json:
            print(piece, end="", flush=True)
    answer = "".join(pieces)
    if arguments.json:
        total_s = time.monotonic() - started
        record = {"schema": 1, "model": chat.model, "answer": answer, "pieces": len(pieces)}
        print(json.dumps(record | {"first_token_s": first_s and round(first_s, 3), "total_s": round(total_s, 3)}))
    elif not answer.endswith("\n"):
        print()
    return 0


def find_endpoint() -> str:
    """Where to ask without being told: this system's own front door in a guest, the machine that runs on a host."""
    from bedplate.host.root import Root
    from bedplate.host.system import is_bedplate_system

    if is_bedplate_system(Root()):
        return f"http://127.0.0.1:{_INSIDE_PORT}"
    from bedplate.act.paths import find_paths
    from bedplate.image.machine import read_machine

    machine = read_machine(find_paths())
    if machine is None:
        raise NotRunningError("no machine runs here", hint="Start it: bedplate up, or name one with --endpoint URL.")
    return machine.endpoint
