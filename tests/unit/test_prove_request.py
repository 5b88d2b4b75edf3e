"""What `bedplate prove` refuses before its first block: what came to light after twenty minutes wastes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.facts_factory import make_facts, make_os
from tests.unit.tune_machines import KNOBS, make_groups

from bedplate.cli import prove as prove_verb
from bedplate.cli.main import main
from bedplate.cli.prove_arguments import parse_request
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import BusyError, PreflightError, UsageError
from bedplate.flows.prove import ExperimentRequest, _find_neighbours, _time_blocks
from bedplate.flows.victim import DispatchRequest
from bedplate.host.kernel.disk import Disk
from bedplate.plan.tune import parse_setting, plan_setting
from bedplate.prove.lab import disk, switch

SETTING = ("--setting", "vm.stat_interval=10", "--dry-run")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    prove_verb.add_arguments(parser)
    return parser.parse_args([*SETTING, *words])


def ask(**wishes: object) -> ExperimentRequest:
    return ExperimentRequest(victim=DispatchRequest(), seed=1, **wishes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--pairs", "0"), "argument --pairs: 0: expected a whole number of at least 2"),
        (("--pairs", "-4"), "argument --pairs: -4: "),
        (("--level", "0"), "argument --level: 0: expected a whole number from 1 to 1000"),
        (("--streams", "0"), "argument --streams: 0: "),
    ],
)
def test_a_number_out_of_range_is_no_word_of_it(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*words)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_no_pairs_are_not_ten() -> None:
    neighbours = _find_neighbours(ask(antagonists=()), (), 100)
    with pytest.raises(UsageError, match="--pairs 0: expected 2 or more"):
        _time_blocks(ask(pairs=0), neighbours, 10)
    assert _time_blocks(ask(), neighbours, 10).pairs == 10


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--trace", "nosuch"), "--trace nosuch: the dispatch loop gets no requests"),
        (("--window", "0:10"), "--window: is a part of a trace"),
    ],
)
def test_a_load_that_nothing_gets_is_refused(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_request(parse(*words), 1)


def test_a_level_above_the_ladder_of_a_neighbour_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--level 500: expected at most 200 percent for memory\.touch"):
        _find_neighbours(ask(antagonists=("memory.touch",), level_pct=500), (), 100)


def test_a_scratch_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--scratch .*nosuch: is not a writable directory"):
        _find_neighbours(ask(antagonists=("cpu.matrixprod",), scratch=tmp_path / "nosuch"), (), 100)


def no_directory(path: Path) -> Path:
    return path / "nosuch/page.html"


def directory(path: Path) -> Path:
    return path


@pytest.mark.parametrize("place", [no_directory, directory])
def test_a_page_that_cannot_be_written_is_refused_before_anything(
    place: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = place(tmp_path)
    assert main(["prove", *SETTING, "--html", str(page)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --html: {page}: cannot be written: ")


def test_a_units_property_without_systemd_is_told_what_it_needs() -> None:
    """The hint was to do what had been done: "Prove one setting: --setting NAME=VALUE"."""
    facts = make_facts(os=make_os(systemd=False))
    plan = plan_setting(parse_setting("neighbour.slice:CPUWeight"), "1", facts, make_groups(version=1, groups=()), KNOBS)
    with pytest.raises(PreflightError) as caught:
        switch.check_provable(plan)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Properties of units need systemd and control groups of version 2")


def test_who_comes_second_reads_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a measurement it said that `bedplate prove` ran."""
    monkeypatch.setattr(switch, "STATE", str(tmp_path / "prove"))
    monkeypatch.setattr(switch, "recover", lambda **_: None)
    monkeypatch.setattr(switch, "undo", lambda **_: None)
    with (
        switch.one_experiment("measure"),
        pytest.raises(BusyError, match=r"held by `bedplate measure` \(process"),
        switch.one_experiment(),
    ):
        pass


@pytest.mark.touches("spawn", why="a program with a time limit makes the file; the disk may not answer")
def test_a_directory_without_room_for_the_scratch_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PreflightError, match="the scratch file cannot be made in it: Not a directory") as caught,
        terminal_progress() as progress,
        disk._scratch_file(tmp_path / "file", Disk(name="vda", number="254:0", model=""), progress),
    ):
        pass
    assert "\n" not in caught.value.message
