"""Whole files: all or nothing, and nothing that is no regular file is ever replaced."""

from __future__ import annotations

import ast
import hashlib
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import bedplate
from bedplate.act.files import digest_file, write_report, write_whole
from bedplate.cli.main import main

SOURCE = Path(bedplate.__file__).parent
LSPCI = "00:00.0 Host bridge: Intel Corporation 440FX - 82441FX PMC [Natoma] (rev 02)\n"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def whole(path: Path, data: str | bytes) -> None:
    write_whole(path, data, sync=True)


@pytest.mark.parametrize("write", [whole, write_report])
def test_a_file_is_made_and_replaced_and_nothing_else_is_left(tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / ("n" * 255)  # the longest name: what stands beside it must have a shorter one
    write(path, "one")
    first = path.stat().st_ino
    write(path, b"two")
    assert path.read_text() == "two" and path.stat().st_ino != first
    assert names(tmp_path) == [path.name]


def test_the_mode_is_the_wanted_one_whatever_the_umask_is(tmp_path: Path) -> None:
    path, report = tmp_path / "state", tmp_path / "report"
    before = os.umask(0o077)
    try:
        write_whole(path, "", sync=False, mode=0o644)
        write_report(report, "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert stat.S_IMODE(report.stat().st_mode) == 0o600
        report.chmod(0o640)
        write_report(report, "again")
        assert stat.S_IMODE(report.stat().st_mode) == 0o640
        write_report(report, "private", mode=0o600)
        assert stat.S_IMODE(report.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def _special(directory: Path) -> dict[str, Path]:
    """One of each kind that must not be replaced."""
    (directory / "directory").mkdir()
    (directory / "file").write_text("kept")
    (directory / "link").symlink_to("file")
    (directory / "nowhere").symlink_to("nothing")
    os.mkfifo(directory / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
    found = {name: directory / name for name in ("directory", "link", "nowhere", "pipe", "socket")}
    if os.geteuid() == 0:
        os.mknod(directory / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(directory / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 77))
        found |= {name: directory / name for name in ("device", "disk")}
    return found


def test_a_state_file_replaces_nothing_but_a_regular_file(tmp_path: Path) -> None:
    for name, path in _special(tmp_path).items():
        there, listed = path.lstat(), names(tmp_path)
        with pytest.raises(OSError, match="is a") as caught:
            write_whole(path, "new", sync=True)
        assert caught.value.filename == str(path)
        assert os.path.samestat(there, path.lstat()) and names(tmp_path) == listed, name
    assert (tmp_path / "file").read_text() == "kept"


def test_a_report_replaces_nothing_but_a_regular_file(tmp_path: Path) -> None:
    special = _special(tmp_path)
    for name in special.keys() - {"link", "device"}:
        path = special[name]
        there, listed = path.lstat(), names(tmp_path)
        with pytest.raises(OSError, match="is a"):
            write_report(path, "new")
        assert os.path.samestat(there, path.lstat()) and names(tmp_path) == listed, name


def test_a_report_follows_a_link_and_replaces_the_file_behind_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there/file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to("there/file")
    write_report(link, "new")
    assert link.is_symlink() and file.read_text() == "new"
    assert names(tmp_path) == ["link", "there"] and names(tmp_path / "there") == ["file"]


def test_a_report_is_written_into_devices_and_pipes(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_report(link, "gone")
    assert link.is_symlink() and stat.S_ISCHR(link.stat().st_mode)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_report(full, "x")
    assert caught.value.filename == str(full)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    text = b"x" * 300_000  # more than a pipe holds
    writer = threading.Thread(target=write_report, args=(pipe, text))
    writer.start()
    got = b""
    while len(got) < len(text):
        got += os.read(reader, 65536)
    writer.join()
    os.close(reader)
    assert got == text and stat.S_ISFIFO(pipe.lstat().st_mode)


@pytest.mark.touches("spawn", why="a standard output of its own is redirected")
def test_what_is_redirected_gets_report_and_output(tmp_path: Path) -> None:
    """`--html /dev/stdout > file`: the page does not replace the file under the descriptor that is printed to."""
    program = "from bedplate.act.files import write_report; from pathlib import Path; import sys\n"
    program += "print('before', flush=True); write_report(Path(sys.argv[1]), 'page\\n'); print('after')"
    (tmp_path / "named").symlink_to("/dev/stdout")
    for name in ("/dev/stdout", "/proc/self/fd/1", str(tmp_path / "named")):
        with (tmp_path / "out").open("wb") as out:
            subprocess.run([sys.executable, "-c", program, name], stdout=out, check=True)
        assert (tmp_path / "out").read_text() == "before\npage\nafter\n", name
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, check=True)
        assert done.stdout == b"before\npage\nafter\n", name
    assert names(tmp_path) == ["named", "out"]


def test_a_write_that_fails_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, limits[1]))  # a full disk: the third byte is refused
    try:
        for write in (whole, write_report):
            with pytest.raises(OSError, match="too large") as caught:
                write(path, "new text")
            assert caught.value.filename == str(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_the_commands_keep_device_nodes(tmp_path: Path) -> None:
    (tmp_path / "lspci.txt").write_text(LSPCI)
    for name in ("null", "host.tar"):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    source = ("--from", str(tmp_path / "lspci.txt"))
    assert main(["doctor", *source, "--html", str(tmp_path / "null"), "--fail-on", "never"]) == 0
    (tmp_path / "tree/proc").mkdir(parents=True)
    (tmp_path / "tree/proc/meminfo").write_text("MemTotal: 1024 kB\n")
    assert main(["record", "--from", str(tmp_path / "tree"), "-o", str(tmp_path / "host.tar"), "--force"]) == 0
    for name in ("null", "host.tar"):
        assert stat.S_ISCHR((tmp_path / name).lstat().st_mode), name
    assert names(tmp_path) == ["host.tar", "lspci.txt", "null", "tree"]


# Calls that make, truncate or replace a file by its name, where they are right: directories that nobody else names are
# filled and then renamed, a build fills its own work directory, kernel files and private files are no whole files.
_ELSEWHERE = {
    "act/files.py": "the one place",
    "act/certificates.py": "a temporary directory",
    "act/signatures.py": "a temporary directory",
    "weights/records.py": "links of a tree, and a directory of records that is published",
    "act/serving.py": "a kernel file",
    "act/durable.py": "files that a transaction keeps are moved",
    "act/tuning/journal.py": "the journal takes its reserved file",
    "weights/store.py": "private files become content of the store",
    "weights/pull/beginnings.py": "the private tree of a pull",
    "flows/front.py": "the directory of a certificate authority is published",
    "image/build.py": "work directory and publishing of an image",
    "image/driver.py": "work directory and publishing of a layer",
    "image/driver_modules.py": "work directory of a build",
    "image/driver_tree.py": "work directory of a build",
    "image/engine.py": "work directory and publishing of a layer",
    "image/engine_python.py": "the tree of a layer, before it is published",
    "image/engine_root.py": "the tree of a layer, before it is published",
    "image/initrd.py": "work directory of a build",
    "image/keys.py": "a directory of keys is published",
    "image/layer_disk.py": "work directory of a build",
    "image/manifest.py": "inside a directory that is published",
    "image/mirror.py": "a temporary directory",
    "image/models_disk.py": "a disk is published",
    "image/packages.py": "the pool and the build's repository",
    "image/python_lock.py": "a temporary directory",
    "image/tools.py": "the tools tree is published",
    "prove/lab/antagonists/scratch.py": "files of a neighbour",
}


def _writes(path: Path) -> list[int]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, words = node.func.attr, [word.value for word in node.args if isinstance(word, ast.Constant)]
        of_os = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
        if (
            name in ("write_text", "write_bytes", "rename")
            or (name == "replace" and (of_os or (len(node.args) == 1 and not node.keywords and not words)))
            or (name == "open" and any(isinstance(word, str) and set(word) & set("wx") and len(word) <= 3 for word in words))
        ):
            found.append(node.lineno)
    return found


def test_no_other_code_replaces_files() -> None:
    found = {path.relative_to(SOURCE).as_posix(): _writes(path) for path in sorted(SOURCE.rglob("*.py"))}
    wrong = [f"{where}: lines {lines}" for where, lines in found.items() if lines and where not in _ELSEWHERE]
    assert wrong == [], "use act/files.py, or say in the table why not"
    assert found["act/files.py"], "the search finds what it is meant to find"


def test_a_file_is_digested_whole_and_says_how_far_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bedplate" * 200_000)
    read: list[int] = []
    assert digest_file(file, on_read=read.append) == hashlib.sha256(b"bedplate" * 200_000).hexdigest()
    assert read == sorted(read) and read[-1] == 1_600_000 and len(read) > 1
