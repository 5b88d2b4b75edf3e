"""The load client against a server that counts what it is asked: no request, no token is lost or made up."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from bedplate.engines.client import parse_endpoint
from bedplate.errors import NotRunningError
from bedplate.host.root.root import Root
from bedplate.prove.gauge.arrivals import Arrival, read_trace, scale
from bedplate.prove.gauge.client import RequestLog, replay
from bedplate.prove.lab.victims.engine import EngineVictim, Load, find_listeners
from tests.prove.fake_engine import fake_engine

TRACE = Path(__file__).parents[3] / "shared/data/traces/azure2023_code_first_half.csv"


def test_a_replay_sends_exactly_what_the_trace_holds() -> None:
    arrivals = tuple(Arrival(at_s=n * 0.03, input_tokens=20 + n, output_tokens=3 + n % 5) for n in range(30))
    logs: list[RequestLog] = []
    with fake_engine() as engine:
        asyncio.run(replay(parse_endpoint(engine.url), arrivals, logs, seed=1))
    assert [log.problem for log in logs] == [""] * 30
    assert sorted(request["max_tokens"] for request in engine.asked) == sorted(arrival.output_tokens for arrival in arrivals)
    assert sum(log.tokens for log in logs) == sum(arrival.output_tokens for arrival in arrivals)
    due_s = [log.due_s - logs[0].due_s for log in logs]
    assert due_s == pytest.approx([arrival.at_s for arrival in arrivals])
    assert all(log.sent_s >= log.due_s for log in logs)  # by how much it is late, only the host knows
    assert len({request["messages"][0]["content"] for request in engine.asked}) == 30


@pytest.mark.data
@pytest.mark.skipif(not TRACE.is_file(), reason="the published traces are not beside the checkout")
def test_totals_of_the_worst_half_minute_arrive_at_the_engine() -> None:
    arrivals = scale(read_trace(TRACE, window_s=(850, 880)), tokens=0.05, time=0.2, seed=1)
    logs: list[RequestLog] = []
    with fake_engine(first_s=0.0, gap_s=0.0) as engine:
        asyncio.run(replay(parse_endpoint(engine.url), arrivals, logs, seed=1))
    assert len(engine.asked) == len(logs) == 551
    assert sum(request["max_tokens"] for request in engine.asked) == sum(arrival.output_tokens for arrival in arrivals)
    assert sum(log.tokens for log in logs) == sum(arrival.output_tokens for arrival in arrivals)


def test_open_loop_does_not_wait_for_a_slow_engine() -> None:
    arrivals = tuple(Arrival(at_s=n * 0.02, input_tokens=4, output_tokens=2) for n in range(10))
    logs: list[RequestLog] = []
    with fake_engine(first_s=0.6, answers_after=len(arrivals)) as engine:
        asyncio.run(replay(parse_endpoint(engine.url), arrivals, logs, seed=1))
        assert not engine.gave_up, "the client waited for an answer before it sent all requests"
    assert all((log.ttft_s or 0) >= 0.6 for log in logs)


def test_steady_streams_are_measured_in_blocks() -> None:
    with fake_engine(first_s=0.02, gap_s=0.01) as engine:
        victim = EngineVictim(parse_endpoint(engine.url), engine.url, load=Load(streams=2, output_tokens=10))
        victim.start()
        with victim.loaded():
            first, second = victim.measure(1.0), victim.measure(1.0)
    for measured in (first, second):
        assert measured.failed == 0 and measured.requests > 0 and len(measured.seconds) == 1
        assert measured.work == pytest.approx(sum(measured.seconds), rel=0.1)
        assert sum(measured.gaps_s) / len(measured.gaps_s) > 0.005 and min(measured.ttft_s) >= 0.02
        assert measured.late_s >= 0


def test_tokens_that_come_at_once_give_no_latency_but_their_number() -> None:
    with fake_engine(burst=True, first_s=0.05) as engine:
        victim = EngineVictim(parse_endpoint(engine.url), engine.url, load=Load(output_tokens=20))
        victim.start()
        with victim.loaded():
            measured = victim.measure(1.0)
    assert measured.gaps_s == () and measured.work > 20


def test_an_engine_that_refuses_is_told_at_the_start() -> None:
    with fake_engine(status=503) as engine:
        victim = EngineVictim(parse_endpoint(engine.url), engine.url, load=Load())
        with pytest.raises(NotRunningError, match="status 503"):
            victim.start()
    victim = EngineVictim(parse_endpoint(engine.url), engine.url, load=Load())
    with pytest.raises(NotRunningError, match="Connection"):
        victim.start()


def test_an_engine_that_dies_in_a_block_leaves_failures_not_a_hang() -> None:
    with fake_engine(gap_s=0.01) as engine:
        victim = EngineVictim(parse_endpoint(engine.url), engine.url, load=Load(output_tokens=5))
        victim.start()
        loaded = victim.loaded()
        loaded.__enter__()
    try:
        time.sleep(0.3)
        measured = victim.measure(0.5)
    finally:
        loaded.__exit__(None, None, None)
    assert measured.failed == measured.requests > 0 and measured.work == 0


def test_the_process_behind_a_port_is_found() -> None:
    with fake_engine() as engine:
        assert find_listeners(Root(), int(engine.server_address[1])) == (os.getpid(),)
    assert find_listeners(Root(), 1) == ()
