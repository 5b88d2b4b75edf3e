"""The site directory of a layer: compared with the lock and with the wheels' own lists, then made the same each time."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from bedplate.errors import ReadError
from bedplate.image.engine_python import (
    find_changed_wheel_files,
    find_wheel_differences,
    read_distributions,
    settle_files,
    write_records,
)
from bedplate.image.engine_root import merge_directories, remove_globs
from bedplate.image.wheels import Wheel, WheelLock


def entry(path: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(text)}"


def add_package(site: Path, name: str, version: str, files: dict[str, str]) -> Path:
    directory = site / f"{name}-{version}.dist-info"
    directory.mkdir(parents=True)
    lines = []
    for path, text in {**files, f"{directory.name}/METADATA": f"Name: {name}\nVersion: {version}\n\nName: no\n"}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
        lines.append(entry(path, text))
    (directory / "RECORD").write_text("\n".join([*reversed(lines), f"{directory.name}/RECORD,,", ""]))
    return directory


def lock(**versions: str) -> WheelLock:
    wheels = (Wheel(name=name, version=version, file="", sha256="", source="pypi") for name, version in versions.items())
    return WheelLock(request="", wheels=tuple(wheels))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    add_package(
        tmp_path, "Engine", "1.0", {"engine/a.py": "a = 1\n", "engine/b.so": "machine code and symbols", "bin/e": "#!"}
    )
    add_package(tmp_path, "numbers_", "2", {"numbers/a b.py": ""})
    return tmp_path


def test_the_packages_of_a_site_directory_are_compared_with_the_lock(site: Path) -> None:
    held = read_distributions(site)
    assert [(package.name, package.version) for package in held] == [("engine", "1.0"), ("numbers-", "2")]
    assert find_wheel_differences(lock(**{"engine": "1.0", "numbers-": "2"}), held) == ()
    assert find_wheel_differences(lock(engine="1.1", other="3"), held) == (
        "engine: 1.0 is there, the lock has 1.1",
        "numbers-: 2 is there, the lock has no such package",
        "other: missing, the lock has 3",
    )
    add_package(site, "ENGINE", "1.0", {})
    assert "engine: is there twice" in find_wheel_differences(
        lock(**{"engine": "1.0", "numbers-": "2"}), read_distributions(site)
    )


def test_a_changed_and_a_missing_file_of_a_wheel_are_found(tmp_path: Path) -> None:
    add_package(tmp_path, "Engine", "1.0", {"engine/a.py": "a = 1\n", "engine/b.py": "b = 1\n"})
    assert find_changed_wheel_files(tmp_path) == ()
    (tmp_path / "engine/a.py").write_text("a = 2\n")  # of the same size
    (tmp_path / "engine/b.py").unlink()
    assert set(find_changed_wheel_files(tmp_path)) == {"engine/a.py (changed)", "engine/b.py (missing)"}


def test_records_say_what_is_there_after_trimming_and_stripping(site: Path) -> None:
    (site / "engine/b.so").write_text("machine code")
    remove_globs(site, ("bin", "engine/missing*"))
    write_records(site)
    assert (site / "Engine-1.0.dist-info/RECORD").read_text().splitlines() == [
        entry("Engine-1.0.dist-info/METADATA", "Name: Engine\nVersion: 1.0\n\nName: no\n"),
        entry("engine/a.py", "a = 1\n"),
        entry("engine/b.so", "machine code"),
        "Engine-1.0.dist-info/RECORD,,",
    ]
    assert find_changed_wheel_files(site) == ()


def test_a_package_without_a_name_is_refused(site: Path) -> None:
    (site / "Engine-1.0.dist-info/METADATA").write_text("Name: engine\n\nVersion: 1\n")
    with pytest.raises(ReadError, match=r"Engine-1.0.dist-info/METADATA: has no name and version"):
        read_distributions(site)
    (site / "Engine-1.0.dist-info/METADATA").unlink()
    with pytest.raises(ReadError, match="cannot read"):
        read_distributions(site)


def test_times_and_modes_are_the_same_whatever_the_host_gave(site: Path) -> None:
    (site / "engine/b.so").chmod(0o700)
    (site / "engine/a.py").chmod(0o600)
    (site / "engine").chmod(0o700)
    settle_files(site, epoch=1000)
    found = {path.relative_to(site).as_posix(): path.lstat() for path in site.rglob("*")}
    assert {status.st_mtime for status in found.values()} == {1000.0}
    assert oct(found["engine/b.so"].st_mode)[-3:] == oct(found["engine"].st_mode)[-3:] == "755"
    assert oct(found["engine/a.py"].st_mode)[-3:] == "644"


def test_the_directories_of_an_older_root_are_merged_into_usr(tmp_path: Path) -> None:
    for path in ("bin/dash", "lib/x/libc.so.6", "usr/lib/x/libz.so.1", "usr/bin/python3.11"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "bin/sh").symlink_to("dash")
    (tmp_path / "sbin").symlink_to("usr/sbin")  # as Debian 13 has it
    merge_directories(tmp_path)
    links = {name: str((tmp_path / name).readlink()) for name in ("bin", "lib", "sbin")}
    assert links == {"bin": "usr/bin", "lib": "usr/lib", "sbin": "usr/sbin"}
    assert sorted(path.name for path in (tmp_path / "usr/lib/x").iterdir()) == ["libc.so.6", "libz.so.1"]
    assert (tmp_path / "bin/sh").read_text() == "bin/dash" and (tmp_path / "usr/bin/sh").is_symlink()
    assert not (tmp_path / "lib64").exists()


def test_what_two_globs_find_is_removed_once(tmp_path: Path) -> None:
    for path in ("a/tests/x.h", "a/y.h", "b/z.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    remove_globs(tmp_path, ("**/tests", "**/*.h", "/b/*.py"))
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["a", "b"]


def test_a_library_that_was_stripped_to_the_same_size_has_its_new_digest(site: Path) -> None:
    (site / "engine/b.so").write_text("machine code and SYMBOLS")
    write_records(site)
    assert (
        entry("engine/b.so", "machine code and SYMBOLS") in (site / "Engine-1.0.dist-info/RECORD").read_text().splitlines()
    )


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"/etc/shadow,sha256=a,1\n", "'/etc/shadow' lies outside"),
        (b"engine/../../x,sha256=a,1\n", "'engine/../../x' lies outside"),
        (b"../../../bin/x,sha256=a,1\n", "lies outside"),
        (b"engine/a.py,sha256=a\n", "got a line of 2 columns"),
        (b"engine/\xff.py,sha256=a,1\n", "is no CSV in UTF-8"),
        (b'"engine/a.py,' + b"a" * 200_000 + b"\n", "is no CSV in UTF-8"),
    ],
)
def test_a_record_that_no_installer_writes_is_refused(site: Path, record: bytes, words: str) -> None:
    (site / "Engine-1.0.dist-info/RECORD").write_bytes(record)
    for use in (find_changed_wheel_files, write_records):
        with pytest.raises(ReadError, match="RECORD: ") as caught:
            use(site)
        assert words in caught.value.message
