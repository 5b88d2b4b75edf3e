"""The model store with lists and records missing or damaged: they are made again, and no content is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.unit.store_cases import Heard, contents, write_directory, write_model

from bedplate.errors import ReadError
from bedplate.weights.index import parse_index
from bedplate.weights.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "Tiny Model.gguf")


DAMAGED = ("", "{", "[]", '{"schema": 1}', '{"schema": 1, "models": [{}]}', '{"schema": 1, "models": [3]}', None)


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Store:
    """Two names of one file, and a directory."""
    for name in ("first", "second"):
        store.add(write_model(tmp_path / "m.gguf", title="A Title"), progress=Heard(), name=name)
    store.add(write_directory(tmp_path / "tree"), progress=Heard(), name="tree")
    return store


def damage(path: Path, text: str | None) -> None:
    path.unlink() if text is None else path.write_text(text)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_or_missing_index_is_made_again(three: Store, tmp_path: Path, text: str | None) -> None:
    before, index = three.models(), (three.root / "index.json").read_text()
    damage(three.root / "index.json", text)
    assert three.models() == before
    three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert [model.name for model in three.models()] == ["first", "next", "second", "tree"]
    three.remove("next")
    assert three.models() == before and (three.root / "index.json").read_text() == index
    assert [three.verify(model, progress=Heard()).problem for model in before] == [""] * 3


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_or_missing_record_is_made_again_from_index_or_header(
    three: Store, tmp_path: Path, text: str | None
) -> None:
    before, kept = three.models(), contents(three)
    damage(three.root / "names/tree.json", text)
    assert three.models() == before  # the index knows its name
    (three.root / "index.json").unlink()
    named = [model.name for model in three.models()]
    assert {"first", "second"} < set(named) and len(named) == 3  # the name is lost, the model is not
    three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert set(kept) < set(contents(three))
    assert sorted(model.sha256 for model in before) == sorted(
        model.sha256 for model in three.models() if model.name != "next"
    )


def test_all_lists_may_be_lost_and_no_content_is(three: Store, tmp_path: Path) -> None:
    before, kept = three.models(), contents(three)
    for path in (three.root / "names").iterdir():
        path.unlink()
    (three.root / "names").rmdir()
    (three.root / "index.json").unlink()
    (three.root / "going").rmdir()
    added = three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert set(contents(three)) == {*kept, added.sha256}
    found = {model.sha256: model for model in three.models()}
    assert {model.sha256 for model in before} | {added.sha256} == set(found)
    assert found[before[0].sha256].name == "A-Title"
    assert [three.verify(model, progress=Heard()).problem for model in found.values()] == [""] * 3


def test_a_store_of_before_gets_records_from_its_index(three: Store, tmp_path: Path) -> None:
    before = three.models()
    for path in (three.root / "names").iterdir():
        path.unlink()
    (three.root / "names").rmdir()
    assert three.models() == before
    three.remove("first")
    assert three.models() == before[1:]
    assert [three.verify(model, progress=Heard()).problem for model in before[1:]] == ["", ""]


def test_what_a_newer_bedplate_wrote_is_left_alone(three: Store, model_file: Path) -> None:
    for path in (three.root / "index.json", three.root / "names/first.json"):
        text = path.read_text()
        path.write_text(text.replace('"schema": 1', '"schema": 3'))
        kept = contents(three)
        for act in (
            lambda: three.models(),
            lambda: three.add(model_file, progress=Heard()),
            lambda: three.remove("second"),
        ):
            with pytest.raises(ReadError, match="schema: expected 2, got 3"):
                act()
        assert contents(three) == kept
        path.write_text(text)


def test_nothing_is_removed_while_a_record_is_damaged(three: Store) -> None:
    """Which content the damaged one needs is not known; here it is the same as that of the removed one."""
    first = three.find("first")
    damage(three.root / "names/second.json", "{")
    (three.root / "index.json").unlink()
    removal = three.remove("first")
    assert Path(first.path).exists()
    assert removal.kept_bytes == first.size_bytes
    (obstacle,) = removal.obstacles
    assert obstacle.path == str(three.root / "names/second.json") and "is damaged" in obstacle.problem
    assert "--name second" in obstacle.repair


@pytest.mark.parametrize("repair", ["add it again", "remove the record"])
def test_what_a_damaged_record_kept_goes_once_it_is_repaired(three: Store, tmp_path: Path, repair: str) -> None:
    """Both repairs that the message of `model rm` names."""
    other = write_model(tmp_path / "other.gguf", seed=7)
    gone = three.add(other, progress=Heard(), name="other")
    damage(three.root / "names/second.json", "{")
    (three.root / "index.json").unlink()
    assert three.remove("other").kept_bytes == gone.size_bytes
    if repair == "add it again":
        three.add(write_model(tmp_path / "m.gguf", title="A Title"), progress=Heard(), name="second")
    else:
        (three.root / "names/second.json").unlink()
        three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert not Path(gone.path).exists()
    assert three.remove("first").obstacles == ()


def test_a_directory_without_its_list_of_files_keeps_content_and_is_named(three: Store, tmp_path: Path) -> None:
    first, tree = three.find("first"), three.find("tree")
    (three.root / "sha256" / tree.sha256).unlink()
    three.remove("second")
    removal = three.remove("first")
    assert Path(first.path).exists() and removal.kept_bytes == first.size_bytes
    (obstacle,) = removal.obstacles
    assert obstacle.path.endswith(tree.sha256) and "the model tree" in obstacle.problem
    shutil.rmtree(tmp_path / "tree")
    three.add(write_directory(tmp_path / "tree"), progress=Heard(), name="tree")
    assert not Path(first.path).exists()


def test_a_tree_is_linked_again_from_its_list_of_files(three: Store, tmp_path: Path) -> None:
    tree = three.find("tree")
    (Path(tree.path) / "a.safetensors").unlink()
    assert three.verify(tree, progress=Heard()).problem != ""
    three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert three.verify(tree, progress=Heard()).problem == ""


def test_a_row_cannot_point_out_of_the_store(store: Store, model_file: Path) -> None:
    store.add(model_file, progress=Heard())
    index = store.root / "index.json"
    good = json.loads(index.read_text())["models"][0]
    for change in (
        {"path": "/etc/passwd"},
        {"path": "../x"},
        {"name": "a\nb"},
        {"sha256": "00"},
        {"format": "exe"},
        {"size_bytes": "1"},
    ):
        with pytest.raises(ReadError):
            parse_index(json.dumps({"schema": 1, "models": [{**good, **change}]}), "index")
    (store.root / "names/Tiny-Model.json").unlink()
    index.write_text(json.dumps({"schema": 1, "models": [{**good, "name": "../x"}]}))
    assert "/" not in store.models()[0].name
