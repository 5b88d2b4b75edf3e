"""Recordings: every packing reads the same, and what was made as an attack is refused or read safely."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import at_most

from bedplate.errors import ReadError
from bedplate.host.root import recording, tar, zstd
from bedplate.host.root.recording import open_recording, parse_manifest
from bedplate.model.facts.reading import Unknown

FILES = {"proc/version": b"Linux version 6.12\n", "sys/devices/a/vendor": b"0x10de\n"}
LINKS = {"sys/bus/a": "../devices/a", "sys/bus/absolute": "/sys/devices/a"}


def make_tar(
    files: dict[str, bytes] = FILES, links: dict[str, str] = LINKS, *, top: str = "", form: int = tarfile.PAX_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(top + name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return out.getvalue()


def header(name: str, kind: bytes = b"0", size: bytes = b"00000000000\0", link: str = "") -> bytes:
    """One tar header, with a right checksum whatever it says."""
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[156:157] = kind
    block[157 : 157 + len(link)] = link.encode()
    block[257:265] = b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def write(directory: Path, data: bytes) -> Path:
    path = directory / "host.recording"
    path.write_bytes(data)
    return path


def ttar(*members: str) -> bytes:
    return "\n".join(["# Archive created by ttar -c", *members, ""]).encode()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
    "two gz streams": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "two zst frames": lambda data: b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:700], data[700:])),
}


@pytest.mark.parametrize("top", ["", "./", "/", "a-server/", "./a-server/"])
@pytest.mark.parametrize("packing", PACKED)
def test_every_packing_reads_the_same(tmp_path: Path, packing: str, top: str) -> None:
    root = open_recording(write(tmp_path, PACKED[packing](make_tar(top=top))))
    assert root.names("/").value == ("proc", "sys")
    assert root.read("/proc/version").value == "Linux version 6.12"
    assert root.read("/sys/bus/a/vendor").value == "0x10de"
    assert root.read("/sys/bus/absolute/vendor").value == "0x10de"
    assert root.resolve("/sys/bus/a") == "/sys/devices/a"
    assert root.readlink("/sys/bus/a") == "../devices/a"
    assert root.read("/proc/other").unknown is Unknown.NOT_RECORDED
    assert root.names("/sys/other").unknown is Unknown.NOT_RECORDED
    assert root.read("/sys/devices").unknown is Unknown.MALFORMED


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_each_format(tmp_path: Path, form: int) -> None:
    name = "sys/" + "/".join(["d" * 30] * 5) + "/vendor"
    links = {"sys/link": "/" + "/".join(["d" * 15] * 5)}
    root = open_recording(write(tmp_path, make_tar({name: b"1"}, links, form=form)))
    assert root.read("/" + name).value == "1"
    assert root.readlink("/sys/link") == links["sys/link"]


def test_a_hard_link_is_the_other_file(tmp_path: Path) -> None:
    data = header("proc/a", size=b"00000000001\0") + b"x".ljust(512, b"\0") + header("proc/b", b"1", link="proc/a")
    assert open_recording(write(tmp_path, data)).read("/proc/b").value == "x"


def test_ttar_is_read_as_its_own_tool_reads_it(tmp_path: Path) -> None:
    data = ttar(
        "Directory: fixtures/proc",
        "Mode: 755",
        "# ttar - - -",
        "Path: fixtures/proc/1/cmdline",
        "Lines: 1",
        "vimNULLBYTEtest.goNULLBYTE\\NULLBYTE\\EOF+EOF",
        "Mode: 644",
        "Path: fixtures/proc/self",
        "SymlinkTo: 1",
    )
    root = open_recording(write(tmp_path, gzip.compress(data)))
    assert root.read_bytes("/proc/self/cmdline").value == b"vim\0test.go\0NULLBYTE\\EOF+"


def test_a_directory_is_a_recording_too(tmp_path: Path) -> None:
    (tmp_path / "host/proc").mkdir(parents=True)
    (tmp_path / "host/proc/version").write_text("6.12")
    (tmp_path / "host/proc/outside").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    for path in (tmp_path / "host", tmp_path):
        if path == tmp_path:
            (tmp_path / "secret").unlink()
        root = open_recording(path)
        assert root.read("/proc/version").value == "6.12"
        assert root.read("/proc/outside").unknown is Unknown.NOT_RECORDED
    with pytest.raises(ReadError, match="not a recording"):
        open_recording(tmp_path / "host/proc")


def test_a_manifest_says_what_was_absent_and_what_was_denied(tmp_path: Path) -> None:
    manifest = {
        "schema": 1,
        "absent": ["/sys/kernel/gone"],
        "denied": ["/proc/1/environ"],
        "denied_names": ["/proc/1/fd"],
        "malformed": {"/sys/loop": "Input/output error"},
        "names": {"/sys/bus": ["a", "b"]},
    }
    files = {"MANIFEST.json": json.dumps(manifest).encode(), **{f"root/{name}": data for name, data in FILES.items()}}
    packed = write(tmp_path, make_tar(files, {}))
    for name, data in files.items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path in (packed, tmp_path / "unpacked"):
        root = open_recording(path)
        assert root.read("/proc/version").value == "Linux version 6.12"
        assert root.read("/sys/kernel/gone").unknown is Unknown.ABSENT
        assert root.read("/sys/kernel/gone/below").unknown is Unknown.ABSENT
        assert root.read("/sys/bus/c").unknown is Unknown.ABSENT, "a whole listing lacks it"
        assert root.read("/sys/bus/b").unknown is Unknown.NOT_RECORDED, "it was there and nobody read it"
        assert root.read("/proc/1/environ").unknown is Unknown.DENIED
        assert root.exists("/proc/1/environ")
        assert root.read("/sys/loop").unknown is Unknown.MALFORMED
        assert root.read("/proc/never-asked").unknown is Unknown.NOT_RECORDED
        assert root.names("/sys/bus").value == ("a", "b")
        assert root.names("/proc/1/fd").unknown is Unknown.DENIED
        assert root.names("/proc").unknown is Unknown.NOT_RECORDED
        with pytest.raises(ReadError, match="not on this machine"):
            root.at("/proc/version")


SPARSE = header("proc/huge", b"S", size=b"\x80" + (10 << 30).to_bytes(11, "big"))
ATTACKS = {
    "a name that climbs out": (make_tar({"../../etc/passwd": b"x"}, {}), "leads out"),
    "a name that climbs out in the middle": (make_tar({"proc/../../etc/passwd": b"x"}, {}), "leads out"),
    "a sparse member of 10 GB": (SPARSE, "sparse"),
    "a member of 10 GB": (header("proc/huge", size=b"\x80" + (10 << 30).to_bytes(11, "big")), "at most"),
    "a member of 2^87 bytes": (header("proc/huge", size=b"\x80" + b"\xff" * 11), "at most"),
    "a size that is no number": (header("proc/huge", size=b"-0000000001\0"), "without a number"),
    "a pax header of 8 GB": (header("x", b"x", size=b"77777777777\0"), "a header of"),
    "a pax header that never ends": (header("x", b"x", size=b"00000001000\0") + b"9 path=" * 73 + b"x", "damaged pax"),
    "a pax header of length 0": (header("x", b"x", size=b"00000000011\0") + b"0 path=a\n".ljust(512, b"\0"), "damaged pax"),
    "a truncated member": (header("proc/a", size=b"00000007777\0") + b"x", "truncated"),
    "a truncated header": (header("proc/a") + header("proc/b")[:100], "truncated"),
    "a damaged checksum": (header("proc/a") + b"x" * 512, "damaged header"),
    "not a recording": (make_tar({"photo.jpg": b"x", "b.jpg": b"y"}, {}), "neither proc nor sys"),
    "nothing": (b"", "is empty"),
    "a text": (b"hello\n" * 200, "not a recording"),
    "a truncated gz": (gzip.compress(make_tar())[:-40], "truncated"),
    "a truncated xz": (lzma.compress(make_tar())[:150], "truncated|damaged"),
    "a truncated bz2": (bz2.compress(make_tar())[:-40], "truncated|damaged"),
    "a damaged gz": (b"\x1f\x8b\x08" + b"\xff" * 100, "damaged"),
    "a damaged bz2": (b"BZh9" + b"\xff" * 100, "damaged"),
    "a damaged xz": (b"\xfd7zXZ\0" + b"\xff" * 100, "damaged"),
    "a damaged zst": (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "damaged"),
    "a ttar that ends early": (ttar("Path: proc/a", "Lines: 999999999", "x"), "ends after"),
    "a ttar with more lines than any": (ttar("Path: a", "Lines: 99999999") + b"\n" * (1 << 21), "more than 2097152 lines"),
    "a ttar with a file larger than any": (ttar("Path: a", "Lines: 4", *["x" * (9 << 20)] * 4), "more than 33554432 bytes"),
    "a ttar with lines without number": (ttar("Path: proc/a", "Lines: -1"), "not a number"),
    "a ttar that climbs out": (ttar("Path: ../etc/passwd", "Lines: 0"), "leads out"),
    "a ttar with other lines": (ttar("Owner: root"), "not a line of a ttar"),
    "a manifest that is no JSON": (make_tar({"MANIFEST.json": b"{", "root/proc/a": b""}, {}), "not JSON"),
    "a manifest too deep": (make_tar({"MANIFEST.json": b"[" * 100_000, "root/proc/a": b""}, {}), "not JSON"),
    "a manifest of the future": (make_tar({"MANIFEST.json": b'{"schema": 2}', "root/proc/a": b""}, {}), "schema is '2'"),
    "a manifest with other types": (
        make_tar({"MANIFEST.json": b'{"schema": 1, "absent": [1]}', "root/proc/a": b""}, {}),
        "list of strings",
    ),
    "names deeper than any": (make_tar({"sys/" + "a/" * 65 + "f": b""}, {}), "directories deep"),
    "a link's name deeper than any": (make_tar({}, {"sys/" + "a/" * 65 + "f": "/"}), "directories deep"),
    "a ttar with names deeper than any": (ttar("Path: sys/" + "a/" * 65, "Lines: 0"), "directories deep"),
    "a manifest without a tree": (make_tar({"MANIFEST.json": b'{"schema": 1}'}, {}), "no tree"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_by_a_sentence(tmp_path: Path, attack: str) -> None:
    data, says = ATTACKS[attack]
    with pytest.raises(ReadError, match=says) as refusal:
        open_recording(write(tmp_path, data))
    assert "host.recording" in refusal.value.message
    assert "\n" not in refusal.value.message


def test_links_never_leave_the_archive(tmp_path: Path) -> None:
    links = {
        "sys/etc": "/etc",
        "sys/above": "../../../../../../etc/passwd",
        "sys/loop": "loop2",
        "sys/loop2": "loop",
        "sys/self": ".",
        "sys/grows": "grows/grows/grows",
    }
    root = open_recording(write(tmp_path, make_tar({"proc/version": b"6"}, links)))
    assert root.read("/sys/etc/passwd").unknown is Unknown.NOT_RECORDED
    assert root.read("/sys/above").unknown is Unknown.NOT_RECORDED
    assert root.read("/sys/loop").unknown is Unknown.MALFORMED
    assert root.names("/sys/loop").unknown is Unknown.MALFORMED
    assert root.read("/sys/grows").unknown is Unknown.MALFORMED
    assert root.resolve("/sys/loop") is None
    assert root.resolve("/sys/self/self/self") == "/sys"


def test_devices_and_fifos_of_an_archive_are_passed_over(tmp_path: Path) -> None:
    data = header("dev/sda", b"4") + header("dev/fifo", b"6") + make_tar()
    assert open_recording(write(tmp_path, data)).read("/dev/sda").unknown is Unknown.NOT_RECORDED


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zst"])
def test_a_bomb_ends_at_the_bound(tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "ARCHIVE_LIMIT", 8 << 20)
    member = header("proc/zeros", size=b"00040000000\0") + bytes(8 << 20)
    with pytest.raises(ReadError, match="more than 8 MiB"):
        open_recording(write(tmp_path, PACKED[pack](member * 2)))


def test_directories_that_names_imply_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of them is made by an archive of kilobytes."""
    names = {f"sys/{number}/" + "a/" * 60 + "f": b"" for number in range(60)}
    path = write(tmp_path, gzip.compress(make_tar(names, {})))
    assert open_recording(path).names("/sys").value is not None
    monkeypatch.setattr(recording, "DIRECTORIES_LIMIT", 3000)
    with pytest.raises(ReadError, match="more than 3000 directories"):
        open_recording(path)


