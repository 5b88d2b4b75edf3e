"""The build of an engine's layer: what it does before it builds anything."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from tests.unit.test_lock import Notes

from bedplate.act.layer_record import layer_record_file, read_layer_record
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.image import engine
from bedplate.image.manifest import EngineLayer


def test_a_layer_that_another_build_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` and `image build` beside each other built the same layer twice, for minutes each."""
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    made: list[EngineLayer] = []
    monkeypatch.setattr(engine, "find_engine", lambda *_: made[0] if made else None)
    monkeypatch.setattr(engine, "ensure_tools", lambda *_, **__: pytest.fail("built a second time"))
    notes, got = Notes(), []
    second = threading.Thread(target=lambda: got.append(engine.build_engine(paths, notes)))
    with hold_cache(paths, Notes(), what="the first build"):
        second.start()
        assert notes.noted.wait(60)
        made.append(EngineLayer(name="llamacpp", version="1", path=tmp_path / "layer.raw"))
    second.join(60)
    assert got == made


RECORD = {"version": "1", "digest": "ab", "file": "llamacpp_1.raw", "size_bytes": 5, "architectures": ["llama", "qwen3"]}


def test_a_record_is_read_with_what_its_layer_loads(tmp_path: Path) -> None:
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    assert read_layer_record(paths, "llamacpp") is None
    paths.engines.mkdir(parents=True)
    layer_record_file(paths, "llamacpp").write_text(json.dumps({"schema": 1, "suite": "trixie", **RECORD}))
    found = read_layer_record(paths, "llamacpp")
    assert found is not None and (found.file, found.size_bytes) == ("llamacpp_1.raw", 5)
    assert found.architectures == ("llama", "qwen3")


@pytest.mark.parametrize("missing", RECORD)
def test_a_damaged_record_is_none(tmp_path: Path, missing: str) -> None:
    """What a layer loads was read of a record of which the build took nothing."""
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    paths.engines.mkdir(parents=True)
    record = {key: value for key, value in RECORD.items() if key != missing}
    layer_record_file(paths, "llamacpp").write_text(json.dumps(record))
    assert read_layer_record(paths, "llamacpp") is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORD | {"size_bytes": float("inf")}),
        json.dumps(RECORD | {"size_bytes": True}),
        json.dumps(RECORD | {"size_bytes": "5"}),
        json.dumps(RECORD | {"architectures": "llama"}),
        json.dumps(RECORD | {"architectures": [1]}),
        json.dumps(RECORD | {"file": "../../etc/shadow"}),
        json.dumps(RECORD | {"file": "/etc/shadow"}),
        json.dumps(RECORD | {"file": ".."}),
        json.dumps(RECORD | {"gpu": []}),
        json.dumps([RECORD]),
        "[" * 200_000,
        "\udcff",
    ],
)
def test_a_record_that_somebody_edited_is_none(tmp_path: Path, text: str) -> None:
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    paths.engines.mkdir(parents=True)
    layer_record_file(paths, "llamacpp").write_bytes(text.encode(errors="surrogateescape"))
    assert read_layer_record(paths, "llamacpp") is None
