"""The build of an engine's layer: what it does before it builds anything."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.unit.test_lock import Notes

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
