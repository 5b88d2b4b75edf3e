"""What was made of a text that an operator gave: what it was read as, what was not understood, what contradicts."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.model.facts.host import HostFacts, TextSection
from bedplate.report.format import clean

_SECTIONS_MOST = 12
_RANGES_MOST = 12
_CONFLICTS_MOST = 20


def read_words(facts: HostFacts) -> str:
    """ "lspci (lines 24 to 31), kernel-log (line 33)"; "" for what is no text."""
    sections = [section for section in facts.texts if section.format]
    shown = [f"{clean(section.format)} ({_place(facts, section)})" for section in sections[:_SECTIONS_MOST]]
    more = len(sections) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def unread_words(facts: HostFacts) -> str:
    """ "lines 1 to 2, line 40" of what was not understood; "" where all was."""
    sections = [section for section in facts.texts if not section.format]
    shown = [_place(facts, section) for section in sections[:_RANGES_MOST]]
    more = len(sections) - len(shown)
    return ", ".join(shown) + (f" and {more} more runs of lines" if more else "")


def conflict_words(facts: HostFacts) -> Iterable[str]:
    """A sentence for each fact that parts of the input tell differently; the last value is the one that counts."""
    for conflict in facts.conflicts[:_CONFLICTS_MOST]:
        said = ", ".join(f"{clean(value)} ({clean(source)})" for value, source in conflict.values)
        yield f"{clean(conflict.fact)}: {said}; the last one counts"
    if len(facts.conflicts) > _CONFLICTS_MOST:
        yield f"{len(facts.conflicts) - _CONFLICTS_MOST} more facts contradict each other"


def _place(facts: HostFacts, section: TextSection) -> str:
    several = len({other.file for other in facts.texts}) > 1
    file = f"{clean(section.file)} " if several else ""
    if section.first_line == section.last_line:
        return f"{file}line {section.first_line}"
    return f"{file}lines {section.first_line} to {section.last_line}"
