"""Models as people have them: split files, several quantisations, projectors, adapters, snapshots, stores of Ollama."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.unit.store_cases import Heard, write_directory, write_model

from bedplate.errors import ModelRefused, UsageError
from bedplate.model.launch import ModelRef
from bedplate.weights.index import parse_record, render_index, render_record
from bedplate.weights.ollama import list_manifests
from bedplate.weights.source import find_source
from bedplate.weights.store import Store


def write(path: Path, architecture: str = "llama", **more: str | int) -> Path:
    """A GGUF file of one tensor; more: metadata, by key with "__" for each dot."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in more.items():
        name = key.replace("__", ".")
        if isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_string(name, value)
    writer.add_tensor(f"{path.name[:40]}.weight", np.zeros((4, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def model(path: Path, **more: str | int) -> Path:
    return write(path, "llama", tokenizer__ggml__model="gpt2", **more)


def split(directory: Path, prefix: str = "big", parts: int = 3) -> list[Path]:
    directory.mkdir(exist_ok=True)
    return [
        model(
            directory / f"{prefix}-{number:05d}-of-{parts:05d}.gguf",
            split__no=number - 1,
            split__count=parts,
            split__tensors__count=parts,
        )
        for number in range(1, parts + 1)
    ]


def projector(path: Path, **more: str | int) -> Path:
    return write(path, "clip", general__type="mmproj", **more)


def adapter(path: Path) -> Path:
    return write(path, general__type="adapter", adapter__type="lora")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files_of(model: ModelRef) -> list[str]:
    return sorted(path.name for path in Path(model.path).iterdir())


@pytest.mark.parametrize("given", ["the directory", "the first part", "the last part"])
def test_a_split_model_is_one_model_whose_parts_keep_their_names(store: Store, tmp_path: Path, given: str) -> None:
    parts = split(tmp_path / "d")
    path = {"the directory": tmp_path / "d", "the first part": parts[0], "the last part": parts[-1]}[given]
    added = store.add(path, progress=Heard())
    assert (added.name, added.main) == ("big", "big-00001-of-00003.gguf")
    assert files_of(added) == [part.name for part in parts]
    assert added.size_bytes == sum(part.stat().st_size for part in parts)
    assert added.parameters == 3 * 128
    assert store.verify(added, progress=Heard()).problem == ""
    assert store.models() == (added,)


def test_a_split_model_without_a_part_is_refused_with_the_name_of_the_part(store: Store, tmp_path: Path) -> None:
    split(tmp_path / "d")[1].unlink()
    with pytest.raises(ModelRefused, match=r"1 of 3 parts are missing: big-00002-of-00003\.gguf"):
        store.add(tmp_path / "d", progress=Heard())
    assert not store.root.exists()


def test_parts_that_were_renamed_are_refused_with_the_name_that_engines_need(store: Store, tmp_path: Path) -> None:
    parts = split(tmp_path / "d")
    parts[0].rename(tmp_path / "d/first.gguf")
    with pytest.raises(ModelRefused, match=r"first\.gguf: is part 1 of 3.*NAME-00001-of-00003\.gguf"):
        store.add(tmp_path / "d", progress=Heard(), choice="first.gguf")


def test_parts_of_two_models_under_one_name_are_seen(store: Store, tmp_path: Path) -> None:
    split(tmp_path / "d", parts=2)
    model(tmp_path / "d/big-00001-of-00002.gguf", split__no=0, split__count=2, split__tensors__count=7)
    with pytest.raises(ModelRefused, match="hold 2 tensors, the first part announces 7"):
        store.add(tmp_path / "d", progress=Heard())


def test_of_several_quantisations_one_is_chosen_by_a_part_of_its_name(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    for name in ("m-Q4_K_M.gguf", "m-Q8_0.gguf"):
        model(directory / name)
    with pytest.raises(ModelRefused, match=r"contains 2 models;[\s\S]*m-Q4_K_M\.gguf[\s\S]*m-Q8_0\.gguf") as refused:
        store.add(directory, progress=Heard())
    assert refused.value.hint is not None and "--file" in refused.value.hint
    with pytest.raises(ModelRefused, match="contains 2 models"):
        store.add(directory, progress=Heard(), choice="q")
    with pytest.raises(UsageError, match="--file Q5: no model in"):
        store.add(directory, progress=Heard(), choice="Q5")
    added = store.add(directory, progress=Heard(), choice="q4_k_m")
    assert (added.name, added.main) == ("m-Q4_K_M", "")
    assert Path(added.path).is_file()


def test_a_projector_beside_a_model_comes_with_it_and_several_are_asked_for(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    model(directory / "m.gguf")
    projector(directory / "mmproj-m-f16.gguf")
    added = store.add(directory, progress=Heard(), name="seeing")
    assert (added.main, added.projector) == ("m.gguf", "mmproj-m-f16.gguf")
    blind = store.add(directory, progress=Heard(), name="blind", projector="none")
    assert (blind.main, blind.projector) == ("", "")
    projector(directory / "mmproj-m-f32.gguf")
    with pytest.raises(ModelRefused, match="2 projectors"):
        store.add(directory, progress=Heard(), name="x")
    chosen = store.add(directory, progress=Heard(), name="chosen", projector="mmproj-m-f32.gguf")
    assert chosen.projector == "mmproj-m-f32.gguf"


@pytest.mark.parametrize(
    ("reads", "makes", "fits"),
    [
        (4096, 4096, True),
        (4096, 5120, False),
        (32, 768, True),  # of before 2025: the header has CLIP's own length, a tensor the model's (32)
        (None, 768, True),  # not said: the engine decides
        (4096, None, True),
    ],
)
def test_a_projector_of_another_model_is_refused(
    store: Store, tmp_path: Path, reads: int | None, makes: int | None, fits: bool
) -> None:
    base = model(tmp_path / "m.gguf", **({"llama__embedding_length": reads} if reads else {}))
    seeing = projector(tmp_path / "p.gguf", **({"clip__vision__projection_dim": makes} if makes else {}))
    if fits:
        assert store.add(base, progress=Heard(), projector=str(seeing)).projector == "p.gguf"
        return
    with pytest.raises(ModelRefused, match="makes vectors of 5120 numbers, the model reads vectors of 4096") as refused:
        store.add(base, progress=Heard(), projector=str(seeing))
    assert refused.value.hint is not None and "--mmproj none" in refused.value.hint
    assert store.models() == ()


def test_a_model_of_many_parts_looks_for_what_was_left_behind_a_few_times_and_not_for_each_part(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = Store._settle

    def settle(self: Store, going: Sequence[str] = ()) -> None:
        nonlocal looks
        looks += 1
        real(self, going)

    monkeypatch.setattr(Store, "_settle", settle)
    added = store.add(split(tmp_path / "d", parts=40)[0], progress=Heard())
    assert (len(files_of(added)), looks) == (40, 4)  # before and after each of two changes
    assert list((store.root / "sha256").glob(".*")) == []


def test_a_file_gets_a_projector_and_adapters_that_lie_elsewhere(store: Store, tmp_path: Path) -> None:
    base = model(tmp_path / "m.gguf")
    seeing = projector(tmp_path / "mmproj.gguf")
    (tmp_path / "elsewhere").mkdir()
    lora = adapter(tmp_path / "elsewhere/style.gguf")
    added = store.add(base, progress=Heard(), projector=str(seeing), adapters=[lora])
    assert (added.main, added.projector, added.adapters) == ("m.gguf", "mmproj.gguf", ("style.gguf",))
    assert files_of(added) == ["m.gguf", "mmproj.gguf", "style.gguf"]
    assert store.models() == (added,)
    with pytest.raises(ModelRefused, match="is a model, not a LoRA adapter"):
        store.add(base, progress=Heard(), name="y", adapters=[base])


def test_a_lost_record_of_a_directory_is_made_again_with_its_parts(store: Store, tmp_path: Path) -> None:
    base, lora = model(tmp_path / "m.gguf"), adapter(tmp_path / "style.gguf")
    added = store.add(base, progress=Heard(), adapters=[lora])
    for path in (store.root / "names").iterdir():
        path.unlink()
    (store.root / "index.json").unlink()
    found = store.models()
    assert [(row.sha256, row.main, row.adapters) for row in found] == [(added.sha256, "m.gguf", ("style.gguf",))]


def test_two_split_models_of_one_prefix_are_two_models(store: Store, tmp_path: Path) -> None:
    split(tmp_path / "d", parts=2)
    split(tmp_path / "d", parts=3)
    with pytest.raises(ModelRefused, match="contains 2 models"):
        store.add(tmp_path / "d", progress=Heard())
    added = store.add(tmp_path / "d", progress=Heard(), choice="of-00002")
    assert files_of(added) == ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"]


def test_a_part_that_is_damaged_is_named_with_its_fault(store: Store, tmp_path: Path) -> None:
    parts = split(tmp_path / "d")
    parts[1].write_bytes(parts[1].read_bytes()[:-64])
    with pytest.raises(ModelRefused, match=r"big-00002-of-00003\.gguf: .*truncated"):
        store.add(tmp_path / "d", progress=Heard())


def test_an_adapter_of_another_kind_of_model_is_refused(store: Store, tmp_path: Path) -> None:
    other = write(tmp_path / "o.gguf", "qwen2", general__type="adapter", adapter__type="lora")
    with pytest.raises(ModelRefused, match="made for a model of architecture 'qwen2', this one is of 'llama'"):
        store.add(model(tmp_path / "m.gguf"), progress=Heard(), adapters=[other])


@pytest.mark.parametrize("name", [".hidden.gguf", "a\nb.gguf", "x" * 210 + ".gguf"])
def test_a_file_whose_name_a_record_cannot_hold_is_refused_before_anything_is_copied(
    store: Store, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ModelRefused, match="is not a name that the store can keep"):
        lora = adapter(tmp_path / "ok.gguf").rename(tmp_path / name)
        store.add(model(tmp_path / "m.gguf"), progress=Heard(), adapters=[lora])
    assert not store.root.exists()


def test_a_single_safetensors_file_is_added(store: Store, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model")
    weights = next(path for path in directory.iterdir() if path.name.endswith(".safetensors"))
    alone = weights.rename(tmp_path / "alone.safetensors")
    added = store.add(alone, progress=Heard())
    assert (added.name, added.format) == ("alone", "safetensors") and store.models() == (added,)


@pytest.mark.parametrize("given", ["a path", "a path from here"])
def test_a_projector_is_found_by_its_path(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    (tmp_path / "d").mkdir()
    model(tmp_path / "d/m.gguf")
    projector(tmp_path / "d/inside.gguf")
    projector(tmp_path / "outside.gguf")
    monkeypatch.chdir(tmp_path)
    path = "./outside.gguf" if given == "a path from here" else str(tmp_path / "outside.gguf")
    by_directory = store.add(tmp_path / "d", progress=Heard(), name="a", projector=path)
    by_file = store.add(tmp_path / "d/m.gguf", progress=Heard(), name="b", projector=path)
    assert by_directory.projector == by_file.projector == "outside.gguf"
    with pytest.raises(ModelRefused, match=r"m\.gguf: is a model, and no projector"):
        store.add(tmp_path / "d/m.gguf", progress=Heard(), name="c", projector=str(tmp_path / "d/m.gguf"))


def test_a_directory_with_a_configuration_and_gguf_alone_is_one_of_gguf(store: Store, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/config.json").write_text("{}")
    model(tmp_path / "d/m.gguf")
    assert store.add(tmp_path / "d", progress=Heard()).name == "m"


def test_a_digest_that_several_names_share_removes_none_of_them(store: Store, tmp_path: Path) -> None:
    file = model(tmp_path / "m.gguf")
    added = [store.add(file, progress=Heard(), name=name) for name in ("a", "b", "c")]
    with pytest.raises(UsageError, match="have this digest"):
        store.remove(added[0].sha256[:12])
    assert len(store.models()) == 3


def test_a_file_that_is_exchanged_while_it_is_copied_does_not_stay(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its header was read, and before its bytes were: a link to somebody's file in its place."""
    base, seeing, secret = model(tmp_path / "m.gguf"), projector(tmp_path / "p.gguf"), tmp_path / "secret"
    secret.write_text("planted")

    def exchange(given: ModelRef, types: frozenset[str]) -> None:
        seeing.unlink()
        seeing.symlink_to(secret)

    with pytest.raises(ModelRefused, match="changed while they were copied"):
        store.add(base, progress=Heard(), projector=str(seeing), check=exchange)
    assert store.models() == ()
    assert [path for path in store.root.rglob("*") if path.is_file() and b"planted" in path.read_bytes()] == []


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "qwen3:0.6b", "Lab/slow:v1@2+x"])
def test_names_are_taken_as_hubs_write_them(store: Store, tmp_path: Path, name: str) -> None:
    added = store.add(model(tmp_path / "m.gguf"), progress=Heard(), name=name)
    assert store.find(name) == added
    assert [path.parent for path in (store.root / "names").iterdir()] == [store.root / "names"]
    assert store.remove(name).model == added
    assert store.models() == ()


@pytest.mark.parametrize("name", ["../x", "a/../b", "a//b", "/a", "a/", "a/./b", "", "a b", "a\nb", "x" * 101])
def test_names_that_would_mean_something_else_in_a_path_are_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a valid model name"):
        store.add(model(tmp_path / "m.gguf"), progress=Heard(), name=name)


def test_a_snapshot_of_a_hub_is_followed_into_its_blobs(store: Store, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name/snapshots/abc"
    blobs = tmp_path / "models--org--name/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("m-Q4_0.gguf", "m-Q8_0.gguf"):
        model(blobs / f"b{name}")
        (snapshot / name).symlink_to(f"../../blobs/b{name}")
    progress = Heard()
    added = store.add(snapshot, progress=progress, choice="Q8_0", name="org/name")
    assert Path(added.path).read_bytes() == (blobs / "bm-Q8_0.gguf").read_bytes()
    outside = model(tmp_path / "outside.gguf")
    (snapshot / "m-Q6_K.gguf").symlink_to(outside)
    with pytest.raises(ModelRefused, match="is a link that leads to"):
        store.add(snapshot, progress=progress, choice="Q6_K", name="x")


def ollama_store(directory: Path) -> Path:
    """A store with one model, as `ollama pull` leaves it."""
    blobs = directory / "blobs"
    manifest = directory / "manifests/registry.example/library/tiny/0.6b"
    blobs.mkdir(parents=True)
    manifest.parent.mkdir(parents=True)
    layers = []
    for kind, make in (("model", model), ("projector", projector), ("template", None)):
        path = blobs / "making"
        if make is not None:
            make(path)
        else:
            path.write_text("{{ .Prompt }}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blobs / f"sha256-{digest}")
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": 1})
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return manifest


@pytest.mark.parametrize("given", ["the store", "the manifest"])
def test_a_model_of_ollama_is_added_under_its_own_name(store: Store, tmp_path: Path, given: str) -> None:
    manifest = ollama_store(tmp_path / "models")
    path, choice = (tmp_path / "models", "tiny:0.6b") if given == "the store" else (manifest, "")
    added = store.add(path, progress=Heard(), choice=choice)
    assert (added.name, added.main, added.projector) == ("tiny:0.6b", "model.gguf", "projector.gguf")


def test_a_model_of_ollama_is_added_without_its_projector_where_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    added = store.add(ollama_store(tmp_path / "models"), progress=Heard(), projector="none")
    assert (added.main, added.projector) == ("", "")


def test_a_blob_that_is_not_what_its_name_says_is_refused(store: Store, tmp_path: Path) -> None:
    manifest = ollama_store(tmp_path / "models")
    blobs = sorted((tmp_path / "models/blobs").iterdir(), key=lambda path: b"mmproj" in path.read_bytes())
    blobs[-1].write_bytes(blobs[-1].read_bytes() + b"more")
    with pytest.raises(ModelRefused, match="its name is another digest"):
        store.add(manifest, progress=Heard())
    assert store.models() == ()


def test_one_name_from_two_places_is_two_models(tmp_path: Path) -> None:
    first = ollama_store(tmp_path / "models")
    second = tmp_path / "models/manifests/other.example/library/tiny/0.6b"
    second.parent.mkdir(parents=True)
    second.write_bytes(first.read_bytes())
    assert list(list_manifests(tmp_path / "models")) == ["other.example/tiny:0.6b", "registry.example/tiny:0.6b"]


@pytest.mark.parametrize("inside", ["flat.json", "registry.example/library/tiny/../tiny/0.6b", "a/b"])
def test_what_is_no_manifest_is_refused_as_that(store: Store, tmp_path: Path, inside: str) -> None:
    content = ollama_store(tmp_path / "models").read_bytes()
    path = tmp_path / "models/manifests" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ModelRefused, match=r"is no manifest of a model"):
        store.add(path, progress=Heard())


def test_a_store_of_ollama_lists_its_models_and_says_which_blob_is_missing(store: Store, tmp_path: Path) -> None:
    manifest = ollama_store(tmp_path / "models")
    with pytest.raises(UsageError, match=r"its models are: tiny:0\.6b"):
        store.add(tmp_path / "models", progress=Heard())
    for blob in (tmp_path / "models/blobs").iterdir():
        blob.unlink()
    with pytest.raises(ModelRefused, match=r"sha256-[0-9a-f]{64} is not in"):
        store.add(manifest, progress=Heard())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a page in HTML"),
        (b"PK\x03\x04 a torch file", "a pickle file"),
        (b"lmgg" + bytes(40), "of before GGUF"),
        (b"", "an empty file"),
        (b"something else", "neither GGUF nor safetensors"),
    ],
)
def test_what_is_no_model_is_called_what_it_is(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelRefused, match=says):
        find_source(path)


def test_of_mistral_s_two_layouts_the_one_that_engines_read_is_taken(store: Store, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model")
    weights = next(path for path in directory.iterdir() if path.name.endswith(".safetensors"))
    (directory / "consolidated.safetensors").write_bytes(weights.read_bytes())
    progress = Heard()
    added = store.add(directory, progress=progress)
    assert "consolidated.safetensors" not in files_of(added)
    assert "left out: consolidated.safetensors" in progress.notes


def test_only_the_shards_that_the_index_names_count(store: Store, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model")
    weights = next(path for path in directory.iterdir() if path.name.endswith(".safetensors"))
    (directory / "old-copy.safetensors").write_bytes(weights.read_bytes())
    index = {"weight_map": {"a": weights.name}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    added = store.add(directory, progress=Heard())
    assert "old-copy.safetensors" not in files_of(added)


def row(**more: object) -> ModelRef:
    fields: dict[str, object] = {
        "name": "m",
        "sha256": "0" * 64,
        "path": f"trees/{'0' * 64}",
        "format": "gguf",
        "size_bytes": 1,
        "architecture": "llama",
        "parameters": 1,
        "quantisation": "F16",
        "context_length": 1,
        "kv_bytes_per_token": 1,
    }
    text = json.dumps({"schema": 2, "model": fields | more})
    return parse_record(text, "test")


def test_a_record_keeps_what_a_model_is_made_of_and_a_plain_one_is_readable_by_earlier_versions() -> None:
    plain, made = row(), row(task="rerank", main="m.gguf", projector="p.gguf", adapters=["a.gguf", "b.gguf"])
    for model_ref in (plain, made):
        assert parse_record(render_record(model_ref), "x") == model_ref
    assert json.loads(render_record(plain))["schema"] == 1
    assert json.loads(render_record(made))["schema"] == 2
    assert json.loads(render_index([plain]))["schema"] == 1
    assert json.loads(render_index([plain, made]))["schema"] == 2


@pytest.mark.parametrize(
    "more", [{"main": "../x"}, {"main": ".x"}, {"task": "sing"}, {"adapters": ["a/b"]}, {"adapters": [1]}, {"adapters": "a"}]
)
def test_a_record_that_names_files_elsewhere_is_refused(more: dict[str, object]) -> None:
    from bedplate.errors import ReadError

    with pytest.raises(ReadError):
        row(**more)


def refusing(model: ModelRef, types: frozenset[str]) -> None:
    raise ModelRefused(f"{model.name}: not here: {sorted(types)}")


def test_what_the_engine_cannot_serve_is_refused_before_a_byte_is_copied(store: Store, tmp_path: Path) -> None:
    check: Callable[[ModelRef, frozenset[str]], None] = refusing
    with pytest.raises(ModelRefused, match="not here: \\['F32'\\]"):
        store.add(write_model(tmp_path / "m.gguf"), progress=Heard(), check=check)
    assert not store.root.exists()
