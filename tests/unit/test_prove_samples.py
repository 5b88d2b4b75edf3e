"""What was measured becomes numbers: steps of the dispatch loop, streams of tokens, CPU accounting, records."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.test_prove_judge import experiment

from bedplate.engines.client import parse_endpoint
from bedplate.errors import ReadError, UsageError
from bedplate.model.proof import Conditions, Effect, Judgement, Proof
from bedplate.prove.gauge.client import RequestLog, _chunk, _head, _take_line, make_prompt
from bedplate.prove.gauge.sampler import ProcessTimes, Snapshot, parse_cpu_line, parse_process, usage_between
from bedplate.prove.lab.ledger import parse_proof, read_proofs, render_proof, valid_proofs, write_proof
from bedplate.prove.lab.victims.emulator import DispatchLoop, parse_steps
from bedplate.prove.lab.victims.engine import Slo, summarise
from bedplate.prove.lab.victims.ring import SLOTS, StepRing

# -- the dispatch loop


def test_steps_in_a_block() -> None:
    measured = parse_steps([0.9, 1.0, 1.1, 1.5, 2.0, 2.9, 3.1], 1.0, 3.0)
    assert measured.work == 5
    assert measured.gaps_s == pytest.approx((0.1, 0.1, 0.4, 0.5, 0.9))
    assert measured.seconds == (3.0, 2.0)


def test_a_loop_that_stands_still_has_one_long_gap() -> None:
    assert parse_steps([0.9], 1.0, 3.0).gaps_s == pytest.approx((2.1,))
    assert parse_steps([], 1.0, 3.0).work == 0
    assert parse_steps([0.9, 1.1], 1.0, 3.0).gaps_s == pytest.approx((0.2, 1.9))  # it still waits at the end


@pytest.mark.parametrize("change", [{"period_s": 0.004}, {"work_s": 0.003}, {"workers": -1}])
def test_a_loop_outside_its_bounds_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        DispatchLoop(**change)  # type: ignore[arg-type]


def test_the_ring_is_read_while_it_is_written(tmp_path: Path) -> None:
    writer = StepRing(tmp_path / "steps", create=True)
    reader = StepRing(tmp_path / "steps", create=False)
    assert reader.period_s == 0 and reader.since(0) == ()
    writer.begin(0.01)
    for number in range(5):
        writer.add(number / 2)
    assert reader.period_s == 0.01 and reader.count == 5
    assert reader.since(3) == (1.5, 2.0) and reader.since(5) == ()
    for number in range(SLOTS):
        writer.add(float(number))
    assert (
        len(reader.since(0)) == SLOTS - 1 and reader.since(0)[-1] == SLOTS - 1
    )  # the slot that is written next is left out
    reader.close()
    writer.close()


# -- streams


def feed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def read_head(data: bytes) -> tuple[int, bool]:
    return await _head(feed(data))


def test_the_head_of_an_answer() -> None:
    async def read() -> list[tuple[int, bool]]:
        return [
            await _head(feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n")),
            await _head(feed(b"HTTP/1.0 503 Busy\r\nContent-Length: 3\r\n\r\nabc")),
        ]

    assert asyncio.run(read()) == [(200, True), (503, False)]
    with pytest.raises(ValueError, match="no HTTP answer"):
        asyncio.run(read_head(b"hello\r\n\r\n"))


def test_chunks() -> None:
    async def read() -> list[bytes]:
        reader = feed(b"5\r\nhello\r\n3;x=1\r\nabc\r\n0\r\n\r\n")
        return [await _chunk(reader) for _ in range(3)]

    assert asyncio.run(read()) == [b"hello", b"abc", b""]


def test_events_of_a_stream() -> None:
    log = RequestLog(due_s=0.0, wanted_tokens=4)
    lines = [
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}',
        b'data: {"choices":[{"delta":{"content":"a"}}]}',
        b": a comment",
        b"",
        b'data: {"choices":[{"delta":{"reasoning_content":"b"}}]}',
        b'data: {"choices":[],"usage":{"completion_tokens":4}}',
    ]
    assert not any(_take_line(line, log, float(at)) for at, line in enumerate(lines))
    assert log.token_s == [1.0, 4.0] and log.tokens == 4
    assert _take_line(b"data: [DONE]", log, 9.0)
    with pytest.raises(ValueError, match="the engine reported"):
        _take_line(b'data: {"error": {"message": "out of memory"}}', log, 9.0)


def make_log(tokens: list[float], *, due: float = 0.0, ended: float | None = None, counted: int | None = None) -> RequestLog:
    end = ended if ended is not None else (tokens[-1] if tokens else 0.0)
    return RequestLog(due_s=due, wanted_tokens=8, sent_s=due, token_s=tokens, ended_s=end, counted=counted)


def test_work_is_tokens_end_to_end() -> None:
    measured = summarise(
        [make_log([0.5, 0.6, 0.7], due=0.1), make_log([1.5, 1.7], due=0.8, ended=0.0)], 0.0, 2.0, slo=Slo(), late_s=0.0
    )
    assert measured.work == 5 and measured.seconds == (3.0, 2.0)
    assert measured.gaps_s == pytest.approx((0.1, 0.1, 0.2))
    assert measured.ttft_s == pytest.approx((0.4, 0.7))
    assert measured.e2e_s == pytest.approx((0.6,)) and (measured.requests, measured.good) == (1, 1)


def test_bursts_give_no_inter_token_latency() -> None:
    late = make_log([1.0, 1.0001, 1.0002, 1.0003, 1.5])
    measured = summarise([late], 0.0, 2.0, slo=Slo(), late_s=0.0)
    assert measured.gaps_s == () and measured.work == 5


def test_pieces_of_several_tokens_are_counted_by_the_engine() -> None:
    assert summarise([make_log([0.5, 1.0], counted=8)], 0.0, 2.0, slo=Slo(), late_s=0.0).work == 8


def make_stream(begin: float, *, prompt_s: float, gap_s: float, tokens: int, until: float) -> list[RequestLog]:
    """A stream that begins a request at `begin`; what has not come at `until` has not come."""
    logs = []
    while begin < until:
        times = [begin + prompt_s + number * gap_s for number in range(tokens)]
        log = make_log([at for at in times if at < until], due=begin, ended=times[-1] if times[-1] < until else 0.0)
        log.stream = 0
        logs.append(log)
        begin = times[-1]
    return logs


@pytest.mark.parametrize("phase", [number / 7 for number in range(20)])
def test_the_rate_of_a_steady_stream_does_not_depend_on_where_its_prompts_fall(phase: float) -> None:
    logs = make_stream(phase - 10.0, prompt_s=1.4, gap_s=0.14, tokens=12, until=20.0)
    counted = sum(0.0 <= at < 20.0 for log in logs for at in log.token_s)
    measured = summarise(logs, 0.0, 20.0, slo=Slo(), late_s=0.0)
    assert measured.work == pytest.approx(20.0 * 12 / (1.4 + 11 * 0.14))
    assert sum(measured.seconds) == counted


@pytest.mark.parametrize("stalls", ["at the beginning", "at the end", "all the time", "in the middle"])
def test_a_stall_of_a_steady_stream_is_counted(stalls: str) -> None:
    before, after = (make_stream(at, prompt_s=0.2, gap_s=0.1, tokens=9, until=at + 10.0) for at in (0.0, 30.0))
    begin, end = {
        "at the beginning": (15.0, 40.0),
        "at the end": (0.0, 25.0),
        "all the time": (12.0, 28.0),
        "in the middle": (0.0, 40.0),
    }[stalls]
    measured = summarise([*before, *after], begin, end, slo=Slo(), late_s=0.0)
    running_s = min(max(0.0, 10.0 - begin), 10.0) + min(max(0.0, end - 30.0), 10.0)
    assert measured.work == pytest.approx(9 * running_s, rel=0.12, abs=0.01)


def test_who_still_waits_for_the_first_token_is_seen() -> None:
    waiting = RequestLog(due_s=0.5, wanted_tokens=8, sent_s=0.5)
    assert summarise([waiting], 0.0, 10.0, slo=Slo(), late_s=0.0).ttft_s == pytest.approx((9.5,))


def test_an_slo_that_is_missed_is_not_good() -> None:
    measured = summarise([make_log([3.0, 3.1])], 0.0, 4.0, slo=Slo(ttft_s=2.0), late_s=0.0)
    assert (measured.requests, measured.good) == (1, 0)


def test_endpoints_and_prompts() -> None:
    assert parse_endpoint("http://[::1]:8080/v1").prefix == ""
    assert parse_endpoint("http://h/engine/v1").prefix == "/engine"
    assert parse_endpoint("unix:/run/engine.sock").socket == "/run/engine.sock"
    for wrong in ("https://h", "h:80", "http://", "http://h:99999"):
        with pytest.raises(UsageError):
            parse_endpoint(wrong)
    assert make_prompt(100, seed=1) != make_prompt(100, seed=2)
    assert len(make_prompt(100, seed=1).split()) == 97


# -- who used the CPUs


def process(
    pid: int, parent: int, cpu_s: float, *, session: int = 1, kernel: bool = False, children_s: float = 0
) -> ProcessTimes:
    return ProcessTimes(
        pid=pid, parent=parent, session=session, kernel=kernel, started=pid, cpu_s=cpu_s, children_s=children_s
    )


def snapshot(*processes: ProcessTimes, busy: float = 0.0, idle: float = 0.0, steal: float = 0.0) -> Snapshot:
    return Snapshot(
        at_s=busy + idle,
        busy_s=busy,
        interrupt_s=0.0,
        idle_s=idle,
        steal_s=steal,
        processes=processes,
        waited_s=0.0,
        run_s=0.0,
    )


def test_children_of_ours_are_ours_and_orphans_by_their_session() -> None:
    before = snapshot(process(10, 1, 0), process(11, 10, 0, session=11), process(13, 11, 0, session=11), process(20, 1, 0))
    after = snapshot(
        *(process(10, 1, 1), process(11, 10, 2, session=11), process(13, 1, 4, session=11), process(20, 1, 0.5)),
        busy=7.5,
        idle=2.5,
    )
    usage = usage_between(before, after, own=[10])
    # 13 has lost its parent meanwhile: it is known by the session that a child of ours opened
    assert usage.own_s == pytest.approx(7)
    assert usage.foreign_share == pytest.approx(0.05)


def test_the_terminals_other_processes_are_not_ours() -> None:
    before = snapshot(process(5, 1, 0, session=5), process(10, 5, 0, session=5), process(12, 5, 0, session=5))
    after = snapshot(process(5, 1, 0, session=5), process(10, 5, 1, session=5), process(12, 5, 3, session=5), busy=4, idle=6)
    assert usage_between(before, after, own=[10]).foreign_share == pytest.approx(0.3)


def test_kernel_threads_are_nobodys_and_steal_is_foreign() -> None:
    before = snapshot(process(10, 1, 0), process(2, 0, 0, kernel=True))
    after = snapshot(process(10, 1, 1), process(2, 0, 5, kernel=True), busy=6, idle=3, steal=1)
    assert usage_between(before, after, own=[10]).foreign_share == pytest.approx(0.1)


def test_work_of_children_that_ended_is_in_their_parent() -> None:
    before = snapshot(process(10, 1, 0), process(11, 10, 3))
    after = snapshot(process(10, 1, 0, children_s=4), busy=1, idle=9)
    assert usage_between(before, after, own=[10]).own_s == pytest.approx(1)


def test_a_shell_that_waited_for_a_long_build_is_no_load_of_now() -> None:
    before = snapshot(process(10, 1, 0), process(30, 1, 0))
    after = snapshot(process(10, 1, 0), process(30, 1, 0, children_s=500), busy=0.1, idle=9.9)
    assert usage_between(before, after, own=[10]).foreign_share < 0.02


def test_short_lived_foreign_processes_are_seen_in_the_sum() -> None:
    before = snapshot(process(10, 1, 0))
    after = snapshot(process(10, 1, 2), busy=6, idle=4)
    assert usage_between(before, after, own=[10]).foreign_share == pytest.approx(0.38)  # 4 s less the 2 % not believed


def test_lines_of_proc() -> None:
    assert parse_cpu_line("cpu  100 0 50 800 50 0 10 5 7 0\ncpu0 ...")[:4] == pytest.approx((1.0, 0.0, 0.5, 8.0))
    assert parse_cpu_line("") == (0.0,) * 8
    line = "42 (a) b) S 1 42 41 0 -1 2097152 0 0 0 0 150 50 30 20 20 0 1 0 777 0 0"
    found = parse_process(line)
    assert found is not None
    assert (found.pid, found.parent, found.session, found.kernel) == (42, 1, 41, True)
    assert found.started == 777
    assert (found.cpu_s, found.children_s) == pytest.approx((2.0, 0.5))
    assert parse_process("") is None


# -- records

NOW = Conditions(kernel="6.12.1", driver="", engine="llama.cpp 11669", machine="EPYC, 2 CPUs, 24 GiB")
PROOF = Proof(
    subject="vm.stat_interval=10",
    judgement=Judgement.NO_EFFECT,
    because="No gain.",
    effects=(
        Effect(
            metric="rate",
            unit="/s",
            higher_is_better=True,
            without=1.0,
            with_=1.0,
            ratio=1.0,
            low=0.99,
            high=1.01,
            p=2e-7,
            pairs=30,
        ),
    ),
    antagonists=("cpu.matrixprod",),
    victim="dispatch-loop",
    kernel=NOW.kernel,
    driver=NOW.driver,
    engine=NOW.engine,
    machine=NOW.machine,
    made="2026-11-24T22:00:00Z",
    seed=1,
    command="bedplate prove",
    samples=experiment(2, seed=1),
)


def test_a_record_comes_back_as_it_was() -> None:
    again = parse_proof(render_proof(PROOF), "x")
    assert replace(again, samples=()) == replace(PROOF, samples=())
    assert [sample.work for sample in again.samples] == pytest.approx([sample.work for sample in PROOF.samples], abs=1e-6)
    assert parse_proof(render_proof(again), "x") == again


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema": 2}, "schema"),
        ({"judgement": "fine"}, "judgement"),
        ({"seed": "1"}, "seed"),
        ({"surplus": 1}, "surplus"),
        ({"effects": [{"metric": "rate"}]}, "missing"),
    ],
)
def test_a_record_that_is_none_is_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(ReadError, match=what):
        parse_proof(json.dumps({**json.loads(render_proof(PROOF)), **change}), "x")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1, "seed": NaN}'])
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ReadError):
        parse_proof(text, "x")


def test_plans_rest_on_the_newest_that_holds(tmp_path: Path) -> None:
    assert read_proofs(tmp_path / "none") == ()
    write_proof(PROOF, tmp_path / "kept")
    newer = replace(PROOF, made="2026-11-25T22:00:00Z", judgement=Judgement.KEEP)
    write_proof(newer, tmp_path / "kept")
    write_proof(replace(newer, made="2026-11-26T22:00:00Z", judgement=Judgement.REFUSED), tmp_path / "kept")
    write_proof(replace(newer, made="2026-11-27T22:00:00Z", kernel="5.10"), tmp_path / "kept")
    assert [proof.judgement for proof in valid_proofs(tmp_path / "kept", NOW)] == [Judgement.KEEP]
    assert [proof.expired for proof in read_proofs(tmp_path / "kept", NOW)] == ["", "", "", "kernel: 5.10 then, 6.12.1 now"]
    (tmp_path / "kept/x.json").write_text("{}")
    with pytest.raises(ReadError, match=r"x\.json"):
        read_proofs(tmp_path / "kept")
