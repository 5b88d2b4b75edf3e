"""What the service manager is asked, word by word, and how its answers are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bedplate.act import run as door
from bedplate.act import systemd
from bedplate.act.run import Completed
from bedplate.errors import CommandError


class FakeManager:
    """Answers each command with `text`, and remembers it with its options."""

    def __init__(self) -> None:
        self.text, self.calls = "", list[tuple[tuple[str, ...], dict[str, Any]]]()

    def __call__(self, argv: Sequence[str], **options: Any) -> Completed:
        self.calls.append((tuple(argv), options))
        return Completed(argv=tuple(argv), status=0, output=self.text, errors="", elapsed_s=0.0, cpu_s=0.0)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> FakeManager:
    fake = FakeManager()
    monkeypatch.setattr(door, "run", fake)
    return fake


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (systemd.reload_units, "daemon-reload"),
        (lambda: systemd.start(("a.timer",)), "start a.timer"),
        (lambda: systemd.start(["a.service", "b.service"], wait=False), "start --no-block a.service b.service"),
        (lambda: systemd.stop(("a.service",), wait=False), "stop --no-block a.service"),
        (lambda: systemd.restart(("a.timer",)), "restart a.timer"),
        (lambda: systemd.reload_or_restart(("a.service",), wait=False), "reload-or-restart --no-block a.service"),
        (lambda: systemd.enable("a.timer"), "--quiet enable --now a.timer"),
        (lambda: systemd.disable("a.timer"), "--quiet disable --now a.timer"),
        (
            lambda: systemd.set_runtime_properties("n.slice", {"CPUQuota": "140%", "IOWeight": ""}),
            "set-property --runtime n.slice CPUQuota=140% IOWeight=",
        ),
    ],
)
def test_a_command_is_these_words_and_waits_a_minute(manager: FakeManager, call: Callable[[], None], words: str) -> None:
    call()
    assert manager.calls == [(("systemctl", *words.split()), {"timeout_s": 60.0})]


def test_properties_of_all_units_come_from_one_call(manager: FakeManager) -> None:
    manager.text = "ActiveState=active\nExecStart={ path=/bin/x ; argv[]=x a=b }\n\nActiveState=inactive\nExecStart=\n"
    assert systemd.show(("a.service", "-.slice"), ("ActiveState", "ExecStart")) == {
        "a.service": {"ActiveState": "active", "ExecStart": "{ path=/bin/x ; argv[]=x a=b }"},
        "-.slice": {"ActiveState": "inactive", "ExecStart": ""},
    }
    words = ("systemctl", "show", "--no-pager", "--property=ActiveState,ExecStart", "--", "a.service", "-.slice")
    assert [argv for argv, _ in manager.calls] == [words]
    assert manager.calls[0][1]["split"] is True, "a warning would be read as a property"


def test_an_answer_for_other_units_is_an_error_and_no_units_are_no_call(manager: FakeManager) -> None:
    manager.text = "ActiveState=active\n"
    with pytest.raises(CommandError, match="asked for 2 units, got 1"):
        systemd.show(("a.service", "b.service"), ("ActiveState",))
    manager.calls.clear()
    assert systemd.show((), ("ActiveState",)) == {}
    assert manager.calls == []


def test_units_are_rows(manager: FakeManager) -> None:
    manager.text = '[{"unit": "a.service", "load": "loaded", "active": "failed", "sub": "failed", "description": ""}]'
    assert [(unit.name, unit.active) for unit in systemd.list_units("--state=failed", timeout_s=20.0)] == [
        ("a.service", "failed")
    ]
    assert manager.calls[0] == (
        ("systemctl", "list-units", "--output=json", "--state=failed"),
        {"timeout_s": 20.0, "split": True},
    )


def test_a_scope_becomes_the_program(manager: FakeManager) -> None:
    words = systemd.scope_argv(("fio", "-x"), slice_name="n.slice", unit="u", properties=("IOWeight=1", "MemoryHigh=1G"))
    assert " ".join(words) == (
        "systemd-run --scope --quiet --collect --slice=n.slice --unit=u -p IOWeight=1 -p MemoryHigh=1G -- fio -x"
    )
    assert "--unit" not in " ".join(systemd.scope_argv(("fio",), slice_name="n.slice"))
    assert manager.calls == []


def test_it_runs_where_its_directory_is(tmp_path: Path) -> None:
    assert not systemd.is_running(tmp_path)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert systemd.is_running(tmp_path)
