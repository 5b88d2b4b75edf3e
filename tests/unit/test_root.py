"""The door to a machine's files: what is not there, what is denied, what is no text, and links that lead out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.tuning.baseline import Unapplied
from bedplate.errors import ModelRefused, ReadError
from bedplate.host.record.record import Recorder
from bedplate.host.root import root as door
from bedplate.host.root.links import Links
from bedplate.host.root.recording import MemoryTree, Recording
from bedplate.host.root.regular import open_regular
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Unknown


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    machine = tmp_path / "machine"
    (machine / "proc").mkdir(parents=True)
    (machine / "proc/version").write_text("Linux version 6.12\n")
    (machine / "sys/devices/a/b").mkdir(parents=True)
    (machine / "sys/devices/a/b/vendor").write_text("0x10de\n")
    (machine / "sys/bus").mkdir()
    (machine / "sys/bus/b").symlink_to("../devices/a/b")
    (machine / "sys/bus/absolute").symlink_to("/sys/devices/a/b")
    (machine / "outside").symlink_to("/etc/passwd")
    (machine / "above").symlink_to("../../../../../../../etc/passwd")
    (machine / "loop").symlink_to("loop2")
    (machine / "loop2").symlink_to("loop")
    return machine


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may read all: become somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_text_is_without_what_ends_it(tree: Path) -> None:
    reading = Root(tree).read("/proc/version")
    assert (reading.value, reading.source, reading.unknown) == ("Linux version 6.12", "/proc/version", None)


def test_absent_is_not_an_error(tree: Path) -> None:
    root = Root(tree)
    for where in ("/proc/nothing", "/proc/version/below", "/proc/" + "x" * 5000, "/proc/a\0b"):
        assert root.read(where).unknown is Unknown.ABSENT
        assert root.read_text(where) is None
        assert root.names(where).unknown is Unknown.ABSENT
        assert root.listdir(where) == ()
        assert not root.exists(where)


def test_a_recording_that_lacks_a_file_does_not_say_that_the_machine_did(tree: Path) -> None:
    root = Root(tree, absent=Unknown.NOT_RECORDED)
    assert root.read("/proc/nothing").unknown is Unknown.NOT_RECORDED
    assert root.read_text("/proc/nothing") is None


@pytest.mark.touches("spawn", "machine", why="only another user is denied anything")
def test_denied_is_a_fact(tmp_path: Path, nobody: None) -> None:
    if os.geteuid() == 0:
        pytest.skip("cannot become another user here")
    # "/" itself: below a directory that only root may enter nothing else would be seen.
    root = Root()
    assert root.read("/proc/1/environ").unknown is Unknown.DENIED
    assert root.names("/proc/1/fd").unknown is Unknown.DENIED
    assert root.listdir("/proc/1/fd") == ()
    with pytest.raises(ReadError, match="Permission denied"):
        root.read_text("/proc/1/environ")


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"a\0b", "NUL"), (b"x" * 101, "longer than 100 bytes")],
)
def test_what_is_no_text_is_malformed(tree: Path, content: bytes, why: str) -> None:
    (tree / "proc/odd").write_bytes(content)
    reading = Root(tree).read("/proc/odd", limit=100)
    assert reading.unknown is Unknown.MALFORMED
    assert why in reading.text


def test_a_nul_at_the_end_is_how_device_trees_write(tree: Path) -> None:
    (tree / "proc/model").write_bytes(b"NVIDIA DGX Spark\0")
    assert Root(tree).read("/proc/model").value == "NVIDIA DGX Spark"


def test_bytes_that_are_not_utf8_can_be_printed(tree: Path) -> None:
    (tree / "proc/odd").write_bytes(b"caf\xe9")
    assert Root(tree).read("/proc/odd").value == "caf\\xe9"


def test_a_file_of_gigabytes_is_not_read(tree: Path) -> None:
    with (tree / "proc/huge").open("wb") as huge:
        huge.truncate(10 << 30)
    root = Root(tree)
    assert root.read("/proc/huge").unknown is Unknown.MALFORMED
    assert len(root.read_bytes("/proc/huge", 10).value or b"") == 10
    with pytest.raises(ReadError, match="longer than"):
        root.read_text("/proc/huge")


def test_a_fifo_does_not_block_and_a_directory_is_no_file(tree: Path) -> None:
    os.mkfifo(tree / "proc/fifo")
    assert Root(tree).read("/proc/fifo").unknown is Unknown.MALFORMED
    assert Root(tree).read("/proc").unknown is Unknown.MALFORMED


def test_what_is_no_file_is_not_even_opened(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open /dev/watchdog starts it, and it resets the machine: any user's environment may have a link to it."""
    os.mkfifo(tree / "sys/fifo")
    (tree / "sys/link").symlink_to("/sys/fifo")
    opened: list[str] = []
    real = os.open

    def note(path: Any, *arguments: Any, **more: Any) -> int:
        opened.append(str(path))
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", note)
    root = Root(tree)
    for where in ("/sys/fifo", "/sys/link"):
        assert root.read_bytes(where).text == root.open_ranges(where).text == "is not a regular file"
        with pytest.raises(ModelRefused, match="not a regular file"):
            open_regular(tree / "sys/fifo")
    assert opened == []
    assert root.read_text("/proc/version") == "Linux version 6.12" and len(opened) == 1


