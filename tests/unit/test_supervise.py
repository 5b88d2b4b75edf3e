"""When an engine is ended, given up or left alone: one look after the other, as pure decisions."""

from __future__ import annotations

import json

import pytest

from bedplate.act.front_stats import parse_stats
from bedplate.flows.supervise import parse_journal
from bedplate.model.supervision import (
    EngineOrder,
    EngineReading,
    EngineRecord,
    EngineState,
    FrontCheck,
    SupervisionStep,
    UnitReading,
)
from bedplate.plan.supervise import GRACE_S, LOADING_S, SAME_REASON, reason_of, supervise

UP = FrontCheck(up=True, check="L7OK", since_s=5)
REFUSED = FrontCheck(up=False, check="L4CON", since_s=5)
LOADING = FrontCheck(up=False, check="L7STS", since_s=900)


def silent(since_s: int) -> FrontCheck:
    return FrontCheck(up=False, check="L7TOUT", since_s=since_s)


def unit(active: str = "active", *, restarts: int = 0, result: str = "success", status: int = 0) -> UnitReading:
    return UnitReading(active=active, invocation=f"i{restarts}", restarts=restarts, result=result, status=status)


def look(
    record: EngineRecord, front: FrontCheck | None, reading: UnitReading | None = None, *words: str, now_s: float = 0.0
) -> SupervisionStep:
    return supervise(record, EngineReading(front=front, unit=reading or unit(), now_s=now_s, last_words=words))


def serving() -> EngineRecord:
    record = look(EngineRecord(), UP).record
    assert record.state is EngineState.SERVING
    return record


def test_an_engine_that_answers_serves_and_that_is_said_once() -> None:
    first = look(EngineRecord(), UP)
    assert (first.record.state, first.remark, first.order) == (EngineState.SERVING, "serves", None)
    assert look(first.record, UP).remark == ""


@pytest.mark.parametrize("front", [REFUSED, LOADING, None, silent(100_000)])
def test_an_engine_that_starts_is_left_alone_however_long_the_one_before_it_was_down(front: FrontCheck | None) -> None:
    step = look(EngineRecord(), front, now_s=1000)
    step = look(step.record, front, now_s=1000 + LOADING_S - 1)
    assert (step.record.state, step.order) == (EngineState.STARTING, None)


def test_an_engine_that_is_silent_since_it_was_started_is_ended_once() -> None:
    step = look(look(EngineRecord(), silent(5), now_s=1000).record, silent(700), now_s=1000 + LOADING_S)
    assert step.order is EngineOrder.KILL
    for number in range(3):  # it waits for a device and cannot end
        step = look(step.record, silent(701 + number), now_s=1001 + LOADING_S + number)
        assert (step.order, step.record.state, step.record.stuck) == (None, EngineState.STUCK, 1)


@pytest.mark.parametrize("check", ["L4TOUT", "L4CON", "SOCKERR", "L7TOUT"])
def test_an_engine_that_served_and_is_not_reached_any_more_is_ended(check: str) -> None:
    assert look(serving(), FrontCheck(up=False, check=check, since_s=GRACE_S)).order is EngineOrder.KILL


@pytest.mark.parametrize("check", ["INI", "L7STS"])
def test_an_engine_that_answers_and_one_that_was_not_checked_yet_are_not(check: str) -> None:
    assert look(serving(), FrontCheck(up=False, check=check, since_s=900)).order is None


def test_an_engine_that_somebody_stops_is_stopped_and_not_given_up() -> None:
    step = look(serving(), REFUSED, unit("failed", result="timeout"))
    for _ in range(5):
        step = look(step.record, REFUSED, unit("failed", result="timeout"))
        assert (step.order, step.record.state, step.record.ended) == (None, EngineState.STOPPED, 1)


def test_a_silent_engine_is_ended_after_the_grace_and_its_end_is_not_its_fault() -> None:
    waiting = look(serving(), silent(GRACE_S - 1))
    assert (waiting.record.state, waiting.order) == (EngineState.STUCK, None)
    ended = look(waiting.record, silent(GRACE_S))
    assert (ended.order, ended.record.stuck) == (EngineOrder.KILL, 1)
    assert "no progress" in ended.remark
    again = look(ended.record, REFUSED, unit("activating", restarts=1, result="signal", status=9))
    assert (again.record.state, again.record.ended, again.record.reasons) == (EngineState.STARTING, 0, ())
    back = look(again.record, UP, unit(restarts=1))
    assert back.record.state is EngineState.SERVING
    assert back.record.because.startswith("serves again; before that it made no progress")
    unchecked = look(back.record, FrontCheck(up=False, check="INI", since_s=0), unit(restarts=1))
    assert (unchecked.record, unchecked.remark) == (back.record, "")  # the front was reloaded
    again_up = look(unchecked.record, UP, unit(restarts=1))
    assert (again_up.record, again_up.remark) == (back.record, "")


