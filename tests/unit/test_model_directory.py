"""A model's directory with links, FIFOs and devices in it: what is taken lies in it or its own cache, or is refused."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from tests.unit.store_cases import write_directory

from bedplate.errors import ModelRefused, ReadError
from bedplate.host.root.regular import open_regular
from bedplate.weights.safetensors import read_safetensors_directory
from bedplate.weights.source import list_directory
from bedplate.weights.store import Store


class Notes:
    """A Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def detail(self, text: str) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "model")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "shadow"
    path.write_text("root:planted")
    path.chmod(0o640)
    return path


def assert_refused(model: Path, tmp_path: Path, says: str) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ModelRefused, match=says):
        store.add(model, progress=Notes(), name="m")
    assert store.models() == ()
    copies = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and b"planted" in path.read_bytes()]
    assert copies == []


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE.txt", "tokenizer.json", "b.safetensors", "config.json"])
def test_a_link_out_of_the_directory_is_refused(model: Path, secret: Path, tmp_path: Path, name: str) -> None:
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(secret)
    assert_refused(model, tmp_path, rf"model/{name}: is a link that leads to .*/shadow, outside of .*/model")


def test_a_chain_of_links_is_judged_by_its_end(model: Path, secret: Path, tmp_path: Path) -> None:
    (model / "sub/hop").symlink_to(secret)
    (model / "LICENSE").symlink_to("sub/hop")
    assert_refused(model, tmp_path, "LICENSE: is a link that leads to .*shadow")


def test_a_link_through_a_directory_is_judged_by_its_end(model: Path, secret: Path, tmp_path: Path) -> None:
    (model / "away").symlink_to(secret.parent)
    (model / "LICENSE").symlink_to("away/shadow")
    assert_refused(model, tmp_path, "LICENSE: is a link")


def test_another_name_of_a_private_file_is_refused(model: Path, secret: Path, tmp_path: Path) -> None:
    """An archive that root unpacks can make one of /etc/shadow."""
    (model / "LICENSE").hardlink_to(secret)
    assert_refused(model, tmp_path, "LICENSE: is one of 2 hard links to a file that is not world-readable")


def test_links_in_the_directory_are_followed_and_said(model: Path, tmp_path: Path) -> None:
    (model / "sub/text").write_text("a licence")
    (model / "LICENSE").symlink_to("sub/text")
    notes = Notes()
    ref = Store(tmp_path / "store").add(model, progress=notes, name="m")
    assert (Path(ref.path) / "LICENSE").read_text() == "a licence"
    assert not (Path(ref.path) / "LICENSE").is_symlink()
    assert "followed: LICENSE -> sub/text" in notes.notes


def test_the_cache_of_hugging_face_keeps_its_files_behind_links(model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--a--b"
    snapshot, blobs = repository / "snapshots/0123", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in model.iterdir() if path.is_file())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    store = Store(tmp_path / "store")
    assert store.add(snapshot, progress=Notes(), name="m").size_bytes > 0
    (tmp_path / "alias").symlink_to(snapshot)
    assert store.add(tmp_path / "alias", progress=Notes(), name="m")
    # Another repository of the same cache is not this model's.
    other = tmp_path / "hub/models--c--d/blobs"
    other.mkdir(parents=True)
    (other / "0").write_text("planted")
    (snapshot / "LICENSE").symlink_to("../../../models--c--d/blobs/0")
    assert_refused(snapshot, tmp_path / "second", "outside of .*0123 and .*blobs")


def test_blobs_that_are_a_link_themselves_are_refused(model: Path, secret: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    snapshot.parent.mkdir(parents=True)
    model.rename(snapshot)
    (tmp_path / "models--a--b/blobs").symlink_to(secret.parent)
    (snapshot / "LICENSE").symlink_to("../../blobs/shadow")
    assert_refused(snapshot, tmp_path, "blobs: is a link out of the cache")


@pytest.mark.parametrize("name", ["config.json", "c.safetensors"])
def test_a_fifo_is_no_file_and_nothing_waits_for_it(model: Path, name: str) -> None:
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    assert model / name in list_directory(model).left_out
    with pytest.raises((ModelRefused, ReadError)):
        read_safetensors_directory(model)


def test_a_device_is_no_file(model: Path, tmp_path: Path) -> None:
    (model / "LICENSE").symlink_to("/dev/zero")
    assert model / "LICENSE" in list_directory(model).left_out
    with pytest.raises(ModelRefused, match="not a regular file"):
        open_regular(model / "LICENSE")


def test_a_link_that_is_exchanged_after_the_check_is_refused(
    model: Path, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that was opened is looked at, not what the name meant before."""
    (model / "LICENSE").write_text("a licence")

    def exchange(*_: object) -> None:
        (model / "LICENSE").unlink()
        (model / "LICENSE").symlink_to(secret)

    monkeypatch.setattr("bedplate.weights.store.check_space", exchange)  # between the listing and the copies
    assert_refused(model, tmp_path, "LICENSE: is a link that leads to")
