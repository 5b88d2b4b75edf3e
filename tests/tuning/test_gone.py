"""A device that goes away in the middle, a file that cannot be read, and the way out: no verb is blocked for good."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.act.tuning import apply_plan, read_applied, recover, services, undo
from bedplate.act.tuning.kinds import kernel_file
from bedplate.act.tuning.kinds.kernel_file import read_text, write_text
from bedplate.act.tuning.kinds.keyed_kernel_file import write_line
from bedplate.act.tuning.place import make_place
from bedplate.cli.main import main
from bedplate.errors import BedplateError, GoneError
from bedplate.host.root.root import Root
from tests.tuning.tree import FULL, THP, FakeServices, change, make_machine, make_plan, snapshot

READ_AHEAD = "/sys/block/vda/queue/read_ahead_kb"
SWAPPINESS = "/proc/sys/vm/swappiness"


@pytest.fixture
def top(tree: Path) -> Path:
    return make_machine(tree / "machine")


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "Systemctl", FakeServices)


def text(top: Path, where: str) -> str:
    return (top / where.lstrip("/")).read_text().strip()


def killed_at(work: Callable[[Callable[[str], None]], object], word: str) -> None:
    """Do the work in a process of its own, which is killed before the last step that has the word in it."""
    child = os.fork()
    if child == 0:
        try:
            work(lambda what: os.kill(os.getpid(), signal.SIGKILL) if word in what else None)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the work was not killed"


def plain(top: Path) -> dict[str, str | None]:
    """All but the device that went away; the kernel would show the choices of THP."""
    return {name: value for name, value in snapshot(top).items() if "vda" not in name and name != THP[1:]}


@pytest.mark.parametrize("reboot", [False, True], ids=["same-boot", "reboot"])
@pytest.mark.parametrize("persist", [False, True], ids=["runtime", "persist"])
@pytest.mark.parametrize("what", ["apply", "undo"])
@pytest.mark.parametrize("verb", ["undo", "plan", "verify", "log", "uninstall", "confirm"])
def test_no_verb_is_blocked_by_a_device_that_went_away(
    top: Path, verb: str, what: str, persist: bool, reboot: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plain(top)
    if what == "undo":
        apply_plan(FULL, root_dir=top, persist=persist, services=FakeServices(top))

    def work(on_step: Callable[[str], None]) -> object:
        if what == "undo":
            return undo(root_dir=top, persist=persist, services=FakeServices(top), on_step=on_step)
        return apply_plan(FULL, root_dir=top, persist=persist, services=FakeServices(top), on_step=on_step)

    killed_at(work, "transparent_hugepage" if what == "apply" else "swappiness")
    shutil.rmtree(top / "sys/block/vda")
    if reboot:
        (top / "proc/sys/kernel/random/boot_id").write_text("0d1b\n")
        before["proc/sys/kernel/random/boot_id"] = "0d1b\n"
        (top / "proc/sys/vm/swappiness").write_text("60\n")  # as a boot does
    status = main(["tune", verb, "--root", str(top), "--json"])
    said = capsys.readouterr()
    needs_plan = verb in ("verify", "confirm")
    assert status == (8 if needs_plan else 0), said.err
    assert ("no plan is applied" in said.err) is needs_plan
    assert not make_place(top, persist=persist).journal.exists()
    assert plain(top) == before
    lasting = persist or not reboot
    gone = f"{READ_AHEAD}: is not there: it is gone, so there is nothing to restore"
    if lasting:
        assert f"left alone: {gone}" in said.err
        if verb == "log":
            assert gone in json.loads(said.out)[-1]["drifted"]
        elif not needs_plan:
            assert json.loads(said.out)["recovered"][0]["drifted"] == [gone]
    assert main(["tune", verb, "--root", str(top)]) == status


def test_an_undo_says_what_is_gone_and_ends(top: Path) -> None:
    apply_plan(FULL, root_dir=top, services=FakeServices(top))
    shutil.rmtree(top / "sys/block/vda")
    assert undo(root_dir=top, services=FakeServices(top)).drifted == (
        f"{READ_AHEAD}: is not there: it is gone, so there is nothing to restore",
    )
    assert read_applied(root_dir=top) is None


def test_a_device_that_goes_while_its_plan_is_applied_takes_all_else_back(top: Path) -> None:
    before = plain(top)

    def unplug(what: str) -> None:
        if "transparent_hugepage" in what:
            shutil.rmtree(top / "sys/block/vda")
            (top / THP[1:]).unlink()

    with pytest.raises(BedplateError) as caught:
        apply_plan(FULL, root_dir=top, services=FakeServices(top), on_step=unplug)
    assert f"{THP}: cannot write 'always'" in caught.value.message
    assert f"{READ_AHEAD}: is not there: it is gone" in caught.value.message
    assert recover(root_dir=top, services=FakeServices(top)) is None
    assert plain(top) == before


def test_the_next_plan_is_applied_when_a_device_of_the_plan_before_goes_meanwhile(top: Path) -> None:
    apply_plan(FULL, root_dir=top, services=FakeServices(top))

    def unplug(what: str) -> None:
        if what == f"write {READ_AHEAD}":
            shutil.rmtree(top / "sys/block/vda")

    other = make_plan(change(SWAPPINESS, "60", "1"))
    done = apply_plan(other, root_dir=top, services=FakeServices(top), on_step=unplug)
    assert any(READ_AHEAD in drift for drift in done.drifted)
    assert read_applied(root_dir=top) == other
    assert undo(root_dir=top, services=FakeServices(top)).drifted == ()
    assert text(top, SWAPPINESS) == "60"


# -- there, and cannot be read or written now: nothing is forgotten, and there is a way out


def break_file(patch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Reads and writes of files of this name end with this error."""
    real_open = os.open

    def opened(path: str | Path, flags: int, *more: int, **named: int) -> int:
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return real_open(path, flags, *more, **named)

    patch.setattr(os, "open", opened)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("what", ["apply", "undo", "whole-undo"])
