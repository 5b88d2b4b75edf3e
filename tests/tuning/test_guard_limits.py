"""The neighbours' limits on a tree of control groups: moved, refused, gone, and given back whatever ends the guard."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.act import guard, run
from bedplate.act.guard import move_limits, release_limits
from bedplate.act.run import Completed
from bedplate.cli.main import main
from bedplate.errors import BedplateError, BusyError, CommandError, ReadError
from bedplate.host.kernel import guard_readings
from bedplate.host.kernel.guard_readings import read_limits
from bedplate.host.root.root import Root
from bedplate.model.guard import GuardBounds, GuardReading, NeighbourLimits
from bedplate.model.units import GIB
from tests.tuning.test_killed import killed, unwrapped

UNIT = "neighbour.slice"
GROUP = f"sys/fs/cgroup/{UNIT}"
CONTROL = f"run/systemd/system.control/{UNIT}.d"
TIMER = f"bedplate-guard-{UNIT}.timer"
PLANNED = {"cpu.max": "max 100000", "memory.high": "4294967296", "io.weight": "default 100"}
FILES = {
    "proc/meminfo": "MemTotal:       16777216 kB",
    "run/systemd/system/.keep": "",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
    "sys/fs/cgroup/inference.slice/cgroup.procs": "",
    f"{GROUP}/cgroup.procs": "",
    **{f"{GROUP}/{name}": text for name, text in PLANNED.items()},
}
CPUS = 2
NONE = NeighbourLimits(cpu_max_pct=None, memory_high_bytes=4 * GIB, io_weight=100)
BOUNDS = GuardBounds(cpus=CPUS, planned=NONE, memory_bytes=16 * GIB)
TIGHT = NeighbourLimits(cpu_max_pct=70, memory_high_bytes=GIB, io_weight=70)


class FakeSystemd:
    """Does to the tree what systemd does: properties become files and limits, a reload reads the files again."""

    def __init__(self, top: Path) -> None:
        self.top, self.calls = top, list[tuple[str, ...]]()
        self.groups: dict[str, str] = {}
        """Control groups of units, by systemd's own words."""
        self.refuse = ""
        """A word of the commands that fail."""

    def __call__(self, argv: Sequence[str], **_: object) -> Completed:
        with unwrapped():
            return self._run(tuple(argv))

    def _run(self, argv: tuple[str, ...]) -> Completed:
        self.calls.append(argv)
        if self.refuse and self.refuse in argv:
            raise CommandError(f"{' '.join(argv)}: Unit {UNIT} not found.", status=1)
        match argv[:2]:
            case ("systemctl", "set-property"):
                if not (self.top / GROUP).exists():
                    raise CommandError(f"Failed to set unit properties on {UNIT}: Unit not found.", status=1)
                for word in argv[4:]:
                    name, _, value = word.partition("=")
                    file = self.top / CONTROL / f"50-{name}.conf"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(f"# This is a drop-in unit file extension, do not edit.\n[Slice]\n{name}={value}\n")
                self._set_groups()
            case ("systemctl", "daemon-reload"):
                self._set_groups()
            case ("systemctl", "start" | "restart"):
                (self.top / "run/timers").mkdir(exist_ok=True)
                (self.top / "run/timers" / argv[2]).touch()
            case ("systemctl", "stop"):
                (self.top / "run/timers" / argv[2]).unlink(missing_ok=True)
        if argv[-1] in self.groups or "--property=ControlGroup" in argv:
            output = f"ControlGroup={self.groups.get(argv[-1], '')}\n"
            return Completed(argv=argv, status=0, output=output, errors="", elapsed_s=0.0, cpu_s=0.0)
        output = "ActiveState=active\nSlice=-.slice\n" if argv[:2] == ("systemctl", "show") else ""
        return Completed(argv=argv, status=0, output=output, errors="", elapsed_s=0.0, cpu_s=0.0)

    def _set_groups(self) -> None:
        said: dict[str, str] = {}
        for file in sorted((self.top / CONTROL).glob("*.conf")):
            said |= dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        limits = dict(PLANNED)
        if said.get("CPUQuota"):
            limits["cpu.max"] = f"{int(said['CPUQuota'].rstrip('%')) * 1000} 100000"
        if "MemoryHigh" in said:
            limits["memory.high"] = said["MemoryHigh"]
        if said.get("IOWeight"):
            limits["io.weight"] = f"default {said['IOWeight']}"
        for name, text in limits.items():
            if (self.top / GROUP).exists():
                (self.top / GROUP / name).write_text(f"{text}\n")

    def is_armed(self) -> bool:
        return (self.top / "run/timers" / TIMER).exists()

    def fire(self) -> int:
        """What the timer starts; the exit status."""
        unit = (self.top / "run/systemd/system" / TIMER).with_suffix(".service").read_text()
        argv = shlex.split(next(line for line in unit.splitlines() if line.startswith("ExecStart="))[len("ExecStart=") :])
        assert argv[1:3] == ["-m", "bedplate.cli.main"]
        return main(argv[3:])


