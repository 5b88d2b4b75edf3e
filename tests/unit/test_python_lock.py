"""The Python packages of a layer: what uv is asked, and what is believed of its answer. A program stands in for uv."""

from __future__ import annotations

import stat
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.catalog.stack import read_stack
from bedplate.errors import CommandError, PreflightError
from bedplate.flows.stack import StackRequest, driver_floors, lock_python_packages, python_layers, resolve_stack
from bedplate.image.python_lock import DRIVER, find_uv, make_python_lock
from bedplate.image.wheels import find_wheel_directories
from bedplate.model.python_lock import PythonLayer
from bedplate.model.stack import StackRecord
from bedplate.model.version_condition import parse_condition

pytestmark = pytest.mark.touches("spawn", why="a fake program stands in for uv")

LAYER = PythonLayer(
    name="vllm",
    pins=("vllm==0.19.1", "torch==2.10.0"),
    python="3.13",
    glibc="2.41",
    driver="535.274.02-3",
    driver_floors={"nvidia-cuda-runtime": "580", "nvidia-cuda-runtime-cu12": "525"},
)
ANSWER = f"""\
nvidia-cuda-runtime-cu12==12.8.90 \\
    --hash=sha256:00
    # via torch
{DRIVER}==535.274.2 \\
    --hash=sha256:11
    # via nvidia-cuda-runtime-cu12
torch==2.10.0 \\
    --hash=sha256:22
"""


