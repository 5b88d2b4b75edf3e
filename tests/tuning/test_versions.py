"""Two versions of bedplate on one journal: an older one's is ended, a newer one's is refused and stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate import __version__
from bedplate.act.tuning import apply_plan, read_applied, recover, services, undo
from bedplate.act.tuning.journal import APPLIED_SCHEMA, SCHEMA
from bedplate.act.tuning.place import make_place
from bedplate.cli.main import main
from tests.tuning.tree import FULL, FakeServices, make_machine, snapshot

RECORDED = Path(__file__).parent / "recorded"
"""Written by the code of commit b1ab11e: a plan that was killed before its last step, and the same plan applied."""


@pytest.fixture
def top(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(services, "Systemctl", FakeServices)
    return make_machine(tree / "machine")


def leave_as_older(top: Path, name: str) -> Path:
    """The machine as that version left it."""
    path = make_place(top).journal.with_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((RECORDED / name).read_bytes())
    dropin = top / "run/systemd/system/neighbour.slice.d/80-bedplate.conf"
    dropin.parent.mkdir()
    row = json.loads(path.read_text().splitlines()[0]) if name == "journal" else json.loads(path.read_text())
    texts = [step.get("after", step.get("ours")) for step in row.get("steps", row.get("holdings")) if step["act"] == "file"]
    dropin.write_text(texts[0])
    (top / "proc/sys/vm/swappiness").write_text("10\n")
    FakeServices(top).reload()
    return path


def test_an_older_journal_is_ended(top: Path) -> None:
    before = snapshot(top)
    leave_as_older(top, "journal")
    found = recover(root_dir=top, services=FakeServices(top))
    assert found is not None
    assert (found.kind, found.drifted) == ("apply", ())
    assert snapshot(top) == before


def test_what_an_older_one_applied_is_replaced_and_taken_back(top: Path) -> None:
    before = {name: value for name, value in snapshot(top).items() if "transparent" not in name}
    leave_as_older(top, "applied.json")
    assert read_applied(root_dir=top) is not None
    apply_plan(FULL, root_dir=top, services=FakeServices(top))
    undo(root_dir=top, services=FakeServices(top))
    assert {name: value for name, value in snapshot(top).items() if "transparent" not in name} == before
    leave_as_older(top, "applied.json")
    assert undo(root_dir=top, services=FakeServices(top)).drifted == ()
    assert {name: value for name, value in snapshot(top).items() if "transparent" not in name} == before


@pytest.mark.parametrize("verb", ["apply", "undo", "confirm", "uninstall"])
@pytest.mark.parametrize("name", ["journal", "applied.json"])
def test_a_newer_one_is_refused_and_stays(top: Path, name: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_place(top).journal.with_name(name)
    path.parent.mkdir(parents=True)
    schema = 1 + (SCHEMA if name == "journal" else APPLIED_SCHEMA)
    text = json.dumps({"schema": schema, "by": "9.1", "what": "nobody knows"}) + "\n"
    text += "\x01 not even JSON\n" if name == "journal" else ""
    path.write_text(text)
    before = snapshot(top)
    assert main(["tune", verb, "--root", str(top)]) == 1
    said = capsys.readouterr().err
    assert f"{name}: was written by a newer bedplate (9.1), in schema {schema}; this one, {__version__}, reads" in said
    assert "undo --abandon" in said
    assert path.read_text() == text
    assert snapshot(top) == before


@pytest.mark.parametrize("name", ["journal", "applied.json"])
@pytest.mark.parametrize("text", ['{"schema": 99}\n\n', "nonsense\nnonsense\n", "[1]\n[2]\n"])
def test_what_cannot_be_read_can_be_given_up_and_is_not_lost(
    top: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_place(top).journal.with_name(name)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert main(["tune", "undo", "--abandon", "--json", "--root", str(top)]) == 0
    recovered = json.loads(capsys.readouterr().out)["recovered"]
    assert [found["kind"] for found in recovered] == ["unreadable"]
    assert recovered[0]["journal"] == f"/run/bedplate/tune/{name}.abandoned-1"
    assert path.with_name(f"{name}.abandoned-1").read_text() == text
    apply_plan(FULL, root_dir=top, services=FakeServices(top))
    assert undo(root_dir=top, services=FakeServices(top)).drifted == ()


def test_a_journal_that_can_be_read_is_ended_beside_an_applied_plan_that_cannot(top: Path) -> None:
    before = snapshot(top)
    leave_as_older(top, "journal")
    make_place(top).applied.write_text("nonsense\n")
    assert main(["tune", "undo", "--abandon", "--root", str(top)]) == 0
    assert snapshot(top) == before
    assert sorted(path.name for path in (top / "run/bedplate/tune").iterdir()) == ["applied.json.abandoned-1", "log"]
