"""Traces become arrivals without losing one request or one token."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bedplate.errors import BedplateError, ReadError, UsageError
from bedplate.prove.gauge.arrivals import (
    Arrival,
    cut,
    draw_servegen,
    parse_azure,
    parse_mooncake,
    parse_window,
    read_trace,
    render_totals,
    scale,
)

TRACES = Path(__file__).parents[3] / "shared/data/traces"
AZURE = "t_s,input_tokens,output_tokens\n0.000,374,44\n4.315,396,109\n4.315,7,1\n"
MOONCAKE = "\n".join(
    json.dumps({"timestamp": at, "input_length": 10, "output_length": 2, "hash_ids": [0]}) for at in (0, 0, 3000, 3000, 6000)
)
DENSITIES = json.dumps({"0": {"input_tokens": "{18: 0.25, 19: 0.75}", "output_tokens": "{1: 1.0}"}})


def test_azure() -> None:
    assert parse_azure(AZURE, "x")[1] == Arrival(at_s=4.315, input_tokens=396, output_tokens=109)


def test_mooncakes_ticks_are_spread_and_stay_in_their_tick() -> None:
    arrivals = parse_mooncake(MOONCAKE, "x", seed=1)
    times = [arrival.at_s for arrival in arrivals]
    assert len(set(times)) == 5 and times == sorted(times)
    assert all(0 <= time < 3 for time in times[:2]) and all(3 <= time < 6 for time in times[2:4]) and 6 <= times[4] < 9
    assert parse_mooncake(MOONCAKE, "x", seed=1) == arrivals != parse_mooncake(MOONCAKE, "x", seed=2)


def test_servegen_gives_as_many_requests_as_its_rate_says() -> None:
    rows = "0,2.0,5.3,Weibull,0.4,0.028\n600,0.5,4.6,Gamma,0.4,0.05\n"
    arrivals = draw_servegen(rows, DENSITIES, "x", seed=1)
    assert len(arrivals) == 1200 + 300
    assert sum(arrival.at_s < 600 for arrival in arrivals) == 1200 and max(arrival.at_s for arrival in arrivals) < 1200
    assert {arrival.input_tokens for arrival in arrivals} == {18, 19} and {
        arrival.output_tokens for arrival in arrivals
    } == {1}
    later = draw_servegen(rows, DENSITIES, "x", seed=1, window_s=(600, 1200))
    assert later == tuple(arrival for arrival in arrivals if arrival.at_s >= 600)  # a window is the same however it is cut


def test_a_window_keeps_what_arrives_in_it() -> None:
    arrivals = parse_azure(AZURE, "x")
    assert [arrival.at_s for arrival in cut(arrivals, (4, 5))] == pytest.approx([0.315, 0.315])
    assert parse_window("850:880") == (850.0, 880.0)
    for wrong in ("880:850", "5", "a:b", "1:1", ""):
        with pytest.raises(UsageError, match="window"):
            parse_window(wrong)


@pytest.mark.parametrize("factor", [0.01, 0.1, 0.37, 1.0, 3.0])
def test_scaling_keeps_the_shape_and_nearly_the_sum(factor: float) -> None:
    arrivals = tuple(Arrival(at_s=n / 10, input_tokens=100 + n % 50, output_tokens=200 + n % 90) for n in range(1000))
    scaled = scale(arrivals, tokens=factor, time=2.0, seed=1)
    assert scaled == scale(arrivals, tokens=factor, time=2.0, seed=1)
    assert [arrival.at_s for arrival in scaled] == pytest.approx([arrival.at_s * 2 for arrival in arrivals])
    wanted = sum(arrival.output_tokens for arrival in arrivals) * factor
    assert sum(arrival.output_tokens for arrival in scaled) == pytest.approx(wanted, rel=0.02)
    assert min(arrival.output_tokens for arrival in scaled) >= 1


def test_totals_say_both_factors() -> None:
    assert render_totals(parse_azure(AZURE, "x"), tokens=0.5, time=2) == (
        "3 requests in 4.3 s, 777 tokens in, 154 out; tokens x0.5, time x2"
    )


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.csv", "t_s,input_tokens,output_tokens\n0.1,5\n", ":2:"),
        ("a.csv", "t_s,input_tokens,output_tokens\n-1,5,5\n", ":2:"),
        ("a.csv", "t_s,input_tokens,output_tokens\n", "no request"),
        ("a.csv", "hello\n", "unknown trace format"),
        ("a.jsonl", '{"timestamp": 1}\n', ":1:"),
        ("a.jsonl", "{\n", ":1:"),
        ("a-trace.csv", "0,1,1,Poisson,1,1\n", "dataset"),
    ],
)
def test_what_is_no_trace_is_said(tmp_path: Path, name: str, text: str, where: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReadError, match=where):
        read_trace(tmp_path / name)


def test_a_density_is_never_evaluated() -> None:
    hostile = json.dumps({"0": {"input_tokens": "__import__('os').abort()", "output_tokens": "{1: 1}"}})
    with pytest.raises(BedplateError, match=r"dataset\.json"):
        draw_servegen("0,1,1,Gamma,1,1\n", hostile, "x", seed=1)


data = pytest.mark.skipif(not TRACES.is_dir(), reason="the published traces are not beside the checkout")


@pytest.mark.data
@data
@pytest.mark.parametrize("name", ["azure2023_code_first_half.csv", "azure2023_conv_first_half.csv"])
def test_totals_of_the_azure_traces_are_exact(name: str) -> None:
    with (TRACES / name).open() as source:
        rows = list(csv.DictReader(source))
    arrivals = read_trace(TRACES / name)
    assert len(arrivals) == len(rows)
    assert sum(arrival.input_tokens for arrival in arrivals) == sum(int(row["input_tokens"]) for row in rows)
    assert sum(arrival.output_tokens for arrival in arrivals) == sum(int(row["output_tokens"]) for row in rows)
    assert [arrival.at_s for arrival in arrivals] == sorted(float(row["t_s"]) for row in rows)


@pytest.mark.data
@data
def test_the_worst_half_minute_of_the_code_trace() -> None:
    assert len(read_trace(TRACES / "azure2023_code_first_half.csv", window_s=(850, 880))) == 551


@pytest.mark.data
@data
def test_totals_of_mooncake_are_exact() -> None:
    path = TRACES / "mooncake_conversation_first_half.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    arrivals = read_trace(path)
    assert len(arrivals) == len(rows)
    assert sum(arrival.input_tokens for arrival in arrivals) == sum(row["input_length"] for row in rows)
    assert sum(arrival.output_tokens for arrival in arrivals) == sum(row["output_length"] for row in rows)
    counts = [sum(int(arrival.at_s) == second for arrival in arrivals) for second in range(60)]
    assert max(counts) < 16  # the tick of 16 requests at once is no burst any more


@pytest.mark.data
@data
def test_a_window_of_servegen() -> None:
    arrivals = read_trace(TRACES / "servegen/m-small/chunk-14-trace.csv", window_s=(0, 600), seed=1)
    assert len(arrivals) == round(19.053333333333335 * 600)
    assert all(0 <= arrival.at_s < 600 and arrival.input_tokens >= 18 for arrival in arrivals)


_DENSITY = '{"input_tokens": "{1: 1}", "output_tokens": "{1: 1}"}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"timestamp": 1e999, "input_length": 1, "output_length": 1}'),
        ("a.jsonl", '{"timestamp": 1, "input_length": 1e999, "output_length": 1}'),
        ("a.jsonl", '{"timestamp": NaN, "input_length": 1, "output_length": 1}'),
        ("a.jsonl", '{"timestamp": ' + "9" * 400 + ', "input_length": 1, "output_length": 1}'),
        ("a.jsonl", '{"timestamp": -1, "input_length": 1, "output_length": 1}'),
        ("a.jsonl", "[" * 100_000),
        ("a.csv", 't_s,input_tokens,output_tokens\n"' + "x" * 200_000),
    ],
)
def test_a_hostile_trace_is_refused_with_its_line(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReadError, match=rf"{name}:[12]: "):
        read_trace(tmp_path / name)


@pytest.mark.parametrize(
    ("trace", "dataset"),
    [
        ("0,1,1,Gamma,1,1", "[" * 100_000),
        ("0,1,1,Gamma,1,1", "{}"),
        ("0,1,1,Gamma,1,1", '{"0": ' + _DENSITY.replace(": 1}", ": 0}") + "}"),
        ("0,1,1,Gamma,1,1", '{"0": ' + _DENSITY.replace(": 1}", ": 1e999}") + "}"),
        ("0,1,1,Gamma,1,1", '{"nan": ' + _DENSITY + "}"),
        ("nan,1,1,Gamma,1,1", '{"0": ' + _DENSITY + "}"),
        ("0,1,1,Gamma,1e-300,1", '{"0": ' + _DENSITY + "}"),
        ("0,1,1,Weibull,1e-9,1", '{"0": ' + _DENSITY + "}"),
    ],
)
def test_a_hostile_trace_of_servegen_is_refused(trace: str, dataset: str, tmp_path: Path) -> None:
    (tmp_path / "b-trace.csv").write_text(trace + "\n")
    (tmp_path / "b-dataset.json").write_text(dataset)
    with pytest.raises(ReadError, match=r"b-trace.csv:"):
        read_trace(tmp_path / "b-trace.csv")
