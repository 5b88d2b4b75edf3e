"""The table of neighbours: its shares, verdicts and what it says of samples that do not count."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bench.neighbours.figure import Figure, Run, join_runs, parse_run, render_run, replace_rows
from bench.neighbours.inside import without_requests
from bench.neighbours.rows import ROWS, Victim, rows_of
from bench.neighbours.table import device_share, kept_shares, left_over_share, render_tables

CPU = next(row for row in ROWS if row.id == "cpu")


def figure(arm: str, row: str, round_: int, rate: float, **more: float | str | bool) -> Figure:
    base = Figure(place="guest", arm=arm, row=row, round=round_, rate=rate, duration_s=6.0, itl_p99_s=0.030)
    return replace(base, **more)  # type: ignore[arg-type]


def run() -> Run:
    return Run(
        place="guest",
        machine={"kernel": "6.12", "machine": "2 CPUs", "seed": "1"},
        alone={"cpu": 100.0},
        arms={"bedplate": "neighbour.slice cpu.weight 1"},
        figures=[
            figure("stock", "quiet", 1, 40.0),
            figure("stock", "quiet", 2, 20.0),
            figure("stock", "cpu", 1, 10.0, neighbour_rate=50.0, neighbour_cpu_s=5.0, idle_cpu_s=0.0, itl_p99_s=0.240),
            figure("stock", "cpu", 2, 6.0, neighbour_rate=50.0, neighbour_cpu_s=5.0, idle_cpu_s=0.0),
            figure("bedplate", "cpu", 1, 38.0, neighbour_rate=2.0, neighbour_cpu_s=1.0, idle_cpu_s=3.0),
            figure("bedplate", "cpu", 2, 99.0, rejected="foreign load: 9% of the CPUs"),
            figure("bedplate", "cpu", 2, 19.0, neighbour_rate=2.0, neighbour_cpu_s=1.0, idle_cpu_s=3.0),
        ],
    )


def test_rounds_that_are_added_are_shares_of_their_own_quiet_rates() -> None:
    slower = replace(run(), figures=[replace(figure, rate=figure.rate / 10) for figure in run().figures], notices=["cut"])
    both = join_runs(run(), slower)
    assert kept_shares(both, CPU, "stock") == pytest.approx([0.25, 0.30, 0.25, 0.30])
    assert {figure.round for figure in both.figures} == {1, 2, 3, 4}
    assert both.machine["seed"] == "1; 1"
    assert both.notices == ["In the run that was added: cut"]
    with pytest.raises(ValueError, match="cannot be added to one of"):
        join_runs(run(), replace(run(), machine=run().machine | {"kernel": "6.13"}))


def test_rows_that_are_measured_again_take_the_place_of_those_before() -> None:
    more = replace(run(), figures=[figure for figure in run().figures if figure.row in ("load", "load-io")])
    more.figures += [figure("stock", "load", 1, 100.0), figure("bedplate", "load-io", 1, 97.0)]
    first = run()
    first.figures += [figure("stock", "load", 1, 50.0), figure("bedplate", "load-io", 1, 20.0)]
    both = replace_rows(first, more)
    row = next(row for row in ROWS if row.id == "load-io")
    assert kept_shares(both, row, "bedplate") == [0.97]
    assert kept_shares(both, CPU, "stock") == [0.25, 0.30]
    assert both.notices == ["From a later run: the rows load, load-io of the arms bedplate, stock."]
    with pytest.raises(ValueError, match="load-io: its quiet row would be of another run"):
        replace_rows(first, replace(run(), figures=[figure("stock", "load", 1, 100.0)]))


def test_a_share_is_of_the_quiet_stock_engine_in_the_same_round() -> None:
    assert kept_shares(run(), CPU, "stock") == [0.25, 0.30]
    assert kept_shares(run(), CPU, "bedplate") == [0.95, 0.95]  # the rejected sample is not in it


def test_a_round_without_a_quiet_sample_takes_the_usual_one() -> None:
    cut = run()
    cut.figures[1] = replace(cut.figures[1], rejected="foreign load")
    assert kept_shares(cut, CPU, "stock") == [0.25, 0.15]


def test_without_any_quiet_sample_there_is_no_share() -> None:
    cut = run()
    cut.figures = cut.figures[2:]
    assert kept_shares(cut, CPU, "stock") == []
    assert "no number" in render_tables([cut], {})


@pytest.mark.parametrize(("neighbour_s", "idle_s", "share"), [(3.0, 1.0, 0.75), (0.0, 0.0, None), (0.0, 2.0, 0.0)])
def test_what_the_neighbour_took_of_what_was_left(neighbour_s: float, idle_s: float, share: float | None) -> None:
    assert left_over_share(figure("stock", "cpu", 1, 1.0, neighbour_cpu_s=neighbour_s, idle_cpu_s=idle_s)) == share


def test_of_a_device_the_loader_leaves_what_it_does_not_reach() -> None:
    half = figure("stock", "load-io", 1, 50.0, neighbour_rate=400.0)
    assert device_share(half, alone=1000.0, quiet=100.0) == pytest.approx(0.8)
    whole = figure("stock", "load-io", 1, 100.0, neighbour_rate=400.0)
    assert device_share(whole, alone=1000.0, quiet=100.0) is None  # nothing was left


def test_the_page_says_goals_misses_and_rejections() -> None:
    page = render_tables([run()], {"guest/cpu": "The emulated timer is coarse."})
    (kept,) = (line for line in page.splitlines() if line.startswith("| CPU: a busy thread for each CPU | 28 %"))
    assert kept == "| CPU: a busy thread for each CPU | 28 % (25–30) | 95 % (95–95) | 97 %: **missed** |"
    assert "| CPU: a busy thread for each CPU | 4.5 (1.0–8.0) | 1.0 (1.0–1.0) | 1.2: reached |" in page
    assert "95 % kept, goal 97 %" in page and "The emulated timer is coarse." in page
    assert "the neighbour took 25 % of what was left, goal 80 %" in page
    assert "6 of 7 samples count." in page and "foreign load: 9% of the CPUs" in page
    assert "- bedplate: neighbour.slice cpu.weight 1" in page


def test_a_run_is_read_back_as_it_was_written() -> None:
    assert parse_run(json.loads(render_run(run()))) == run()
    with pytest.raises(ValueError, match="schema 9"):
        parse_run({"schema": 9})


def test_rows_bring_the_quiet_rows_that_they_are_a_share_of() -> None:
    assert [row.id for row in rows_of("cpu,load-io")] == ["quiet", "cpu", "load", "load-io"]
    assert all(row.quiet in {row.id for row in ROWS} for row in ROWS if row.antagonist)
    with pytest.raises(ValueError, match="nosuch"):
        rows_of("nosuch")


GROW = next(row for row in ROWS if row.id == "grow")


def grown(*bedplate: float, stock: float = 8.0, ttft_s: float = 1.0) -> str:
    """The page of a run beside a memory grower, where the quiet engine has 10 tokens/s and a TTFT of a second."""
    figures = [figure("stock", "mapped", 1, 10.0, ttft_p50_s=1.0), figure("stock", "grow", 1, stock, ttft_p50_s=1.4)]
    figures += [
        figure("bedplate", "grow", 1 + number, rate, ttft_p50_s=ttft_s, neighbour_killed=number == 0)
        for number, rate in enumerate(bedplate)
    ]
    return render_tables([Run(place="guest", alone={"grow": 1.0}, figures=figures)], {})


def test_beside_a_memory_grower_every_sample_must_reach_the_goal_or_what_stock_keeps() -> None:
    said = "95 % or stock's in every sample"
    assert f"| 97 % (96\u201398) | {said}: reached |" in grown(9.6, 9.7, 9.8)
    assert f"| 97 % (60\u201398) | {said}: **missed** |" in grown(6.0, 9.7, 9.8), "the median alone would have passed"
    assert f"| 90 % (85\u201398) | {said}: reached |" in grown(8.5, 9.0, 9.8), "stock kept 80 %"
    assert f"| 97 % (60\u201398) | {said}: reached |" in grown(6.0, 9.7, 9.8, stock=5.0)


def test_the_time_to_the_first_token_is_counted_beside_a_memory_grower() -> None:
    for ttft_s, cell, verdict in ((1.02, "1.02 (1.02\u20131.02)", "reached"), (3.0, "3.00 (3.00\u20133.00)", "**missed**")):
        line = f"| {GROW.title} | 1.40 | {cell} | 1.05 or stock's in every sample: {verdict} |"
        assert line in grown(9.6, 9.7, ttft_s=ttft_s)


def test_a_neighbour_that_was_killed_for_the_lack_of_memory_is_told_and_its_sample_counts() -> None:
    page = grown(9.6, 9.7)
    assert "killed 1x" in page and "4 of 4 samples count." in page


@pytest.mark.parametrize(("cpu_s", "verdict"), [(1.3, "reached"), (0.2, "**missed**")])
def test_the_floor_is_the_share_of_the_cpus_that_a_build_has(cpu_s: float, verdict: str) -> None:
    """Twelve CPU seconds in six seconds of two CPUs: five percent are 0.6."""
    figures = [
        figure("stock", "quiet", 1, 10.0),
        figure("stock", "compile", 1, 5.0, neighbour_cpu_s=6.0),
        figure("bedplate", "compile", 1, 9.0, neighbour_cpu_s=cpu_s),
    ]
    page = render_tables([Run(place="guest", alone={"compile": 1.0}, figures=figures)], {})
    assert f"{cpu_s / 12 * 100:.{1 if cpu_s < 1 else 0}f} % of the CPUs | 5 % of the CPUs: {verdict} |" in page


def test_an_arm_without_samples_of_the_floor_has_no_share_of_the_cpus() -> None:
    figures = [
        figure("stock", "quiet", 1, 10.0),
        figure("nice -10", "quiet", 1, 10.0),
        figure("stock", "compile", 1, 5.0, neighbour_cpu_s=6.0),
    ]
    page = render_tables([Run(place="guest", alone={"compile": 1.0}, figures=figures)], {})
    assert "50 % of the CPUs | no number / \u2013 |" in page


def test_a_quiet_engine_that_answers_nothing_is_too_slow_for_the_sample() -> None:
    """On a host that emulates floats slowly every row was a share of 0, and counted."""
    rows = {row.id: row for row in ROWS}
    assert "no request ended within 10 s" in without_requests(rows["mapped"], 0, 10.0)
    assert without_requests(rows["mapped"], 1, 10.0) == ""
    assert without_requests(rows["grow"], 0, 10.0) == ""


def test_on_the_host_itself_nothing_is_measured_that_needs_the_guests_slices() -> None:
    only = {row.id for row in ROWS if row.guest_only}
    assert {row.id for row in ROWS if row.slice or row.victim is Victim.SWAP} <= only
