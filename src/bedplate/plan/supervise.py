"""Whether an engine serves, is stuck or has failed for good, and what is to be done about it. Pure.

Progress counts as life. The front asks an engine for what its own loop answers, between two batches of work: an engine
that reads a prompt of any length answers, one that hangs in a batch, is stopped or has lost its device does not. Two missed
deadlines mark it down (docs/decisions/0021); it is ended a little later, so that the client of each request that has had no
byte gets 502 instead of a connection that closes without a word.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.model.supervision import (
    EngineOrder,
    EngineReading,
    EngineRecord,
    EngineState,
    FrontCheck,
    SupervisionStep,
    UnitReading,
)

GRACE_S = 3
"""Between the mark and the end of a stuck engine: a machine that was frozen itself shall not kill what wakes with it."""
LOADING_S = 600
"""For an engine that never answered since its start, and neither refuses nor answers now: a slow disk is no fault."""
SAME_REASON = 3
"""An engine that ended so often for the same reason without having served between is not started again."""
# Nobody answers in time; what refuses a connection or answers 503 is starting, unless it has served before.
_SILENT = ("L4TOUT", "L6TOUT", "L7TOUT")
_NOT_CHECKED = ("", "INI")
_SAYS_NOTHING = (*_NOT_CHECKED, "L7STS", "L7RSP")  # no check yet, or an answer that is not the right one
_CAUSE = re.compile(r"error|failed|cannot|terminate|assert|abort|out of memory", re.IGNORECASE)
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
_LONGEST = 300
_UNKNOWN_END = "it ended"  # the service manager has started it again by the time that it is asked
_AGAIN = "serves again; before that "


def supervise(record: EngineRecord, reading: EngineReading) -> SupervisionStep:
    """One look at one engine. An engine that was stopped here stays so until its unit is started again by somebody."""
    unit, front = reading.unit, reading.front
    if record.state is EngineState.FAILED:
        if unit.active not in ("active", "activating") or unit.invocation in ("", record.invocation):
            return SupervisionStep(record=record)
        record = EngineRecord(ended=record.ended, stuck=record.stuck)  # somebody started it again
    if unit.invocation != record.invocation:
        record = replace(record, invocation=unit.invocation, began_s=reading.now_s, served=False)
    if front is not None and front.up and unit.active == "active":
        remark = "serves" if record.state is not EngineState.SERVING else ""
        served = replace(
            record, state=EngineState.SERVING, served=True, restarts=unit.restarts, reasons=(), because=_history(record)
        )
        return SupervisionStep(record=served, remark=remark)
    if unit.restarts > record.restarts or (unit.active == "failed" and record.counted != unit.invocation):
        return _ended(record, reading)
    record = replace(record, restarts=unit.restarts)
    if unit.active in ("inactive", "failed"):
        return SupervisionStep(record=replace(record, state=EngineState.STOPPED))
    if record.state is EngineState.SERVING and front is not None and front.check in _NOT_CHECKED:
        return SupervisionStep(record=record)  # the front was reloaded
    if unit.active == "active" and front is not None and not front.up:
        silent_s = _silence_s(record, front, reading.now_s)
        if silent_s >= (GRACE_S if record.served else LOADING_S) and record.killed != unit.invocation:
            because = f"it made no progress for {front.since_s} s ({front.check}) and was ended"
            stuck = replace(record, state=EngineState.STUCK, stuck=record.stuck + 1, killed=unit.invocation, because=because)
            return SupervisionStep(record=stuck, order=EngineOrder.KILL, remark=f"is stuck: {because}")
        if silent_s > 0 and (record.served or record.killed == unit.invocation):
            return SupervisionStep(record=replace(record, state=EngineState.STUCK))
    return SupervisionStep(record=replace(record, state=EngineState.STARTING))


def _silence_s(record: EngineRecord, front: FrontCheck, now_s: float) -> float:
    """For how long an engine that runs has not answered: since the mark where it has served, else since its start."""
    if front.check in _SAYS_NOTHING:
        return 0.0
    if record.served:
        return float(front.since_s)
    return now_s - record.began_s if front.check in _SILENT else 0.0


def reason_of(unit: UnitReading, last_words: tuple[str, ...]) -> str:
    """Why an engine ended: the first of its last lines that names a cause, else its last line, else how it ended.

    Addresses and other numbers may differ from one time to the next; `is_same_reason` looks past them.
    """
    how = {
        "oom-kill": "the kernel ended it for lack of memory",
        "exit-code": f"it ended with status {unit.status}",
        "signal": f"signal {unit.status} ended it",
        "core-dump": f"signal {unit.status} ended it",
    }.get(unit.result, _UNKNOWN_END)
    said = next((line for line in last_words if _CAUSE.search(line)), last_words[-1] if last_words else "")
    return f"{how}: {said.strip()[:_LONGEST]}" if said.strip() else how


def is_same_reason(first: str, second: str) -> bool:
    """Whether two reasons differ in nothing but numbers, or one of them only knows how it ended and not what was said."""
    pairs = []
    for reason in (first, second):
        how, _, said = reason.partition(": ")
        pairs.append((_NUMBERS.sub("N", how) if how != _UNKNOWN_END else "", _NUMBERS.sub("N", said)))
    return all(not mine or not other or mine == other for mine, other in zip(*pairs, strict=True))


def _ended(record: EngineRecord, reading: EngineReading) -> SupervisionStep:
    unit = reading.unit
    if record.state is EngineState.STUCK:  # we ended it
        started = replace(record, state=EngineState.STARTING, restarts=unit.restarts, counted=unit.invocation)
        return SupervisionStep(record=started)
    reason = reason_of(unit, reading.last_words)
    reasons = (*record.reasons, reason)[-SAME_REASON:]
    told = max(reasons, key=len)  # of the same ones that which says most
    record = replace(
        record,
        state=EngineState.STARTING,
        restarts=unit.restarts,
        served=False,
        ended=record.ended + 1,
        counted=unit.invocation,
        reasons=reasons,
        because=reason,
        last_words=reading.last_words,
    )
    if len(reasons) == SAME_REASON and all(is_same_reason(reason, other) for other in reasons):
        failed = replace(record, state=EngineState.FAILED, because=told)
        return SupervisionStep(record=failed, order=EngineOrder.STOP, remark=f"failed: {told}")
    return SupervisionStep(record=record, remark=f"ended and is started again: {reason}")


def _history(record: EngineRecord) -> str:
    """What an operator should know of an engine that serves now."""
    because = record.because.removeprefix(_AGAIN)
    return f"{_AGAIN}{because}" if because and (record.ended or record.stuck) else ""