def test_the_content_that_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "CONTENT_LIMIT", 1 << 20)
    path = write(tmp_path, gzip.compress(make_tar({f"proc/{number}": bytes(100_000) for number in range(12)}, {})))
    with pytest.raises(ReadError, match="more than 1 MiB"):
        open_recording(path)


def test_a_million_files_are_refused_in_time(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(header("proc/a") * (tar.MEMBERS_LIMIT + 10), 1))
    with at_most(cpu_s=40), pytest.raises(ReadError, match="more than 200000 members"):
        open_recording(path)


def test_without_zstd_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "_import", lambda name: None)
    with pytest.raises(ReadError, match="which this Python cannot read") as refusal:
        open_recording(write(tmp_path, PACKED["zst"](make_tar())))
    assert "zstd -d" in (refusal.value.hint or "")
    assert zstd.pack_zstd(b"x") is None


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot read: No such file"):
        open_recording(tmp_path / "nothing")


def _walk(path: Path) -> None:
    try:
        root = open_recording(path)
    except ReadError:
        return
    for name in root.names("/").value or ():
        root.read("/" + name)
        root.names("/" + name)
        root.resolve("/" + name)


def _mutated(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed)


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8)


@given(changes=CHANGES, cut=st.integers(0, 1 << 20), pack=st.sampled_from(sorted(PACKED)), outside=st.booleans())
@settings(max_examples=300, deadline=None)
def test_only_read_errors_leave_a_damaged_archive(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int, pack: str, outside: bool
) -> None:
    plain = make_tar()
    data = _mutated(PACKED[pack](plain), changes) if outside else PACKED[pack](_mutated(plain, changes))
    path = tmp_path_factory.getbasetemp() / "fuzz.tar"
    path.write_bytes(data[: len(data) - cut % 600] if cut % 3 == 0 else data)
    _walk(path)


@given(st.lists(st.sampled_from(["Path: proc/a", "Lines: 1", "Lines: 2", "x", "SymlinkTo: a", "Directory: b", "", "EOF"])))
@settings(max_examples=200, deadline=None)
def test_only_read_errors_leave_a_ttar(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.ttar"
    path.write_bytes(ttar(*lines))
    _walk(path)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda value: (
            st.lists(value, max_size=3)
            | st.dictionaries(st.sampled_from(["schema", "absent", "denied", "names", "malformed", "/a"]), value, max_size=4)
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_only_read_errors_leave_a_manifest(table: object) -> None:
    if isinstance(table, dict):
        table["schema"] = 1
    with contextlib.suppress(ReadError):
        parse_manifest(json.dumps(table).encode())