def test_what_cannot_be_read_now_is_kept_until_it_is_given_up(
    top: Path, what: str, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plain(top)
    if what != "apply":
        apply_plan(FULL, root_dir=top, services=FakeServices(top))
    if what == "apply":
        killed_at(
            lambda on_step: apply_plan(FULL, root_dir=top, services=FakeServices(top), on_step=on_step),
            "transparent_hugepage",
        )
    elif what == "undo":
        killed_at(lambda on_step: undo(root_dir=top, services=FakeServices(top), on_step=on_step), "swappiness")
    root = ["--root", str(top)]
    with monkeypatch.context() as patch:
        break_file(patch, "read_ahead_kb", number)
        for _ in range(2):
            assert main(["tune", "undo", *root]) == 1
            said = capsys.readouterr().err
            assert re.search(f"{READ_AHEAD}: cannot (be read|write)", said)
            assert "bedplate tune undo --abandon" in said
            assert make_place(top).journal.exists()
        assert main(["tune", "plan", "--json", *root]) == 0
        assert f"warning: {READ_AHEAD}: cannot" in capsys.readouterr().err
        assert main(["tune", "log", *root]) == 0
        capsys.readouterr()
        assert main(["tune", "undo", "--abandon", "--json", *root]) == 0
        said = capsys.readouterr().err
        assert f"given up: {READ_AHEAD}: cannot" in said
        assert "the journal is kept: /run/bedplate/tune/journal.abandoned-1" in said
    assert plain(top) == before
    assert text(top, READ_AHEAD) == ("128" if what == "undo" else "4096")
    assert "read_ahead_kb" in text(top, "/run/bedplate/tune/journal.abandoned-1")
    assert main(["tune", "verify", *root]) == 8
    assert "no plan is applied" in capsys.readouterr().err
    assert main(["tune", "uninstall", *root]) == 0
    assert not (top / "run/bedplate").exists()


def test_what_can_be_read_again_goes_back_by_the_next_verb(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plain(top)
    apply_plan(FULL, root_dir=top, services=FakeServices(top))
    with monkeypatch.context() as patch, pytest.raises(BedplateError, match="cannot be read"):
        break_file(patch, "read_ahead_kb", errno.EIO)
        undo(root_dir=top, services=FakeServices(top))
    found = recover(root_dir=top, services=FakeServices(top))
    assert found is not None
    assert (found.kind, found.drifted) == ("undo", ())
    assert plain(top) == before
    assert text(top, READ_AHEAD) == "128"


def test_one_place_that_is_stuck_does_not_hold_the_other_up(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = (False, True)
    for persist in both:
        plan = make_plan(change(READ_AHEAD, None, "256")) if persist else make_plan(change(SWAPPINESS, "60", "10"))
        apply_plan(plan, root_dir=top, persist=persist, services=FakeServices(top))
    with monkeypatch.context() as patch:
        break_file(patch, "swappiness", errno.EIO)
        assert main(["tune", "undo", "--root", str(top)]) == 1
    assert text(top, READ_AHEAD) == "128"
    assert read_applied(root_dir=top, persist=True) is None


# -- gone, or there: the kernel's answers


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO, errno.ENOENT])
def test_a_file_whose_device_is_gone_is_gone(top: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    break_file(monkeypatch, "read_ahead_kb", number)
    with pytest.raises(GoneError):
        read_text(Root(top), READ_AHEAD)
    with pytest.raises(GoneError):
        write_text(Root(top), READ_AHEAD, "1")


def test_an_answer_of_a_file_that_is_there_is_not_gone(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(kernel_file, "write_all", refuse)
    with pytest.raises(BedplateError) as caught:
        write_text(Root(top), READ_AHEAD, "1")
    assert not isinstance(caught.value, GoneError)
    (top / "sys/fs/cgroup/io.cost.qos").write_text("")
    with pytest.raises(GoneError):
        write_line(Root(top), "/sys/fs/cgroup/io.cost.qos", "8:0 enable=1")
