"""Published images: what lost a part is no image. It is not booted or taken for built, and it can be named and removed."""

from __future__ import annotations

import json
from collections.abc import Callable
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