def test_an_engine_that_woke_by_itself_is_left_alone() -> None:
    step = look(look(serving(), silent(GRACE_S - 1)).record, UP)
    assert (step.record.state, step.order, step.record.stuck) == (EngineState.SERVING, None, 0)


def test_a_front_that_does_not_answer_says_nothing_about_an_engine() -> None:
    step = look(serving(), None)
    assert step.order is None


def fail(record: EngineRecord, number: int, words: str, *, status: int = 1) -> SupervisionStep:
    return look(record, REFUSED, unit("activating", restarts=number, result="exit-code", status=status), words)


def test_an_engine_that_ends_for_the_same_reason_again_and_again_is_given_up_with_its_own_line() -> None:
    step = SupervisionStep(record=EngineRecord())
    for number in range(1, SAME_REASON + 1):
        assert step.order is None
        step = fail(step.record, number, f"error: unknown model architecture: 'flux' (try {number} at 0x{number:x}f)")
    assert (step.order, step.record.state) == (EngineOrder.STOP, EngineState.FAILED)
    assert "unknown model architecture: 'flux'" in step.remark
    stopping = look(step.record, REFUSED, unit("activating", restarts=3))  # it waits to be started again when it is stopped
    assert (stopping.record.state, stopping.order) == (EngineState.FAILED, None)
    stopped = look(step.record, REFUSED, unit("inactive", restarts=3))
    assert (stopped.record.state, stopped.order, stopped.remark) == (EngineState.FAILED, None, "")


def test_a_reason_that_is_only_half_known_is_the_same_as_the_whole_one() -> None:
    """The service manager may have started it again, and the journal may not have its lines yet."""
    words = "error: cannot load"
    step = fail(EngineRecord(), 1, words)
    step = look(step.record, REFUSED, unit("active", restarts=2, result="success"))
    step = look(step.record, REFUSED, unit("activating", restarts=3, result="exit-code", status=1))
    assert (step.order, step.record.because) == (EngineOrder.STOP, f"it ended with status 1: {words}")


def test_last_words_are_of_the_last_run_that_ended() -> None:
    rows = [("a", "first"), ("b", "error: second"), ("b", "end"), ("c", "now")]
    text = "\n".join(json.dumps({"MESSAGE": said, "_SYSTEMD_INVOCATION_ID": run}) for run, said in rows)
    assert parse_journal(text, "c") == ("error: second", "end")
    assert parse_journal(text, "") == ("now",)
    assert parse_journal("no json\n[1]\n" + json.dumps({"MESSAGE": [1, 2]}), "") == ()


def test_different_reasons_and_a_serving_between_are_not_the_same_again() -> None:
    step = fail(EngineRecord(), 1, "error: first")
    step = fail(step.record, 2, "error: second")
    step = fail(step.record, 3, "error: second")
    assert step.order is None
    step = look(step.record, UP, unit(restarts=3))
    for number in (4, 5):
        step = fail(step.record, number, "error: second")
        assert step.order is None


def test_an_engine_that_somebody_starts_again_is_watched_again() -> None:
    step = SupervisionStep(record=EngineRecord())
    for number in range(1, SAME_REASON + 1):
        step = fail(step.record, number, "error: no")
    again = look(step.record, UP, unit(restarts=0))  # with another invocation
    assert again.record.state is EngineState.SERVING


@pytest.mark.parametrize(
    ("reading", "words", "expected"),
    [
        (unit(result="oom-kill", status=9), (), "the kernel ended it for lack of memory"),
        (unit(result="core-dump", status=11), (), "signal 11 ended it"),
        (
            unit(result="exit-code", status=1),
            ("loading", "error loading model: unknown model architecture: 'qwen99'", "exiting due to model loading error"),
            "it ended with status 1: error loading model: unknown model architecture: 'qwen99'",
        ),
        (unit(result="exit-code", status=1), ("a", "the last line"), "it ended with status 1: the last line"),
    ],
)
def test_the_reason_is_the_first_line_that_names_a_cause(
    reading: UnitReading, words: tuple[str, ...], expected: str
) -> None:
    assert reason_of(reading, words) == expected


STATS = """# pxname,svname,qcur,status,lastchg,check_status,
api,FRONTEND,,OPEN,,,
engine-a,engine,0,UP,12,* L7OK,
engine-a,BACKEND,0,UP,12,,
engine-b,engine,0,DOWN,3,L7TOUT,
engine-c,engine,0,UP,3,INI,
"""


def test_what_haproxy_says_is_read_and_a_server_that_was_never_checked_is_not_up() -> None:
    assert parse_stats(STATS) == {
        "engine-a": FrontCheck(up=True, check="L7OK", since_s=12),
        "engine-b": FrontCheck(up=False, check="L7TOUT", since_s=3),
        "engine-c": FrontCheck(up=False, check="INI", since_s=3),
    }
    assert parse_stats("") == parse_stats("no csv at all\n\n") == {}
