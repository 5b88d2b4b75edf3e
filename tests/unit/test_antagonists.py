"""Rows of antagonists, the words that they become, and how their programs' outputs are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.catalog.antagonists import KINDS, WORDS, choose_antagonists, parse_antagonists, read_antagonists
from bedplate.errors import DataError, ReadError, UsageError
from bedplate.model.proof import Antagonist
from bedplate.prove.lab.antagonists.count import count_fio_bytes, parse_iperf3, parse_stdout, parse_stress_ng
from bedplate.prove.lab.antagonists.fill import Ground, Scale, busy_cpus, file_bytes_of, fill, fill_server
from bedplate.prove.lab.antagonists.place import PLAIN, CgroupTarget, check_place, enter

ROWS = read_antagonists()
TWO = Scale(cpus=2, memory_bytes=8 << 30, available_bytes=6 << 30, llc_bytes=32 << 20)
GROUND = Ground(file="/s/data", out="/s/out", files="/s", file_bytes=1 << 30, tree="/s/tree", port=4711)

ROW = """
schema = 1
[[antagonist]]
id = "cpu.x"
kind = "cpu"
name = "x"
real = false
program = "stress-ng"
package = "stress-ng"
argv = ["--cpu", "{workers}", "--timeout", "{seconds}"]
work = "stress-ng"
levels_pct = [0, 100]
full = "all"
problem = "It takes the CPU."
sources = ["stress-ng(1)"]
"""


def row(id: str) -> Antagonist:
    (found,) = [row for row in ROWS if row.id == id]
    return found


def test_each_kind_has_a_synthetic_and_a_real_neighbour() -> None:
    assert {row.kind for row in ROWS if not row.real} == set(KINDS)
    assert {row.kind for row in ROWS if row.real} == set(KINDS)


def test_every_row_is_filled_at_every_level() -> None:
    for row in ROWS:
        for level in row.levels_pct[1:]:
            for word in (*fill(row, level, 10, TWO, GROUND), *fill_server(row, level, 10, TWO, GROUND)):
                assert not any(f"{{{name}}}" in word for name in WORDS), (row.id, word)


def test_every_word_that_a_row_may_write_can_be_filled() -> None:
    import dataclasses

    all_words = dataclasses.replace(ROWS[0], argv=tuple(f"{{{name}}}" for name in sorted(WORDS)))
    assert len(fill(all_words, 100, 1, TWO, GROUND)) == len(WORDS) + 1


@pytest.mark.parametrize(
    ("level", "workers", "load", "busy"),
    [(25, "1", "50", 0.5), (50, "1", "100", 1), (100, "2", "100", 2), (200, "4", "100", 2)],
)
def test_the_ladder_of_cpu_hogs(level: int, workers: str, load: str, busy: float) -> None:
    words = fill(row("cpu.matrixprod"), level, 10, TWO, GROUND)
    assert words == ("stress-ng", "--cpu", workers, "--cpu-method", "matrixprod", "--cpu-load", load, "--timeout", "10")
    assert busy_cpus(row("cpu.matrixprod"), level, TWO) == busy


def test_a_memory_hog_asks_for_what_is_available_and_a_scan_for_what_is_there() -> None:
    assert fill(row("memory.touch"), 200, 10, TWO, GROUND)[4] == str(12 << 30)
    assert file_bytes_of(row("pagecache.scan"), 200, TWO) == 16 << 30
    assert file_bytes_of(row("io.randread"), 25, TWO) == 4 << 30
    assert file_bytes_of(row("cpu.matrixprod"), 100, TWO) == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('id = "cpu.x"', 'id = "gpu.x"'), "expected cpu.some-words"),
        (('kind = "cpu"', 'kind = "gpu"'), "expected one of cpu, memory"),
        (("{workers}", "{wrokers}"), "{wrokers} is no word"),
        (("{seconds}", "10"), "must be bounded in time"),
        (("[0, 100]", "[25, 100]"), "expected 0 and rising levels"),
        (("[0, 100]", "[0, 100, 50]"), "expected 0 and rising levels"),
        (('program = "stress-ng"', 'program = ""'), "expected a program, or parts"),
        (('program = "stress-ng"', 'program = "/bin/sh"'), "looked up on PATH"),
        (('work = "stress-ng"', 'work = "bogo"'), "expected one of stress-ng, fio"),
        (('"{workers}"', '"{file}"'), "the words name a file"),
        (('sources = ["stress-ng(1)"]', 'sources = ["S999"]'), "S999 is not in sources.toml"),
        (('sources = ["stress-ng(1)"]', "sources = []"), "sources: is empty"),
        (("real = false", "reel = false"), "reel: unknown key"),
        (("schema = 1", "schema = 2"), "got 2, expected 1"),
    ],
)
def test_bad_rows_are_refused_with_their_place(change: tuple[str, str], problem: str) -> None:
    assert parse_antagonists(ROW, {}, name="x.toml")
    with pytest.raises(DataError) as caught:
        parse_antagonists(ROW.replace(*change), {}, name="x.toml")
    assert problem in caught.value.message
    assert all(problem.startswith("x.toml:") for problem in caught.value.problems)


def test_rows_are_chosen_by_id_and_by_kind() -> None:
    assert [antagonist.id for antagonist in choose_antagonists(("io", "cpu.compile", "cpu"), ROWS)] == [
        "cpu.matrixprod",
        "cpu.compile",
        "io.randread",
    ]
    with pytest.raises(UsageError, match="'gpu'"):
        choose_antagonists(("gpu",), ROWS)


STRESS_NG = """\
---
system-info:
      stress-ng-version: 0.15.06
