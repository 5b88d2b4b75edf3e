"""`bedplate prove` on this host: a placebo has no effect, a good change is kept, a harmful one reverted, all is put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.effort import PATIENCE_S, wait_until
from tests.prove.conftest import Groups

PAIRS, BLOCK_S = 8, 1.5
TRIES = 2
LIMIT_S = 240


def command(groups: Groups, *words: str) -> list[str]:
    places = [word for directory in groups.victim for word in ("--victim-place", str(directory))]
    places += [word for directory in groups.neighbour for word in ("--neighbour-place", str(directory))]
    shape = ["--period-ms", "5", "--work-ms", "1.5", "--pairs", str(PAIRS), "--block-s", str(BLOCK_S)]
    return [sys.executable, "-m", "bedplate.cli.main", "prove", *words, *shape, *places]


def environment(state: Path) -> dict[str, str]:
    return os.environ | {"BEDPLATE_STATE_DIR": str(state), "NO_COLOR": "1"}


def prove(groups: Groups, state: Path, setting: str, *words: str, seed: int) -> dict[str, Any]:
    """The result of one experiment; a refused one is tried again, and skips the test when it is refused again."""
    for number in range(TRIES):
        done = subprocess.run(
            command(groups, "--setting", setting, "--json", "--seed", str(seed + number), *words),
            env=environment(state),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode in (0, 1), done.stderr[-4000:]
        record: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 1) == (record["judgement"] == "refused")
        if record["judgement"] != "refused":
            return record
    pytest.skip(f"the machine is too busy to judge: {record['proofs'][0]['because']}")


def test_a_good_change_is_kept(groups: Groups, tmp_path: Path) -> None:
    before = groups.share.read_text()
    record = prove(groups, tmp_path, f"{groups.share}={groups.least_share}", seed=1)
    assert record["judgement"] == "keep", record["proofs"][0]["because"]
    effects = {effect["metric"]: effect for effect in record["proofs"][0]["effects"]}
    assert effects["rate"]["ratio"] > 1.02 and effects["rate"]["low"] > 1
    assert effects["neighbour_work"]["ratio"] > 0.8
    assert groups.share.read_text() == before


@pytest.fixture
def busy_cpu_0(groups: Groups) -> Iterator[None]:
    """Housekeeping on CPU 0 alone, and heavy: where a list of isolated CPUs leaves it."""
    before = groups.neighbour_cpus.read_text(), groups.share.read_text()
    groups.neighbour_cpus.write_text("0")
    groups.share.write_text(groups.heavy_share)
    yield
    groups.neighbour_cpus.write_text(before[0])
    groups.share.write_text(before[1])


@pytest.mark.usefixtures("busy_cpu_0")
def test_confinement_of_the_engine_is_reverted(groups: Groups, tmp_path: Path) -> None:
    before = groups.cpus.read_text()
    record = prove(groups, tmp_path, f"{groups.cpus}=0", "--level", "50", seed=2)
    assert record["judgement"] == "revert", record["proofs"][0]["because"]
    assert groups.cpus.read_text() == before


def test_a_placebo_is_not_kept(groups: Groups, tmp_path: Path) -> None:
    setting = Path("/proc/sys/vm/stat_interval")
    before = setting.read_text()
    record = prove(groups, tmp_path, "vm.stat_interval=10", seed=3)
    assert record["judgement"] == "no effect", record["proofs"][0]["because"]
    assert setting.read_text() == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_is_put_back_and_leaves_no_process(
    groups: Groups, tmp_path: Path, signum: signal.Signals
) -> None:
    before = groups.share.read_text()
    process = subprocess.Popen(
        command(groups, "--setting", f"{groups.share}={groups.least_share}"),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    wait_until(lambda: process.poll() is not None or groups.share.read_text() != before, "the setting is made")
    process.send_signal(signum)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said.decode()  # 5: somebody else proves something on this machine
    assert groups.share.read_text() == before
    left = [(directory / "cgroup.procs").read_text() for directory in (*groups.victim, *groups.neighbour)]
    assert left == [""] * len(left)
