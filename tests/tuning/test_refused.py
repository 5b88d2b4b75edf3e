"""What the command line says of a plan that must not be applied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bedplate.act.tuning import services
from bedplate.cli.main import main
from tests.tuning.test_flows import SERVING_HOST
from tests.tuning.tree import FakeServices, make_machine


def test_each_refusal_and_each_hint_is_said_once_and_marked(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "Systemctl", FakeServices)
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path))
    shutil.copytree(SERVING_HOST, tree / "machine", symlinks=True)
    top = make_machine(tree / "machine")
    shutil.rmtree(top / "run/systemd")
    (top / "run/.containerenv").touch()
    assert main(["tune", "apply", "--root", str(top), "--confirm-within", "10m"]) == 6
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert sum(line.startswith("hint: ") for line in lines) >= 2
    assert sum("not systemd" in line for line in lines) == 1
    assert [line for line in lines if not line.startswith(("error: ", "hint: "))] == []