@pytest.fixture
def top(tree: Path) -> Path:
    return make_tree(tree / "machine")


def make_tree(top: Path) -> Path:
    for name, text in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return top


@pytest.fixture
def systemd(top: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystemd:
    return install(FakeSystemd(top), monkeypatch)


def install(systemd: FakeSystemd, patch: pytest.MonkeyPatch) -> FakeSystemd:
    patch.setattr(run, "run", systemd)
    patch.setattr(os, "cpu_count", lambda: CPUS)
    patch.setattr(os, "geteuid", lambda: 0)
    return systemd


def state(top: Path) -> dict[str, str]:
    """All files but those of bedplate's own state, and of timers."""
    return {
        str(path.relative_to(top)): path.read_text()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not str(path.relative_to(top)).startswith(("run/bedplate", "run/timers"))
    }


# -- moved and given back


def test_what_differs_is_set_and_given_back(top: Path, systemd: FakeSystemd) -> None:
    root, before = Root(top), state(top)
    move_limits(root, UNIT, NONE, replace(NONE, cpu_max_pct=70), BOUNDS)
    assert [argv for argv in systemd.calls if "set-property" in argv] == [
        ("systemctl", "set-property", "--runtime", UNIT, "CPUQuota=140%")  # of one CPU
    ]
    assert read_limits(root, UNIT, CPUS) == replace(NONE, cpu_max_pct=70)
    move_limits(root, UNIT, replace(NONE, cpu_max_pct=70), TIGHT, BOUNDS)
    assert systemd.calls[-1][4:] == ("MemoryHigh=1073741824", "IOWeight=70")
    assert read_limits(root, UNIT, CPUS) == TIGHT
    assert systemd.is_armed()
    released = release_limits(root, UNIT)
    assert len(released.files) == 3
    assert released.drifted == ()
    assert not systemd.is_armed()
    assert state(top) == before
    assert release_limits(root, UNIT).files == ()


def test_nothing_is_called_when_nothing_differs(top: Path, systemd: FakeSystemd) -> None:
    move_limits(Root(top), UNIT, TIGHT, TIGHT, BOUNDS)
    assert systemd.calls == []


def test_limits_that_go_away_are_said_so(top: Path, systemd: FakeSystemd) -> None:
    none = NeighbourLimits(cpu_max_pct=None, memory_high_bytes=None, io_weight=None)
    move_limits(Root(top), UNIT, TIGHT, none, BOUNDS)
    assert systemd.calls[-1][4:] == ("CPUQuota=", "MemoryHigh=infinity", "IOWeight=")


def test_the_lease_is_written_before_the_limit(top: Path, systemd: FakeSystemd) -> None:
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    verbs = [argv[1] for argv in systemd.calls]
    assert verbs.index("start") < verbs.index("set-property")
    text = (top / "run/systemd/system" / TIMER).read_text()
    assert f"OnActiveSec={guard.LEASE_S}s" in text
    assert guard.LEASE_S > 2 * guard.RENEW_S
    guard.renew_lease(Root(top), UNIT)
    assert systemd.calls[-1] == ("systemctl", "restart", TIMER)


def test_a_property_that_the_administrator_had_set_comes_back(top: Path, systemd: FakeSystemd) -> None:
    systemd(["systemctl", "set-property", "--runtime", UNIT, "CPUQuota=50%"])
    before = state(top)
    bounds = replace(BOUNDS, planned=replace(NONE, cpu_max_pct=25))
    move_limits(Root(top), UNIT, bounds.planned, replace(NONE, cpu_max_pct=10), bounds)
    assert state(top) != before
    assert release_limits(Root(top), UNIT).files == (f"/{CONTROL}/50-CPUQuota.conf",)
    assert state(top) == before


def test_what_somebody_changed_since_is_left_and_said(top: Path, systemd: FakeSystemd) -> None:
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    systemd(["systemctl", "set-property", "--runtime", UNIT, "IOWeight=33"])
    (top / CONTROL / "50-MemoryHigh.conf").unlink()
    released = release_limits(Root(top), UNIT)
    assert released.files == (f"/{CONTROL}/50-CPUQuota.conf",)
    assert [text.partition(":")[0].rpartition("/")[2] for text in released.drifted] == ["50-IOWeight.conf"]
    assert read_limits(Root(top), UNIT, CPUS) == replace(NONE, io_weight=33)
    assert not guard.has_set_limits(Root(top), UNIT)


class Releases(FakeSystemd):
    """Another process gives the limits back in the middle of a move: while the service manager sets the property."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.other: threading.Thread | None = None
        self.waited = threading.Event()

    def _run(self, argv: tuple[str, ...]) -> Completed:
        done = super()._run(argv) if "set-property" not in argv else None
        if "set-property" in argv and self.other is None:
            self.other = threading.Thread(target=lambda: release_limits(Root(self.top), UNIT))
            self.other.start()
            assert self.waited.wait(60)
        return done or super()._run(argv)


@pytest.mark.parametrize("patient", [True, False], ids=["the release waits", "it gives up, since the guard hung"])
def test_a_release_in_the_middle_of_a_move_leaves_no_limit_without_a_lease(
    top: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    """The release took the timer, and the limit was set right after: nothing gave it back once the guard was killed."""
    before = state(top)
    systemd = Releases(top)
    install(systemd, monkeypatch)
    if patient:
        monkeypatch.setattr("time.sleep", lambda _: systemd.waited.set())
    else:
        monkeypatch.setattr(guard, "_MOVE_S", 0.0)
        reload = FakeSystemd._run

        def after(self: FakeSystemd, argv: tuple[str, ...]) -> Completed:
            done = reload(self, argv)
            if argv[1] == "daemon-reload" and not (top / "run/systemd/system" / TIMER).exists():
                systemd.waited.set()  # the release is done
            return done

        monkeypatch.setattr(FakeSystemd, "_run", after)
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    assert systemd.other is not None
    systemd.other.join(60)
    assert guard.has_set_limits(Root(top), UNIT) is systemd.is_armed() is not patient
    if systemd.is_armed():
        assert systemd.fire() == 0
    assert state(top) == before


def test_a_limit_that_somebody_else_has_changed_is_moved_no_more(top: Path, systemd: FakeSystemd) -> None:
    """70 was in force, the administrator set 30, and the next move made it 49."""
    move_limits(Root(top), UNIT, NONE, replace(NONE, io_weight=70), BOUNDS)
    systemd(["systemctl", "set-property", "--runtime", UNIT, "IOWeight=30"])
    with pytest.raises(CommandError, match=r"50-IOWeight\.conf: another program changed it"):
        move_limits(Root(top), UNIT, replace(NONE, io_weight=70), replace(NONE, io_weight=49), BOUNDS)
    assert read_limits(Root(top), UNIT, CPUS) == replace(NONE, io_weight=30)
    assert len(release_limits(Root(top), UNIT).drifted) == 1


# -- refused, gone, full


def test_a_refusal_leaves_nothing_that_a_release_does_not_take(top: Path, systemd: FakeSystemd) -> None:
    before = state(top)
    systemd.refuse = "set-property"
    with pytest.raises(CommandError, match="not found"):
        move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    systemd.refuse = ""
    assert release_limits(Root(top), UNIT).files == ()
    assert state(top) == before


def test_no_lease_no_limit(top: Path, systemd: FakeSystemd) -> None:
    systemd.refuse = "start"
    with pytest.raises(CommandError):
        move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    assert not any("set-property" in argv for argv in systemd.calls)


def test_a_group_that_vanished_is_released_all_the_same(top: Path, systemd: FakeSystemd) -> None:
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    shutil.rmtree(top / GROUP)
    assert len(release_limits(Root(top), UNIT).files) == 3
    assert not (top / CONTROL).exists()
    with pytest.raises(CommandError, match="not found"):
        move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)


def test_a_release_that_failed_is_done_by_the_timer(top: Path, systemd: FakeSystemd) -> None:
    before = state(top)
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    systemd.refuse = "daemon-reload"
    with pytest.raises(CommandError):
        release_limits(Root(top), UNIT)
    systemd.refuse = ""
    assert systemd.is_armed()
    assert systemd.fire() == 0
    assert state(top) == before


def test_on_a_full_disk_nothing_is_set(top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(guard, "write_whole", full)
    with pytest.raises(BedplateError, match="No space left on device"):
        move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    assert systemd.calls == []


def test_a_record_of_another_version_is_refused(top: Path, systemd: FakeSystemd) -> None:
    record = top / f"run/bedplate/guard/{UNIT}.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"schema": 9}))
    with pytest.raises(ReadError, match="schema 9"):
        release_limits(Root(top), UNIT)
    with pytest.raises(ReadError, match="schema 9"):
        move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    assert systemd.calls == []


# -- the whole guard


def waits(seconds: int, *, from_: int = 1) -> Callable[[object], GuardReading]:
    """Readings a second apart; in the first of them, from one on, the engine waits for the neighbours' CPUs."""
    at = iter(range(10_000))

    def read(_: object) -> GuardReading:
        now = next(at)
        waited = 0.5 * max(0, min(now, from_ + seconds) - from_)
        return GuardReading(
            at_s=float(now),
            engine_run_s=float(now),
            engine_wait_s=waited,
            engine_throttled=None,
            engine_memory_stall_s=None,
            engine_refaults=None,
            engine_io_stall_s=None,
            neighbour_cpu_s=float(now),
            neighbour_memory_bytes=GIB,
            neighbour_io_bytes=0,
        )

    return read


class Ends(Exception):
    """Something that the guard does not know."""


def clock_of(rounds: int, error: BaseException, top: Path, seen: list[NeighbourLimits]) -> Callable[[float], None]:
    """A sleep that takes no time, notes the limits, and ends the guard after so many rounds."""
    left = iter(range(rounds))

    def sleep(_: float) -> None:
        seen.append(read_limits(Root(top), UNIT, CPUS))
        if next(left, None) is None:
            raise error

    return sleep


def run_guard(top: Path, *words: str) -> int:
    return main(["guard", "--root", str(top), *words])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Ends(), SystemExit(3)])