def test_too_many_names_are_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "NAMES_LIMIT", 3)
    for number in range(5):
        (tree / f"proc/{number}").touch()
    assert Root(tree).names("/proc").unknown is Unknown.MALFORMED


def test_links_are_followed_below_the_root_only(tree: Path) -> None:
    root = Root(tree)
    assert root.read("/sys/bus/b/vendor").value == "0x10de"
    assert root.read("/sys/bus/absolute/vendor").value == "0x10de"
    assert root.readlink("/sys/bus/b") == "../devices/a/b"
    assert root.readlink("/proc/version") is None
    assert root.resolve("/sys/bus/b/vendor") == "/sys/devices/a/b/vendor"
    for where in ("/outside", "/above", "/../../etc/passwd", "/proc/../../../../etc/passwd"):
        assert root.read(where).unknown is Unknown.ABSENT
        assert root.resolve(where) is None


def test_a_loop_of_links_ends(tree: Path) -> None:
    root = Root(tree)
    assert root.read("/loop").unknown is Unknown.MALFORMED
    assert root.names("/loop").unknown is Unknown.MALFORMED
    assert root.resolve("/loop") is None
    assert root.readlink("/loop") == "loop2"


def test_links_that_grow_end() -> None:
    with pytest.raises(OSError, match="symbolic links"):
        Links().follow("/a", lambda path: "/a" + "/b" * 1000 if path == "/a" else None)


def test_a_chain_of_links_is_followed_once() -> None:
    """Thirty links, each by a long way round, behind each of a hundred files; and as many that never end."""
    way = "d/" * 500 + "../" * 500
    targets = {f"/l{n}": f"{way}l{n + 1}" for n in range(29)} | {"/l29": "/real"}
    targets |= {f"/e{n}": f"{way}e{n + 1}" for n in range(50)}
    asked: list[str] = []

    def link_of(path: str) -> str | None:
        asked.append(path)
        return targets.get(path)

    links = Links()
    for n in range(100):
        assert links.follow(f"/l0/a{n}/f", link_of) == f"/real/a{n}/f"
    assert len(asked) < 30 * 500 + 1000
    asked.clear()
    for n in range(100):
        with pytest.raises(OSError, match="symbolic links"):
            links.follow(f"/e0/a{n}/f", link_of)
    assert len(asked) < 41 * 500 + 1000
    assert links.follow("/e20/f", link_of) == "/e50/f", "a way that ends later is found where one too long was kept"


def test_links_before_a_file_count_each_time() -> None:
    targets = {f"/l{n}": f"l{n + 1}" for n in range(40)} | {"/l40/f": "/x", "/l40/g": "/l40/f"}
    links = Links()
    assert links.follow("/l0/a", targets.get) == "/l40/a"
    for _ in range(2):
        with pytest.raises(OSError, match="symbolic links"):
            links.follow("/l0/f", targets.get)
        assert links.follow("/l1/f", targets.get) == "/x"


def test_vendors_libraries_speak_of_a_live_root_alone(tree: Path) -> None:
    """Also where a plan is applied: NVML describes the machine whatever its kernel's settings were before."""
    assert Root().is_live
    assert Unapplied(Path("/"), texts={"/proc/sys/vm/swappiness": "60"}).is_live
    for root in (Root(tree), Unapplied(tree), MemoryTree(), Recording(), Recorder(inner=Root())):
        assert not root.is_live, root
