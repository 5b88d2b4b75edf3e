"""Published images: what lost a part is no image. It is not booted or taken for built, and it can be named and removed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.cli.main import main
from bedplate.errors import ReadError, UsageError
from bedplate.image.published import find_image, find_published, list_images

DIGEST = "1a2b3c4d" * 8
VERSION = "0.1~1a2b3c4d"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    directory = paths.images / VERSION
    directory.mkdir(parents=True)
    files = {}
    for kind in ("raw", "qcow2", "uki", "kernel", "initrd"):
        (directory / f"bedplate.{kind}").write_text(kind)
        files[kind] = {"name": f"bedplate.{kind}", "size_bytes": len(kind), "disk_bytes": 4096}
    record = {
        "version": VERSION,
        "variant": "development",
        "kernel": "7.3",
        "packages": [],
        "files": files,
        "kernel_command_line": "quiet",
        "inputs": {"digest": DIGEST},
    }
    (directory / "manifest.json").write_text(json.dumps(record))
    return paths


def _spoil(image: Path, *, path: str, value: object) -> None:
    """Another value at the path of a key in the manifest."""
    manifest = image / "manifest.json"
    record = json.loads(manifest.read_text())
    *above, key = path.split(".")
    table = record
    for step in above:
        table = table[step]
    table[key] = value
    manifest.write_text(json.dumps(record))


DAMAGES = [
    pytest.param(lambda image: (image / "bedplate.raw").unlink(), "bedplate.raw is missing", id="no disk"),
    pytest.param(lambda image: (image / "bedplate.qcow2").unlink(), "bedplate.qcow2 is missing", id="no qcow2"),
    pytest.param(
        lambda image: (image / "bedplate.initrd").write_text("x"), "bedplate.initrd has 1 bytes, expected 6", id="cut"
    ),
    pytest.param(lambda image: (image / "manifest.json").unlink(), "its manifest cannot be read", id="no manifest"),
    pytest.param(lambda image: (image / "manifest.json").write_text("{"), "its manifest cannot be read", id="cut manifest"),
    pytest.param(lambda image: (image / "manifest.json").write_text("[]"), "its manifest cannot be read", id="a list"),
    pytest.param(lambda image: (image / "manifest.json").write_text("{}"), "no key 'files'", id="empty"),
    *(
        pytest.param(partial(_spoil, path=path, value=value), said, id=f"{path} {said[:20]}")
        for path, value, said in (
            ("version", 3, "version: got 3, expected printable text"),
            ("version", "a\nb", "version: got 'a"),
            ("version", "\ud800", "version: got '"),
            ("kernel", "x" * 5000, "expected printable text of at most 4096 characters"),
            ("variant", "other", "not a valid Variant"),
            ("packages", {}, "packages: expected a list of objects"),
            ("packages", [{"name": 3}], "packages[0].name: got 3"),
            ("inputs", [], "inputs: expected an object"),
            ("files.raw", "x", "files.raw: expected an object"),
            ("files.raw.name", ["x"], "files.raw.name: got ['x'], expected printable"),
            ("files.raw.name", "x" * 300, "expected the name of a file beside it"),
            ("files.raw.name", "../x", "files.raw.name: got '../x', expected the name of a file beside it"),
            ("files.raw.size_bytes", 1e999, "files.raw.size_bytes: got inf, expected a number of bytes"),
            ("files.raw.disk_bytes", True, "files.raw.disk_bytes: got True, expected a number of bytes"),
        )
    ),
    pytest.param(lambda image: (image / "manifest.json").write_text("[" * 100_000), "it is not JSON", id="deep"),
    pytest.param(lambda image: (image / "manifest.json").write_text("9" * 5000), "it is not JSON", id="digits"),
    pytest.param(lambda image: (image / "manifest.json").write_bytes(b'"\xff"'), "it is not JSON", id="not UTF-8"),
    pytest.param(lambda image: os.truncate(image / "manifest.json", 17 << 20), "longer than 16 MiB", id="huge"),
]


def test_a_whole_image_is_found(paths: Paths) -> None:
    (paths.images / ".partial-1").mkdir()
    images, broken = list_images(paths)
    assert [image.version for image in images] == [VERSION]
    assert broken == []
    assert find_image(paths).version == find_image(paths, VERSION).version == VERSION
    assert find_published(paths, VERSION, DIGEST) is not None


def test_a_version_with_other_inputs_is_not_taken(paths: Paths) -> None:
    assert find_published(paths, VERSION, DIGEST[:8] + "0" * 56) is None


@pytest.mark.parametrize("version", ["0.1~00000000", ".partial-1", "..", "../images"])
def test_an_unknown_version_is_named_with_those_that_are_there(paths: Paths, version: str) -> None:
    (paths.images / ".partial-1").mkdir()
    with pytest.raises(UsageError, match=f"the images are: {VERSION}"):
        find_image(paths, version)


@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_an_image_that_lost_a_part_counts_as_absent(paths: Paths, damage: Callable[[Path], object], told: str) -> None:
    damage(paths.images / VERSION)
    images, (error,) = list_images(paths)
    assert images == []
    assert told in error.message
    assert find_published(paths, VERSION, DIGEST) is None
    for version in (VERSION, None):
        with pytest.raises(ReadError, match=f"image {VERSION}: ") as caught:
            find_image(paths, version)
        assert f"bedplate image rm {VERSION}" in str(caught.value.hint)


@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_the_commands_name_it_and_remove_it(
    paths: Paths,
    damage: Callable[[Path], object],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(paths.cache))
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(paths.state))
    damage(paths.images / VERSION)
    assert main(["image", "list"]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert told in output.err
    assert main(["image", "show"]) == 1
    assert told in capsys.readouterr().err
    assert main(["image", "rm", VERSION]) == 0
    assert not (paths.images / VERSION).exists()


@pytest.mark.parametrize(
    ("key", "argv"),
    [("pcr11", ("show",)), ("partitions", ("show",)), ("packages.*.version", ("show",)), ("kernel", ("list",))],
)
def test_a_manifest_without_a_key_is_told(
    paths: Paths, key: str, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(paths.state))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(paths.cache))
    manifest = paths.images / VERSION / "manifest.json"
    record = json.loads(manifest.read_text()) | {"id": "x", "suite": "y", "pcr11": "z", "packages": [{"name": "a"}]}
    record["packages"] = record["packages"] if "packages" in key else []
    record.pop(key, None)
    manifest.write_text(json.dumps(record))
    assert main(["image", *argv]) == 1
    assert f"the manifest of the image has no key {key}" in capsys.readouterr().err
