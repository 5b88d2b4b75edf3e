"""`bedplate engine`: the layers as they are listed and shown, and the GPUs that each is offered for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.layer_record import read_gpu_code
from bedplate.cli.main import main
from bedplate.errors import DataError
from bedplate.image.recipe import list_engine_recipes, read_engine_recipe, recipes_directory

CUDA = {
    "apis": ["cuda"],
    "binaries": [
        {"path": "/usr/lib/x/libggml-cuda.so", "architectures": ["sm_80", "sm_90"], "intermediate": []},
    ],
    "driver_floors": ["libcuda1 (>= 525)"],
}


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
    directory = tmp_path / "state/engines"
    directory.mkdir(parents=True)
    return directory


def add_layer(engines: Path, name: str, **more: Any) -> dict[str, Any]:
    (engines / f"{name}_1.0.raw").write_bytes(b"disk")
    record = {
        "schema": 1,
        "name": name,
        "version": "1.0",
        "digest": "d" * 64,
        "file": f"{name}_1.0.raw",
        "size_bytes": 4,
        "sha256": "5" * 64,
        "suite": "sid",
        "packages": [{"name": "libc6", "version": "2.43-1", "sha256": "a" * 64}],
        "architectures": [],
        **more,
    }
    (engines / f"{name}.json").write_text(json.dumps(record))
    return record


def test_a_layer_is_shown_as_it_was_recorded(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = {"name": "torch", "version": "2.13.0+cpu", "file": "t.whl", "sha256": "b" * 64, "source": "local-wheels"}
    record = add_layer(engines, "vllm", python={"version": "3.11", "packages": [wheel]})
    assert main(["engine", "show", "vllm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record
    assert main(["engine", "show", "vllm"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "vllm 1.0, root of Debian sid"
    assert {"libc6 2.43-1", "torch 2.13.0+cpu from local-wheels", "1 packages of Python 3.11"} <= set(lines)


def test_the_list_says_what_is_offered_for_a_gpu_and_what_would_run(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_layer(engines, "llamacpp-cuda", gpu=CUDA)
    assert main(["engine", "list", "--accelerator", "h100"]) == 0
    assert "offered for NVIDIA H100: it holds sm_90, which this GPU runs" in capsys.readouterr().out
    assert main(["engine", "list", "--accelerator", "b200", "--json"]) == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["llamacpp-cuda"]["packages"] == 1 and layers["llamacpp-cuda"]["offer"]["offered"] is False
    assert layers["llamacpp-cuda"]["offer"]["instead"].startswith("vllm ")
    assert layers["vllm"]["version"] is None and layers["vllm"]["offer"] is None
    assert main(["engine", "show", "llamacpp-cuda"]) == 0
    shown = capsys.readouterr().out
    assert "/usr/lib/x/libggml-cuda.so holds code for sm_80, sm_90" in shown and "libcuda1 (>= 525)" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "vlm"], "vlm: there is no engine layer of this name"),
        (["build", "vlm"], "vlm: there is no engine layer of this name"),
        (["show", "vllm"], "vllm: this layer was not built"),
        (["list", "--accelerator", "b2000"], "b2000: the catalogue has no accelerator of this name"),
    ],
)
def test_what_is_not_there_is_named(engines: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(["engine", *words]) == 2
    said = capsys.readouterr().err
    assert told in said and "hint: " in said


def test_a_layer_that_is_not_whole_is_not_shown(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = add_layer(engines, "vllm")
    (engines / "vllm_1.0.raw").write_bytes(b"di")
    assert main(["engine", "show", "vllm"]) != 0
    assert "vllm_1.0.raw: has 2 bytes, expected 4" in capsys.readouterr().err
    (engines / "vllm_1.0.raw").unlink()
    assert main(["engine", "show", "vllm"]) != 0
    assert "vllm_1.0.raw: is missing" in capsys.readouterr().err
    del record["suite"]
    (engines / "vllm.json").write_text(json.dumps(record))
    assert main(["engine", "list"]) != 0
    assert "not the record of a layer: it has no suite" in capsys.readouterr().err


def test_a_record_that_is_older_than_the_key_tells_nothing_of_gpus() -> None:
    assert read_gpu_code("llamacpp", {}) is None
    code = read_gpu_code("llamacpp-cuda", {"gpu": CUDA})
    assert code is not None and code.binaries[0].architectures == ("sm_80", "sm_90")


def test_every_shipped_layer_has_its_own_name_and_an_engine_to_start() -> None:
    names = list_engine_recipes(recipes_directory())
    assert {"llamacpp", "llamacpp-cuda", "llamacpp-hip", "llamacpp-vulkan", "transformers", "vllm"} <= set(names)
    for name in names:
        recipe = read_engine_recipe(recipes_directory(), name)
        assert recipe.packages == tuple(sorted(recipe.packages)), name
        assert (recipes_directory() / "engines" / name / "tree/usr/lib/bedplate/engine").is_symlink(), name


def test_every_problem_of_a_python_part_is_told(tmp_path: Path) -> None:
    recipe = recipes_directory() / "engines/transformers/engine.toml"
    text = recipe.read_text().replace('version = "3.11"', 'version = "3"').replace('"torch==2.13.0+cpu"', '"torch"')
    text = text.replace('"share",', '"../share",').replace('name = "transformers"', 'name = "other"')
    (tmp_path / "engines/transformers").mkdir(parents=True)
    (tmp_path / "engines/transformers/engine.toml").write_text(text)
    with pytest.raises(DataError) as caught:
        read_engine_recipe(tmp_path, "transformers")
    for told in (
        "engine.toml:python.version: got '3', expected a version such as 3.11",
        "engine.toml:python: got 'torch', expected NAME==VERSION",
        "engine.toml:python.remove: got '../share', expected a glob below the site directory",
        "engine.toml:name: got 'other', expected 'transformers', as its directory is called",
    ):
        assert told in str(caught.value)
