"""Counts and lists in sentences, the same in findings, plans and reports."""

from __future__ import annotations

from collections.abc import Iterable


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A count before its noun: "1 core", "0 cores"; `nouns` is for a noun that does more than take an s."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def render_cpus(cpus: Iterable[int]) -> str:
    """The kernel's list format, in any order and with repeats: (0, 1, 2, 8) is "0-2,8"; "" for none."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def first_words(parts: Iterable[str], most: int = 4) -> str:
    """Names for a sentence, the first few: "a, b", "a, b, c, d and 3 more"; "" for none."""
    names = list(parts)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
