"""Archives and directories: a machine in them, texts of one, and what is neither."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from tests.unit.pasted_cases import GIB, KNOBS, PASTED

from bedplate.cli.main import main
from bedplate.errors import ReadError
from bedplate.flows.machine import read_facts_of

# -- inputs that hold no machine


def archive(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_an_unrelated_archive_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = PASTED / "unrelated-archive/holiday.tar.gz"
    for threshold in ("medium", "info", "never"):
        assert main(["doctor", "--from", str(path), "--fail-on", threshold]) == 2
    printed = capsys.readouterr()
    assert "is not a recording of a machine" in printed.err and "No findings" not in printed.out


def test_a_machine_two_directories_down_is_read(tmp_path: Path) -> None:
    path = PASTED / "unrelated-archive/deep.tar.gz"
    facts = read_facts_of(path, KNOBS)
    assert (len(facts.cpu.online), facts.memory.total_bytes) == (1, GIB)
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            if member.isfile() and (content := tar.extractfile(member)) is not None:
                (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / member.name).write_bytes(content.read())
    assert read_facts_of(tmp_path, KNOBS).memory.total_bytes == GIB


@pytest.mark.parametrize(
    "files",
    [
        {"photos/proc/readme.txt": b"a holiday"},
        {"proc/readme.txt": b"a holiday"},
        {"sys/a": b"", "etc/b": b"c"},
    ],
)
def test_a_tree_of_nothing_is_no_machine(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive(files))
    with pytest.raises(ReadError, match="holds nothing of a machine"):
        read_facts_of(path, KNOBS)


def test_two_machines_in_one_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive({f"{name}/proc/meminfo": b"MemTotal: 4 kB\nMemAvailable: 4 kB\n" for name in ("a", "b")}))
    with pytest.raises(ReadError, match="holds 2 machines"):
        read_facts_of(path, KNOBS)


def test_a_directory_and_an_archive_of_texts_are_one_machine(tmp_path: Path) -> None:
    capture = {
        "host/smi.txt": (PASTED / "nvidia-smi-table/table.txt").read_bytes(),
        "host/lspci.txt.gz": gzip.compress(
            b"1b:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)\n\tNUMA node: 1\n"
        ),
        "host/picture.png": b"\x89PNG\0\0",
        "host/notes.txt": b"a sentence\n",
    }
    path = tmp_path / "capture.tar.gz"
    path.write_bytes(archive(capture))
    directory = tmp_path / "capture"
    for name, content in capture.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    for where in (path, directory):
        facts = read_facts_of(where, KNOBS)
        assert [gpu.address for gpu in facts.accelerators] == ["0000:1b:00.0", "0000:43:00.0"]
        assert {device.address: device.numa_node.value for device in facts.pci}["0000:1b:00.0"] == 1
        assert {text.file.rpartition("/")[2] for text in facts.texts if not text.format} == {"notes.txt"}
