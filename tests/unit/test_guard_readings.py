"""What the closed loop reads, on a made tree that changes between two readings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tree import make_root

from bedplate.cli.main import main
from bedplate.errors import UsageError
from bedplate.flows.guard import read_bounds
from bedplate.host.kernel.guard_readings import GuardReader, parse_io_stat, read_limits
from bedplate.host.kernel.processes import parse_schedstat
from bedplate.host.root.root import Root
from bedplate.model.guard import NeighbourLimits

CGROUP = "/sys/fs/cgroup"


def schedstat(tid: int, run: int, wait: int, pid: int = 10) -> tuple[str, str]:
    return f"/proc/{pid}/task/{tid}/schedstat", f"{run} {wait} 1"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return make_root(
        tmp_path,
        {
            f"{CGROUP}/inference.slice/cgroup.procs": "",
            f"{CGROUP}/inference.slice/a.service/cgroup.procs": "10\n11",
            f"{CGROUP}/inference.slice/memory.pressure": "some avg10=0.00 avg300=0.00 total=2500000\nfull total=1",
            f"{CGROUP}/inference.slice/memory.stat": "anon 1\nworkingset_refault_anon 2\nworkingset_refault_file 3",
            f"{CGROUP}/inference.slice/cpu.stat": "usage_usec 5\nnr_throttled 4",
            f"{CGROUP}/neighbour.slice/cpu.stat": "usage_usec 1500000",
            f"{CGROUP}/neighbour.slice/memory.current": "4096",
            f"{CGROUP}/neighbour.slice/io.stat": "254:0 rbytes=10 wbytes=5 rios=1 wios=1 dbytes=7 dios=0",
            f"{CGROUP}/neighbour.slice/cpu.max": "100000 100000",
            f"{CGROUP}/neighbour.slice/memory.high": "max",
            f"{CGROUP}/neighbour.slice/io.weight": "default 50",
            "/proc/meminfo": "MemTotal: 1000 kB",
            **dict([schedstat(10, 1_000_000_000, 0), schedstat(12, 5, 0)]),
            **dict([schedstat(11, 2_000_000_000, 500_000_000, pid=11)]),
        },
    )


def test_a_reading_holds_the_counters_of_engine_and_neighbours(root: Root) -> None:
    reading = GuardReader(root, "inference.slice", "neighbour.slice", clock=lambda: 1.0).read()
    assert (reading.engine_memory_stall_s, reading.engine_refaults, reading.engine_throttled) == (2.5, 5, 4)
    assert (reading.neighbour_cpu_s, reading.neighbour_memory_bytes, reading.neighbour_io_bytes) == (1.5, 4096, 15)
    assert reading.engine_io_stall_s is None  # this kernel has no io.pressure


def test_sums_never_go_back_when_other_threads_are_watched(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the one busiest thread is watched; after it ended another one is."""
    monkeypatch.setattr("bedplate.host.kernel.guard_readings.THREADS", 1)
    now = [0.0]
    reader = GuardReader(root, "inference.slice", "neighbour.slice", clock=lambda: now[0])
    first = reader.read()
    path, text = schedstat(11, 3_000_000_000, 900_000_000, pid=11)
    root.at(path).write_text(text)
    now[0] = 1.0
    second = reader.read()
    assert second.engine_run_s - first.engine_run_s == pytest.approx(1.0)
    assert second.engine_wait_s - first.engine_wait_s == pytest.approx(0.4)
    path, text = schedstat(10, 9_000_000_000, 100_000_000)
    root.at(path).write_text(text)
    now[0] = 31.0
    third = reader.read()  # chooses again: the one that ran 8 s since
    now[0] = 32.0
    path, text = schedstat(10, 9_500_000_000, 300_000_000)
    root.at(path).write_text(text)
    fourth = reader.read()
    assert third.engine_run_s == second.engine_run_s
    assert fourth.engine_run_s - third.engine_run_s == pytest.approx(0.5)
    assert fourth.engine_wait_s - third.engine_wait_s == pytest.approx(0.2)


def test_limits_of_the_neighbours_are_read_as_they_stand(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    bounds = read_bounds(root, "neighbour.slice")
    assert bounds.planned == NeighbourLimits(cpu_max_pct=50, memory_high_bytes=None, io_weight=50)
    assert bounds.memory_bytes == 1000 * 1024


@pytest.mark.parametrize(("text", "meaning"), [("7 8 9", (7, 8)), (None, (0, 0)), ("x y", (0, 0)), ("1", (0, 0))])
def test_schedstat(text: str | None, meaning: tuple[int, int]) -> None:
    assert parse_schedstat(text) == meaning


def test_io_stat_of_several_devices() -> None:
    assert parse_io_stat("254:0 rbytes=1 wbytes=2 rios=0\n8:0 rbytes=4 wbytes=0\n7:0") == 7


def test_a_wrong_command_line_is_told() -> None:
    assert main(["guard", "--interval", "0"]) == UsageError.exit_code
    assert main(["guard", "--neighbour", "a/b"]) == UsageError.exit_code


def test_a_quota_that_is_no_whole_percent_counts_as_less(root: Root) -> None:
    root.at(f"{CGROUP}/neighbour.slice/cpu.max").write_text("3700 100000")
    assert read_limits(root, "neighbour.slice", 2).cpu_max_pct == 1
