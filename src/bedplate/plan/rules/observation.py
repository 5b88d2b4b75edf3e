"""An observation: a result of a rule that is written as a function, with all that a report needs of this machine.

The catalog's row adds what the observation costs on any machine. Unknown facts never make an observation.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bedplate.model.audit import FindingRow
from bedplate.model.facts.finding import Confidence, Evidence, Finding, Severity
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.plan.rules.rule import Outcome, Result

NOTHING_TO_UNDO = ("# Nothing was changed.",)

# Expected percent of an observation without a published number, and the most that a severity may count: one scale with the
# findings of knob rows, where a percent of serving speed counts one and 400 (five times slower) is the most published.
_PERCENT = {Severity.HIGH: 50.0, Severity.MEDIUM: 10.0, Severity.LOW: 1.0, Severity.INFO: 0.0}
_MOST = {Severity.HIGH: 400.0, Severity.MEDIUM: 50.0, Severity.LOW: 5.0, Severity.INFO: 0.0}
# Accelerators that are not used lose everything: above any percentage.
_CRITICAL = 1000.0
_WEIGHT = {Confidence.CERTAIN: 1.0, Confidence.LIKELY: 0.6, Confidence.POSSIBLE: 0.3}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation(Result):
    """Something that does not hold; `because` is the title of its finding."""

    outcome: Outcome = Outcome.DOES_NOT_HOLD
    severity: Severity
    fix: tuple[str, ...]
    """Commands to copy, or sentences that begin with "#" where no command does it.

    What was read of the machine stands in them as `shell_word` writes it: a directory may be called "a; reboot".
    """
    undo: tuple[str, ...] = NOTHING_TO_UNDO
    confidence: Confidence = Confidence.CERTAIN
    effect_percent: float | None = None
    """Here, where the row's number is of another kind of machine; None: the row's."""
    effect: str | None = None
    """Here, where the row's text is of another kind of observation; None: the row's."""


def make_findings(results: Iterable[Result], rows: Mapping[str, FindingRow]) -> Iterator[Finding]:
    """A finding for each observation among the results. Raises KeyError for an id without a row: a mistake of the
    program."""
    return (make_finding(result, rows[result.id]) for result in results if isinstance(result, Observation))


def make_finding(observation: Observation, row: FindingRow | None = None) -> Finding:
    """The finding of an observation, ranked by expected effect times confidence; without a row its own effect stands."""
    percent, published = observation.effect_percent, "no evidence"
    if row is not None:
        percent = row.effect_percent if percent is None else percent
        published = row.effect if row.effect == "no evidence" else f"{row.effect} ({'; '.join(row.sources)})"
    return Finding(
        id=observation.id,
        severity=observation.severity,
        title=observation.because,
        where=observation.where,
        evidence=observation.evidence,
        effect=published if observation.effect is None else observation.effect,
        fix=observation.fix,
        undo=observation.undo,
        confidence=observation.confidence,
        rank=rank_of(observation.severity, observation.confidence, percent),
    )


def rank_of(severity: Severity, confidence: Confidence, percent: float | None) -> float:
    """Expected percent of serving speed times how sure it is; what a critical finding costs is counted on top of 1000."""
    if severity is Severity.CRITICAL:
        return round(_CRITICAL * _WEIGHT[confidence] + (percent or 0.0), 3)
    expected = _PERCENT[severity] if percent is None else percent
    return round(min(expected, _MOST[severity]) * _WEIGHT[confidence], 3)


def seen(label: str, reading: Reading[T]) -> Evidence:
    """A reading as evidence: seen("persistence mode", known(False, "nvml:..."))."""
    value = reading.value if reading.value is not None else f"not known ({reading.unknown})"
    return Evidence(fact=f"{label}: {value}", source=reading.source)


def seen_of(*readings: tuple[str, Reading[Any]]) -> tuple[Evidence, ...]:
    """Evidence of those readings that were made: seen_of(("SM clock in MHz", clock), ...); what nobody read is none."""
    return tuple(seen(label, reading) for label, reading in readings if reading.unknown is not Unknown.NOT_RECORDED)


def not_judged(*, id: str, why: str) -> Result:
    """A result that says only why the rule could not be judged, in a sentence."""
    return Result(id=id, outcome=Outcome.UNKNOWN, because=why)


def unknown(id: str, what: str, reading: Reading[T]) -> Result:
    """What could not be judged because a reading has no value."""
    words = {
        Unknown.ABSENT: "is not there",
        Unknown.DENIED: "may not be read by this user",
        Unknown.HIDDEN: "is not reported by the platform",
        Unknown.MALFORMED: "is not in its format",
        Unknown.NOT_RECORDED: "is not in the recording",
    }
    return Result(
        id=id,
        outcome=Outcome.UNKNOWN,
        because=f"{what} {words[reading.unknown or Unknown.ABSENT]} ({reading.source})",
        denied=reading.unknown is Unknown.DENIED,
    )


def some(names: Iterable[str], most: int = 6) -> str:
    """Names in a sentence, the first few: "a, b and c", "a, b and 9 more"."""
    listed = list(names)
    if len(listed) > most:
        listed = [*listed[: most - 1], f"{len(listed) - most + 1} more"]
    return " and ".join(filter(None, (", ".join(listed[:-1]), listed[-1]))) if listed else ""


def shell_word(text: str) -> str:
    """The text as one word of bash on one line: "a b" -> "'a b'", "a\\nb" -> "$'a\\x0ab'"; a plain name stays as it is.

    A byte of a file's name that is not UTF-8, which Python shows as a surrogate, stands as that byte.
    """
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    is_byte = "\udc80" <= character <= "\udcff"
    raw = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)