def test_whatever_ends_a_guard_gives_the_limits_back(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before, seen = state(top), list[NeighbourLimits]()
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(5))
    monkeypatch.setattr("time.sleep", clock_of(8, error, top, seen))
    if isinstance(error, KeyboardInterrupt):
        assert run_guard(top) == 0
    else:
        with pytest.raises(type(error)):
            run_guard(top)
    assert seen[-1] == replace(NONE, cpu_max_pct=70)
    assert state(top) == before
    assert not systemd.is_armed()


def test_a_guard_gives_back_step_by_step_and_renews_its_lease(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, seen = state(top), list[NeighbourLimits]()
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(1))
    monkeypatch.setattr("time.sleep", clock_of(150, KeyboardInterrupt(), top, seen))
    assert run_guard(top, "--json") == 0
    shares = list(dict.fromkeys(limits.cpu_max_pct for limits in seen))
    assert shares == [None, 70, 75, 80, 85, 90, 95]
    assert seen[-1] == NONE
    assert state(top) == before
    moves = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [move["new"] for move in moves if "new" in move][-1] == "none"
    assert not any("set-property" in argv and "IOWeight" in " ".join(argv) for argv in systemd.calls)


def test_a_guard_that_holds_a_limit_for_long_renews_its_lease(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its floor reached, nothing moves any more."""
    seen: list[NeighbourLimits] = []
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(1))
    monkeypatch.setattr("bedplate.plan.guard.QUIET_S", 100_000.0)
    monkeypatch.setattr("time.sleep", clock_of(130, KeyboardInterrupt(), top, seen))
    run_guard(top)
    assert sum("restart" in argv for argv in systemd.calls) == 4


def test_a_dry_run_sets_nothing(top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = state(top), list[NeighbourLimits]()
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(50))
    monkeypatch.setattr("time.sleep", clock_of(60, KeyboardInterrupt(), top, seen))
    run_guard(top, "--dry-run")
    assert systemd.calls == []
    assert state(top) == before


def test_a_neighbour_that_vanishes_is_said_and_the_guard_goes_on(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[NeighbourLimits] = []
    shutil.rmtree(top / GROUP)
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(50))
    monkeypatch.setattr("time.sleep", clock_of(20, KeyboardInterrupt(), top, seen))
    assert run_guard(top) == 0
    assert f"{UNIT}: Failed to set unit properties" in capsys.readouterr().out
    assert sum("set-property" in argv for argv in systemd.calls) == 4  # not at every look
    assert not (top / CONTROL).exists()


def test_limits_that_the_timer_gave_back_are_not_taken_for_set(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A guard that was stopped for minutes, and goes on."""
    seen: list[NeighbourLimits] = []
    read, rounds = waits(40), iter(range(100))

    def reading(self: object) -> GuardReading:
        if next(rounds) == 4:
            assert systemd.fire() == 0
            assert read_limits(Root(top), UNIT, CPUS) == NONE
        return read(self)

    monkeypatch.setattr(guard_readings.GuardReader, "read", reading)
    monkeypatch.setattr("time.sleep", clock_of(8, KeyboardInterrupt(), top, seen))
    run_guard(top)
    assert "the guard starts again" in capsys.readouterr().err
    assert [limits.cpu_max_pct for limits in seen].count(70) > 4


def test_the_next_guard_gives_back_what_a_killed_one_left_before_it_reads_the_plan(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It took the limits of the killed one for the plan's, and never gave them back."""
    before, seen = state(top), list[NeighbourLimits]()
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(0))
    monkeypatch.setattr("time.sleep", clock_of(3, KeyboardInterrupt(), top, seen))
    run_guard(top)
    assert "another guard ended without restoring its limits" in capsys.readouterr().err
    assert seen[0] == NONE
    assert state(top) == before


def test_drift_that_a_guard_meets_is_said_at_its_end(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gave back the last of its limits in the middle of the watch, and said nothing of what it left there."""
    seen: list[NeighbourLimits] = []
    read = waits(1)

    def reading(self: object) -> GuardReading:
        if read_limits(Root(top), UNIT, CPUS).cpu_max_pct == 95:  # the last step before the plan
            systemd(["systemctl", "set-property", "--runtime", UNIT, "CPUQuota=60%"])
        return read(self)

    monkeypatch.setattr(guard_readings.GuardReader, "read", reading)
    monkeypatch.setattr("time.sleep", clock_of(150, KeyboardInterrupt(), top, seen))
    assert run_guard(top, "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["released"] == []
    assert [text.partition(":")[0] for text in last["drifted"]] == [f"/{CONTROL}/50-CPUQuota.conf"]
    assert seen[-1] == replace(NONE, cpu_max_pct=30)


def test_two_guards_of_one_unit_are_refused(top: Path, systemd: FakeSystemd) -> None:
    with guard.hold_guard_lock(Root(top), UNIT):
        assert run_guard(top) == BusyError.exit_code


def test_release_says_what_it_did(top: Path, systemd: FakeSystemd, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guard(top, "--release") == 0
    assert capsys.readouterr().out == "no limit was set\n"
    move_limits(Root(top), UNIT, NONE, TIGHT, BOUNDS)
    assert run_guard(top, "--release", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["released"]) == 3


@pytest.mark.parametrize(
    ("unit", "group"),
    [("tenants-batch.slice", "tenants.slice/tenants-batch.slice"), ("batch.service", "system.slice/batch.service")],
)
def test_a_unit_in_another_slice_is_found_and_watched(
    top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unit: str, group: str
) -> None:
    """It was looked for directly below /sys/fs/cgroup: its limits read as none, and it was never at work."""
    for name, text in PLANNED.items():
        (top / "sys/fs/cgroup" / group).mkdir(parents=True, exist_ok=True)
        (top / "sys/fs/cgroup" / group / name).write_text(text)
    (top / "sys/fs/cgroup" / group / "io.weight").write_text("default 20")
    systemd = install(FakeSystemd(top), monkeypatch)
    systemd.groups[unit] = f"/{group}"
    watched: list[str] = []
    monkeypatch.setattr(
        guard_readings.GuardReader, "__init__", lambda _self, _root, _engine, neighbour: watched.append(neighbour)
    )
    monkeypatch.setattr(guard_readings.GuardReader, "read", waits(0))
    monkeypatch.setattr("time.sleep", clock_of(1, KeyboardInterrupt(), top, []))
    assert run_guard(top, "--neighbour", unit) == 0
    assert watched == [group]
    assert guard.find_group(Root(top), unit) == group
    assert read_limits(Root(top), group, CPUS) == replace(NONE, io_weight=20)


def test_a_service_that_does_not_run_is_refused(
    top: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", clock_of(1, KeyboardInterrupt(), top, []))
    assert run_guard(top, "--neighbour", "gone.service") == CommandError.exit_code
    assert "gone.service: has no control group because it is not running" in capsys.readouterr().err
    assert guard.find_group(Root(top), "a-b.slice") == "a.slice/a-b.slice"  # may start later


@pytest.mark.parametrize("torn", [False, True], ids=["between", "torn"])
def test_killed_at_every_instant_the_limits_come_back(tree: Path, torn: bool) -> None:
    """kill -9 at each call that changes a file: either nothing is set, or the timer is armed and gives all back."""
    at, armed = 0, 0
    while True:
        top = make_tree(tree / f"at-{at}")
        before = state(top)
        with pytest.MonkeyPatch.context() as patch:
            systemd = install(FakeSystemd(top), patch)
            patch.setattr(guard_readings.GuardReader, "read", waits(5))
            patch.setattr("time.sleep", clock_of(25, KeyboardInterrupt(), top, []))
            ended = not killed(lambda: run_guard(top), at, torn=torn)  # noqa: B023
            if systemd.is_armed():
                armed += 1
                assert systemd.fire() == 0, f"call {at}"
            limits = read_limits(Root(top), UNIT, CPUS)
            assert limits == NONE, f"call {at}"
            assert not (top / CONTROL).exists(), f"call {at}"
            assert run_guard(top, "--release") == 0, f"call {at}"
        left = {name: text for name, text in state(top).items() if ".unfinished" not in name}
        assert left == before, f"call {at}"
        if ended:
            break
        at += 1
    assert at > 40, "too few instants were tried"
    assert armed > 10
