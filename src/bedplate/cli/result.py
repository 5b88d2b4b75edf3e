"""How a verb prints its result: one JSON value with --json, else text for people."""

from __future__ import annotations

import argparse
import json


def print_result(arguments: argparse.Namespace, record: object, text: str, *, indent: int | None = 1) -> int:
    """Print `record` as JSON where --json was given, else `text` as it is; the exit status of a verb that did its work."""
    print(f"{json.dumps(record, indent=indent, allow_nan=False)}\n" if arguments.json else text, end="", flush=True)
    return 0
