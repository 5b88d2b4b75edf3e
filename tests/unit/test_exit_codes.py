from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bedplate import errors, flows
from bedplate.cli.main import main


def test_the_table_of_exit_codes_is_what_the_classes_say() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/exit-codes.md").read_text()
    documented = {(int(code), name) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BedplateError)]
    own = {(kind.exit_code, kind.__name__) for kind in classes if "exit_code" in vars(kind)}
    assert documented == own


def test_a_verb_that_the_image_is_built_without_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(flows, "prove", raising=False)
    for name in [
        name for name in sys.modules if name.startswith(("bedplate.prove", "bedplate.cli.prov", "bedplate.flows."))
    ]:
        module = sys.modules[name]
        if getattr(flows, name.rpartition(".")[2], None) is module:  # afterwards it is this one again, and no second one
            monkeypatch.setattr(flows, name.rpartition(".")[2], module)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bedplate.prove.lab", None)
    assert main(["prove", "list"]) == errors.PreflightError.exit_code
    assert "error: bedplate prove is not part of the operating system image" in capsys.readouterr().err
