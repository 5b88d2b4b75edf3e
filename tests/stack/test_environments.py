"""Real virtual environments, made by Python and filled by pip with tiny wheels; and a file that a real linker laid out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bedplate.cli.main import main
from bedplate.host.root.root import Root
from bedplate.host.stack.elf import find_sections
from bedplate.host.stack.environments import read_environments
from bedplate.model.facts.stack import PythonEnvironment

VERSION = "__all__ = []\n__version__ = '2.10.0+cu128'\ncuda = '12.8'\nhip = None\n"


def make_wheel(directory: Path, name: str, version: str, files: dict[str, str], requires: str = "") -> Path:
    """A wheel as the specification of binary distributions has it."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    rows = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for where, text in rows.items():
            wheel.writestr(where, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{where},,\n" for where in (*rows, f"{info}/RECORD")))
    return path


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("venv")
    wheels = [
        make_wheel(top, "torch", "2.10.0", {"torch/__init__.py": "", "torch/version.py": VERSION}),
        make_wheel(top, "vllm", "0.19.1", {"vllm/__init__.py": ""}, "Requires-Dist: torch==2.10.0\n"),
        make_wheel(top, "Sgl_Kernel", "0.3.1", {"sgl_kernel/__init__.py": ""}),
    ]
    path = top / "vllm"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(path / "bin/python"),
        "install",
        "--no-index",
        "--no-deps",
        "--quiet",
    ]
    subprocess.run([*pip, "--disable-pip-version-check", *wheels], check=True)
    return path


def only(paths: list[str]) -> PythonEnvironment:
    (found,) = [environment for environment in read_environments(Root(), paths) if environment.path in paths]
    return found


def test_a_real_environment_is_read(venv: Path) -> None:
    environment = only([str(venv)])
    assert [(package.name, package.version) for package in environment.packages] == [
        ("sgl-kernel", "0.3.1"),
        ("torch", "2.10.0"),
        ("vllm", "0.19.1"),
    ]
    assert environment.torch is not None and environment.torch.version == "2.10.0+cu128"
    assert [requirement.bounds for requirement in environment.requirements] == ["==2.10.0"]
    assert environment.interpreter.value == str(Path(sys.executable).resolve())
    assert environment.is_virtual and environment.leftovers == ()


def test_the_command_reads_an_environment_that_is_named(venv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["stack", "check", "--venv", str(venv), "--json", "--fail-on", "never"])
    document = json.loads(capsys.readouterr().out)
    assert str(venv) in [environment["path"] for environment in document["facts"]["stack"]["environments"]]
    assert [finding for finding in document["findings"] if str(venv) in finding["where"]] == []


def test_what_pip_left_and_a_python_that_is_gone(venv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "vllm"
    shutil.copytree(venv, broken, symlinks=True)
    (site,) = (broken / "lib").glob("python3.*/site-packages")
    (site / "torch-2.10.0.dist-info").rename(site / "~orch-2.10.0.dist-info")
    for name in ("python", "python3"):
        (broken / f"bin/{name}").unlink(missing_ok=True)
    (broken / "bin/python").symlink_to("/usr/bin/python3.99")
    assert main(["stack", "check", "--venv", str(broken), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {"stack.python-gone", "stack.pip-unfinished"} <= {
        finding["id"] for finding in findings if str(broken) in finding["where"]
    }


def test_sections_of_a_file_that_a_linker_laid_out_are_found() -> None:
    opened = Root().open_ranges(str(Path(sys.executable).resolve()))
    assert opened.value is not None
    with opened.value as ranges:
        sections = find_sections(ranges.read, frozenset((b".interp", b".text", b".nv_fatbin")))
        assert set(sections) == {b".interp", b".text"}
        interp = sections[b".interp"]
        assert Path(ranges.read(interp.offset, interp.size).rstrip(b"\0").decode()).is_file()
