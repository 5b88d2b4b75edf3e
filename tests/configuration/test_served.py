"""Which machine.toml is served: after a boot never one that nobody confirmed; one that was edited by hand is reported."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.configuration.records import read_in_force
from bedplate.errors import ReadError
from bedplate.flows import config
from bedplate.flows.front import read_front_setting
from bedplate.host.root.root import Root
from tests.configuration.machine import FakeServices, Silence, make_machine, put

FIRST, OTHER = "schema = 1\n[front]\nport = 8001\n", "schema = 1\n[front]\nport = 8002\n"
MACHINE = "var/lib/bedplate/machine.toml"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


def apply(top: Path, text: str, *, waits: bool) -> None:
    within_s = 600 if waits else None
    config.apply(put(top, text), top, Silence(), within_s=within_s, services=FakeServices(top), reach_s=0)


def boot(top: Path) -> None:
    """What a boot takes away: the timer, which lies in /run."""
    for path in (top / "run/systemd/system").glob("bedplate-config-confirm.*"):
        path.unlink()


def port(top: Path) -> int:
    return read_front_setting(Root(top)).front.port


def test_what_waits_is_served_until_a_boot_and_the_one_before_it_after(tree: Path) -> None:
    top = make_machine(tree / "box")
    apply(top, FIRST, waits=False)
    apply(top, OTHER, waits=True)
    assert port(top) == 8002
    boot(top)
    assert port(top) == 8001
    config.restore(top, Silence(), services=FakeServices(top))
    assert port(top) == 8001


@pytest.mark.parametrize("before", [None, FIRST])
def test_a_first_configuration_that_nobody_confirmed_is_not_served_after_a_boot(tree: Path, before: str | None) -> None:
    top = make_machine(tree / "box")
    if before is not None:
        (top / MACHINE).write_text(before)
    expected = port(top)
    apply(top, OTHER, waits=True)
    boot(top)
    assert port(top) == expected != 8002


def test_an_edit_by_hand_is_reported_with_the_way_out(tree: Path) -> None:
    top = make_machine(tree / "box")
    apply(top, FIRST, waits=False)
    assert read_front_setting(Root(top)).remarks == ()
    (top / MACHINE).write_text(OTHER)
    (remark,) = read_front_setting(Root(top)).remarks
    assert remark.startswith("/var/lib/bedplate/machine.toml: was edited by hand: it differs from configuration 1")
    assert "bedplate config restore" in remark
    assert "bedplate config apply FILE" in remark
    (top / MACHINE).unlink()
    assert "is gone" in read_front_setting(Root(top)).remarks[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}'])
@pytest.mark.parametrize("name", ["in-force.json", "journal.json"])
def test_a_damaged_record_is_reported_and_the_machine_serves(tree: Path, text: str, name: str) -> None:
    top = make_machine(tree / "box")
    apply(top, FIRST, waits=False)
    (ConfigPlace(top=top).in_force.parent / name).write_text(text)
    setting = read_front_setting(Root(top))
    assert setting.front.port == 8001
    assert setting.problems == ()
    (remark,) = setting.remarks
    assert name in remark
    assert "bedplate config apply FILE" in remark


def _set(row: dict[str, object], *keys: object, value: object) -> None:
    place: Any = row
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("waits",), "no"),
        (("text",), 1),
        (("text",), "schema = 1\n[front]\nport = 8003\n"),
        (("files",), [1]),
        (("files",), {"a": 1}),
        (("files", 0, "path"), 5),
        (("files", 0, "path"), "etc/relative"),
        (("files", 0, "path"), "/etc/../tmp/x"),
        (("files", 0, "text"), None),
        (("files", 0, "mode"), "0644"),
        (("files", 0, "before"), 7),
        (("files", 0, "actions"), ["explode x.service"]),
        (("identity",), [1]),
        (("identity", "number"), "1"),
        (("identity", "sequence"), True),
        (("identity", "sha256"), None),
        (("previous",), "x"),
    ],
)
def test_a_record_that_was_edited_by_hand_is_refused_by_its_name(
    tree: Path, keys: tuple[object, ...], value: object
) -> None:
    top = make_machine(tree / "box")
    apply(top, FIRST, waits=False)
    path = ConfigPlace(top=top).in_force
    row = json.loads(path.read_text())
    _set(row, *keys, value=value)
    path.write_text(json.dumps(row))
    with pytest.raises(ReadError, match=r"in-force\.json: is not as this bedplate writes it") as caught:
        read_in_force(ConfigPlace(top=top))
    assert caught.value.hint is not None and "bedplate config apply FILE" in caught.value.hint
    assert port(top) == 8001