@pytest.fixture
def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in front of the system's path; `answer` in it makes the program uv."""
    monkeypatch.setenv("BEDPLATE_PATH_PREFIX", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return tmp_path


def answer(directory: Path, *, out: str = "", err: str = "", status: int = 0) -> Path:
    """A uv that keeps what it was asked in `directory`, and answers with these texts."""
    (directory / "out").write_text(out)
    (directory / "err").write_text(err)
    program = directory / "uv"
    program.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {directory}/words\ncp layer.in uv.toml {directory}/\n"
        f"ls links > {directory}/links\nenv > {directory}/environment\n"
        f"cat {directory}/out\ncat {directory}/err >&2\nexit {status}\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_the_driver_is_a_package_that_the_cuda_runtime_needs(fake_uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    lock = make_python_lock(LAYER, answer(fake_uv, out=ANSWER))
    assert (fake_uv / "layer.in").read_text() == "vllm==0.19.1\ntorch==2.10.0\n"
    assert f'name = "nvidia-cuda-runtime"\nrequires-dist = ["{DRIVER}>=580"]' in (fake_uv / "uv.toml").read_text()
    assert (fake_uv / "links").read_text() == "bedplate_nvidia_driver-535.274.2-py3-none-any.whl\n"
    words = (fake_uv / "words").read_text().split("\n")
    assert "--python-version=3.13" in words
    assert "--python-platform=x86_64-manylinux_2_40" in words  # the newest that uv knows and the root has
    assert "UV_NO_CONFIG" not in (fake_uv / "environment").read_text()
    assert DRIVER not in lock.text
    assert (lock.packages, lock.conflict) == (2, "")


def test_without_a_driver_no_wheel_stands_for_it(fake_uv: Path) -> None:
    make_python_lock(replace(LAYER, driver=None), answer(fake_uv, out="torch==2.13.0+cpu\n"))
    assert (fake_uv / "links").read_text() == ""


def test_an_answer_in_which_the_rule_of_the_driver_is_missing_is_refused(fake_uv: Path) -> None:
    without = "".join(ANSWER.partition(f"{DRIVER}==")[::2]).replace("535.274.2 \\\n    --hash=sha256:11\n", "")
    with pytest.raises(CommandError, match="did not apply the rule of the driver"):
        make_python_lock(LAYER, answer(fake_uv, out=without))


def test_no_solution_is_a_conflict_in_the_words_of_uv(fake_uv: Path) -> None:
    lock = make_python_lock(LAYER, answer(fake_uv, err="error: No solution found when resolving\n", status=1))
    assert (lock.text, lock.conflict) == ("", "error: No solution found when resolving")


def test_a_registry_that_cannot_be_reached_is_no_conflict(fake_uv: Path) -> None:
    with pytest.raises(PreflightError, match="cannot reach the Python registry"):
        make_python_lock(LAYER, answer(fake_uv, err="error: Failed to fetch: `x`\n", status=2))


def test_another_failure_of_uv_is_an_error(fake_uv: Path) -> None:
    with pytest.raises(CommandError, match="ended with status 2"):
        make_python_lock(LAYER, answer(fake_uv, err="error: unexpected argument\n", status=2))


def test_a_missing_uv_says_how_to_get_it(fake_uv: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        find_uv()
    assert caught.value.hint == "Install it on this build host: pip install uv."


class Quiet:
    """A Progress that nobody listens to."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def detail(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


def record(*engines: str) -> StackRecord:
    request = StackRequest(engines=engines, accelerators=("a100",), sources=("debian", "pypi", "nvidia"))
    found = resolve_stack(request, catalogue=read_stack(drop_ins=None))
    assert isinstance(found, StackRecord)
    return found


def test_each_layer_has_a_lock_of_its_own(fake_uv: Path, tmp_path: Path) -> None:
    answer(fake_uv, out=ANSWER)
    rows = read_stack(drop_ins=None)
    both = record("vllm ==0.33.0", "sglang ==0.5.23")
    layers = {layer.name: layer for layer in python_layers(both.lock, rows)}
    assert "torch==2.14.0" in layers["vllm"].pins
    assert "torch==2.14.1" in layers["sglang"].pins
    assert layers["vllm"].driver_floors == {"nvidia-cuda-runtime": "580", "nvidia-cuda-runtime-cu12": "525"}
    lock_python_packages(both, tmp_path / "locks", Quiet(), catalogue=rows)
    assert sorted(path.name for path in (tmp_path / "locks").iterdir()) == ["sglang.txt", "vllm.txt"]


def test_the_lowest_driver_is_what_the_rows_say_whatever_their_ids_are() -> None:
    rows = read_stack(drop_ins=None)
    floors = {"nvidia-cuda-runtime": "580", "nvidia-cuda-runtime-cu12": "525"}
    renamed = replace(rows, facts=tuple(replace(fact, id=f"x-{index}") for index, fact in enumerate(rows.facts)))
    assert driver_floors(rows) == driver_floors(renamed) == floors
    other = tuple(
        replace(fact, needs=(parse_condition("nvidia-driver >=600"),)) if fact.id == "cuda13-driver-580" else fact
        for fact in rows.facts
    )
    assert driver_floors(replace(rows, facts=other)) == {**floors, "nvidia-cuda-runtime": "600"}
    without = tuple(fact for fact in rows.facts if fact.id != "cuda12-driver-525")
    assert driver_floors(replace(rows, facts=without)) == {"nvidia-cuda-runtime": "580"}


def test_a_lock_that_uv_disagrees_with_is_not_written(fake_uv: Path, tmp_path: Path) -> None:
    answer(fake_uv, err="error: No solution found\n", status=1)
    locks = lock_python_packages(record("vllm"), tmp_path / "locks", Quiet(), catalogue=read_stack(drop_ins=None))
    assert [lock.conflict for lock in locks] == ["error: No solution found"]
    assert list((tmp_path / "locks").iterdir()) == []


def test_uv_looks_where_the_build_host_keeps_wheels(fake_uv: Path) -> None:
    """Its own variable is hidden by the option that names the driver's wheel, so each place is an option, too."""
    make_python_lock(LAYER, answer(fake_uv, out=ANSWER), places=("/srv/wheels", "https://wheels.example/cpu"))
    words = (fake_uv / "words").read_text().splitlines()
    links = [word.removeprefix("--find-links=") for word in words if word.startswith("--find-links=")]
    assert links[1:] == ["/srv/wheels", "https://wheels.example/cpu"]


def test_a_directory_of_wheels_is_named_from_the_root_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_wheel_directories({"UV_FIND_LINKS": "wheels,https://wheels.example/cpu"}) == (
        str(tmp_path / "wheels"),
        "https://wheels.example/cpu",
    )
