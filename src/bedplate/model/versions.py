"""The one order of versions: Debian's, for packages, layers, kernels and images alike.

Digits compare as numbers, "~" sorts before everything (1.0~rc1 is older than 1.0), letters before other characters. Source:
Debian Policy 5.6.12 and dpkg's lib/dpkg/version.c (verrevcmp), which the tests take as their oracle. A version that dpkg
would refuse for its characters is ordered all the same.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from itertools import zip_longest

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1: `left` is older than, the same as, or newer than `right`. A missing epoch is 0, a missing revision "0"."""
    (left_epoch, left_upstream, left_revision), (right_epoch, right_upstream, right_revision) = _split(left), _split(right)
    return (
        _sign(left_epoch - right_epoch)
        or _compare_part(left_upstream, right_upstream)
        or _compare_part(left_revision, right_revision)
    )


version_key = functools.cmp_to_key(compare_versions)
"""For `sorted`, `min` and `max`: `max(["1.0~rc1", "1.0"], key=version_key)` is "1.0"."""


def _split(version: str) -> tuple[int, str, str]:
    head, colon, rest = version.partition(":")
    epoch = int(head[:20]) if colon and head.isascii() and head.isdigit() else 0
    upstream, dash, revision = (rest if colon and head.isascii() and head.isdigit() else version).rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, revision, "")


def _compare_part(left: str, right: str) -> int:
    for (left_text, left_digits), (right_text, right_digits) in zip_longest(
        _PARTS.findall(left), _PARTS.findall(right), fillvalue=("", "")
    ):
        order = _compare_text(left_text, right_text) or _compare_digits(left_digits, right_digits)
        if order:
            return order
    return 0


def _compare_text(left: str, right: str) -> int:
    """Character by character; the end of a text stands after "~" and before everything else."""
    for left_weight, right_weight in zip_longest(_weights(left), _weights(right), fillvalue=0):
        if left_weight != right_weight:
            return _sign(left_weight - right_weight)
    return 0


def _weights(text: str) -> Iterator[int]:
    for character in text:
        if character == "~":
            yield -1
        elif character.isascii() and character.isalpha():
            yield ord(character)
        else:
            yield ord(character) + 256


def _compare_digits(left: str, right: str) -> int:
    """Numbers of any length, without making an int of a foreign text."""
    left, right = left.lstrip("0"), right.lstrip("0")
    return _sign(len(left) - len(right)) or (left > right) - (left < right)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