metrics:
    - stressor: vm
      bogo-ops: 12697
      bogo-ops-per-second-usr-sys-time: 5863.594163
      max-rss: 104236

    - stressor: cpu
      bogo-ops: 1232
      bogo-ops-per-second-real-time: 1230.770786
...
"""
FIO = """\
fio: terminating on signal 2
{"fio version": "fio-3.33", "jobs": [
 {"jobname": "rr", "error": 0, "read": {"io_bytes": 571400192, "bw": 250000}, "write": {"io_bytes": 4096}},
 {"jobname": "r2", "error": 0, "read": {"io_bytes": 100}, "write": {"io_bytes": 0}, "trim": {"io_bytes": 7}}]}
"""


def test_outputs_are_counted() -> None:
    assert parse_stress_ng(STRESS_NG) == 13929
    assert parse_stress_ng("---\nmetrics:\n...\n") == 0  # starved until the end
    assert count_fio_bytes(FIO) == 571400192 + 4096 + 100
    assert parse_stdout("1\n1\nmake: warning: jobserver\n2.5\nnan\n-4\n") == 4.5
    end = {"sum_sent": {"bytes": 7528775680}, "sum_received": {"bytes": 0}}
    interrupted = {"end": end, "error": "interrupt - the client has terminated"}
    assert parse_iperf3(json.dumps(interrupted)) == 7528775680
    assert parse_iperf3(json.dumps({"end": {"sum": {"bytes": 64000}}})) == 64000
    assert parse_iperf3(json.dumps({"end": {}, "intervals": [{"sum": {"bytes": 5}}, {"sum": {"bytes": 7}}]})) == 12


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (parse_stress_ng, "---\nsystem-info:\n...\n", "no bogo-ops"),
        (count_fio_bytes, "fio: no such job\n", "wrote no JSON"),
        (count_fio_bytes, '{"jobs": []}', "has no jobs"),
        (count_fio_bytes, '{"jobs": [{"jobname": "rr", "error": 22}]}', "error 22"),
        (count_fio_bytes, '{"jobs": ', "broken"),
        (parse_iperf3, '{"end": {}, "intervals": [], "error": "unable to connect to server"}', "unable to connect"),
    ],
)
def test_outputs_of_failures_are_no_zero(parse: object, text: str, problem: str) -> None:
    assert callable(parse)
    with pytest.raises(ReadError, match=problem):
        parse(text)


def test_a_place_is_words_before_the_program() -> None:
    argv = ("stress-ng", "--cpu", "2")
    assert enter(PLAIN, "u", argv) == argv
    assert enter(CgroupTarget(prefix=("nice", "-n", "19")), "u", argv) == ("nice", "-n", "19", *argv)
    assert enter(CgroupTarget(slice="neighbour.slice", properties=("MemoryHigh=1G",)), "u", argv) == (
        *("systemd-run", "--scope", "--quiet", "--collect", "--slice=neighbour.slice", "--unit=u", "-p", "MemoryHigh=1G"),
        *("--", *argv),
    )
    words = enter(CgroupTarget(cgroups=(Path("/sys/fs/cgroup/a b"),)), "u", argv)
    assert words[:2] == ("sh", "-c")
    assert words[3:] == ("sh", "1", "/sys/fs/cgroup/a b", *argv)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        (CgroupTarget(slice="neighbour.slice", cgroups=(Path("/x"),)), "one of the two"),
        (CgroupTarget(slice="neighbour"), "such as neighbour.slice"),
        (CgroupTarget(properties=("MemoryHigh=1G",)), "no slice"),
        (CgroupTarget(cgroups=(Path("/nonexistent"),)), "not a control group"),
    ],
)
def test_places_that_cannot_be_are_refused(place: CgroupTarget, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_place(place)
