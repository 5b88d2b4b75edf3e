"""Whoever drives bedplate without the command line: audit, plan, apply, verify, undo and serve on a tree of files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.act.tuning import services
from bedplate.errors import NotAppliedError, PlanRefused, PreflightError
from bedplate.flows import audit, front, serve, tune
from bedplate.host.root.root import Root
from bedplate.model.tuning import Held, Policy
from tests.tuning.tree import FakeServices, make_machine, snapshot

SERVING_HOST = Path(__file__).parents[1] / "machines/serving-host"


class Listener:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.details: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def phase(self, _: str, /) -> Iterator[None]:
        yield

    def detail(self, text: str) -> None:
        self.details.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def top(tree: Path) -> Path:
    shutil.copytree(SERVING_HOST, tree / "machine", symlinks=True)
    return make_machine(tree / "machine")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command line can be imported, no service manager asked, and no proof of this host read."""
    for name in [name for name in sys.modules if name.startswith("bedplate.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bedplate.cli", None)
    monkeypatch.setattr(services, "Systemctl", FakeServices)
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path))


def test_the_command_line_is_out_of_reach() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"bedplate\.cli"):
        __import__("bedplate.cli.main")


def test_a_machine_is_audited_tuned_and_given_back(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, progress = snapshot(top), Listener()
    report = audit.read_report(None, root=Root(top))
    assert "system.no-psi" in [finding.id for finding in report.findings]

    planned = tune.plan(top, Policy.SHARED_HOST, progress)
    weights = {str(change.setting): change.new for change in planned.plan.changes}
    assert weights["inference.slice:CPUWeight"] == "1900"
    assert (planned.recovered, snapshot(top)) == ((), before)

    shown: list[str] = []
    outcome = tune.apply(top, Policy.SHARED_HOST, progress, on_plan=lambda plan: shown.append(plan.digest))
    assert outcome.applied is not None
    assert shown == [outcome.plan.digest] == [outcome.applied.plan.digest]
    assert progress.details
    assert (top / "sys/fs/cgroup/system.slice/cpu.weight").read_text() == "212\n"
    assert snapshot(top) != before
    verified = tune.verify(top, progress)
    assert verified.holds
    assert {found.held for found in verified.verified} <= {Held.HOLDS, Held.PENDING}
    assert tune.plan(top, Policy.SHARED_HOST, progress).plan.changes == planned.plan.changes

    undone = tune.undo(top, progress)
    assert (undone.end, undone.undone.drifted) == (tune.UndoEnd.UNDONE, ())
    assert snapshot(top) == before
    assert [row["what"] for row in tune.log(top, progress)] == ["applied", "undone"]
    tune.uninstall(top, progress)
    assert tune.log(top, progress) == ()
    assert (progress.notes, *capsys.readouterr()) == ([], "", "")


def test_what_waits_is_confirmed_or_taken_back(top: Path) -> None:
    before, progress = snapshot(top), Listener()
    tune.apply(top, Policy.SHARED_HOST, progress, confirm_within_s=600)
    assert (top / "run/systemd/system/bedplate-tune-confirm.timer").exists()
    assert tune.confirm(top, progress).confirmed
    assert tune.undo_unless_confirmed(top, progress).end is tune.UndoEnd.CONFIRMED
    assert snapshot(top) != before
    tune.undo(top, progress)
    tune.apply(top, Policy.SHARED_HOST, progress, confirm_within_s=600)
    assert tune.undo_unless_confirmed(top, progress).end is tune.UndoEnd.UNDONE
    assert snapshot(top) == before


def test_who_confirms_too_late_reads_that_it_was_taken_back(top: Path) -> None:
    """`tune confirm` ended with 0, and a script went on as if the plan were kept."""
    progress = Listener()
    for use_case in (tune.confirm, tune.verify):
        with pytest.raises(NotAppliedError, match=r"^no plan is applied, and no plan was applied since the last boot$"):
            use_case(top, progress)
    tune.apply(top, Policy.SHARED_HOST, progress, confirm_within_s=600)
    tune.undo_unless_confirmed(top, progress)
    at = tune.log(top, progress)[-1]["at"]
    for use_case in (tune.confirm, tune.verify):
        with pytest.raises(NotAppliedError) as caught:
            use_case(top, progress)
        assert caught.value.message == f"no plan is applied: the plan was reverted at {at} (not confirmed in time)"
    tune.apply(top, Policy.SHARED_HOST, progress)
    assert not tune.confirm(top, progress).confirmed  # it waits for nobody, and stays
    tune.undo(top, progress)
    at = tune.log(top, progress)[-1]["at"]
    with pytest.raises(NotAppliedError, match=f"the plan was reverted at {at}$"):
        tune.confirm(top, progress)


def test_a_refused_plan_says_why_and_not_that_a_timer_is_missing(top: Path) -> None:
    """It said that --confirm-within needs systemd, and told people far away to apply without it."""
    shutil.rmtree(top / "run/systemd")
    before = snapshot(top)
    with pytest.raises(PlanRefused, match="not systemd"):
        tune.apply(top, Policy.SHARED_HOST, Listener(), confirm_within_s=600)
    assert snapshot(top) == before


def test_without_a_timer_nobody_is_told_to_do_without_the_safety_net(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeServices, "is_running", lambda _: False)
    before = snapshot(top)
    with pytest.raises(PreflightError, match="--confirm-within: needs a systemd timer") as caught:
        tune.apply(top, Policy.SHARED_HOST, Listener(), confirm_within_s=600)
    assert caught.value.hint is not None and "console" in caught.value.hint and "without it" not in caught.value.hint
    assert snapshot(top) == before


def test_a_tree_is_served(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Listener()
    shown = serve.show(top)
    assert [service.model.name for service in shown.services] == ["known-answer", "Qwen/Qwen3-8B"]
    assert not (top / "run/bedplate/haproxy.cfg").exists()
    prepared = serve.prepare(top, progress)
    assert (prepared.services, prepared.front) == (shown.services, shown.front)
    assert (top / "run/bedplate/haproxy.cfg").read_text() == shown.render_front().configuration
    assert (top / "run/bedplate/engine/known-answer.env").is_file()
    assert progress.notes == front.find_openings(prepared.front)
    assert capsys.readouterr() == ("", "")
