"""Types of the values on a command line: what argparse calls with the word, and what it says when the word is none.

The message has the option in front of it (argparse adds that), what was given and what was expected; the status is 2.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from bedplate.errors import UsageError
from bedplate.model.units import parse_duration, parse_size


def directory(text: str) -> Path:
    """The path of a directory that is there, as it was given; raises ArgumentTypeError, which argparse ends with 2."""
    path = Path(text)
    if path.is_dir():
        return path
    raise argparse.ArgumentTypeError(f"{text}: {'not a directory' if path.exists() else 'no such directory'}")


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number from `least` to `most`, both included; None: without an upper bound."""
    expected = f"expected a whole number {f'of at least {least}' if most is None else f'from {least} to {most}'}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}") from None
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{number}: {expected}")
        return number

    return parse


def number(least: float, most: float, *, unit: str = "") -> Callable[[str], float]:
    """A number from `least` to `most`, both included, so never nan or inf; the unit stands in the message only."""
    expected = f"expected a number{f' of {unit}' if unit else ''} from {least:.12g} to {most:.12g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}") from None
        if not math.isfinite(value) or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: {expected}")
        return value

    return parse


LONGEST_S = 86_400.0 * 365
"""The longest time that an option takes; what socket(2) and select(2) take ends at some hundred years."""


def seconds(text: str) -> float:
    """A time of more than 0 seconds; a millisecond is the shortest."""
    return number(0.001, LONGEST_S, unit="seconds")(text)


def host_and_port(text: str) -> tuple[str, int]:
    """A host name or an address, and a port: llm.example.org:8080, [2001:db8::7]:8080; https:// may stand before it."""
    host, separator, port = text.removeprefix("https://").rstrip("/").rpartition(":")
    name = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not separator or not name or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST:PORT, for instance llm.example.org:8080")
    if "/" in name or name != "".join(name.split()) or (":" in name and not host.startswith("[")):
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST:PORT, with an IPv6 address in brackets")
    return name, int(port)


def sha256(text: str) -> str:
    """A SHA-256 in hexadecimal digits, with or without colons between the bytes, as it was given."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}|(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: expected the 32 bytes of a SHA-256, in hexadecimal digits")


def size(text: str) -> int:
    """A size in bytes from "4G", "512M" or a plain number."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_time(text: str, option: str, expected: str, *, least_s: float, most_s: float = LONGEST_S) -> float:
    """Seconds of "20m", "90s", "1h" or "30", from least_s to most_s. Raises UsageError naming the option."""
    try:
        found = parse_duration(text)
    except ValueError:
        found = -1.0
    if not least_s <= found <= most_s:
        raise UsageError(f"{option}: got {text!r}, expected {expected}")
    return found
