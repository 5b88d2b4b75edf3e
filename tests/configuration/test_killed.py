"""kill -9 at every call that changes a file or makes it last, and half way through each write: the old configuration or the
new one is in force after the next verb, and never a mixture."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bedplate.act.configuration.place import ConfigPlace, hold_config
from bedplate.act.configuration.records import read_in_force
from bedplate.flows import config
from bedplate.host.root.root import Root
from tests.configuration.machine import FakeServices, Silence, make_machine, put, snapshot
from tests.tuning.test_killed import killed

FIRST = """
sequence = 12
name = "box"
[tuning]
policy = "latency"
[[network.link]]
name = "bond0"
kind = "bond"
members = ["eno1"]
"""
OTHER = 'sequence = 13\nname = "other"\n[log]\nmax_mib = 64\n[[network.link]]\nname = "eno1"\n'


def apply(top: Path, text: str, *, waits: bool) -> None:
    config.apply(put(top, text), top, Silence(), within_s=600 if waits else None, services=FakeServices(top), reach_s=0)


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs then write the same record, and nothing waits for a network to settle."""
    monkeypatch.setattr(config, "_now", lambda: "2026-11-30T21:04:05Z")
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    ("what", "torn"),
    [(what, True) for what in ("first", "waits", "replace", "revert", "confirm")] + [("waits", False), ("revert", False)],
)
def test_every_instant_recovers(tree: Path, what: str, torn: bool) -> None:
    def machine(name: str) -> Path:
        top = make_machine(tree / name)
        if what != "first":
            apply(top, FIRST, waits=False)
        if what in ("revert", "confirm"):
            apply(top, OTHER, waits=True)
        return top

    def work(top: Path) -> None:
        if what == "revert":
            config.revert(top, Silence(), services=FakeServices(top))
        elif what == "confirm":
            config.confirm(top, Silence(), services=FakeServices(top))
        else:
            apply(top, FIRST if what == "first" else OTHER, waits=what == "waits")

    reference = machine("reference")
    before = (snapshot(reference), _in_force(reference))
    work(reference)
    after = (snapshot(reference), _in_force(reference))
    assert before != after

    at, ends = 0, set()
    while True:
        top = machine(f"at-{at}")
        if not killed(lambda top=top: work(top), at, torn=torn):  # type: ignore[misc]
            break
        config.restore(top, Silence(), services=FakeServices(top)) if what in ("first", "replace") else _recover(top)
        now = (snapshot(top), _in_force(top))
        assert now in (before, after), f"call {at}: {set(now[0].items()) ^ set(before[0].items())}"
        ends.add(now == after)
        assert not ConfigPlace(top=top).journal.exists(), f"call {at}"
        numbers = [(row["number"], row["what"]) for row in config.history(top)]
        assert len(numbers) == len(set(numbers)), f"call {at}: {numbers}"
        at += 1
    assert at > (15 if what == "confirm" else 30), f"only {at} instants were tried"
    assert ends == {True, False}


def _recover(top: Path) -> None:
    """What any verb does first: here the timer's, while nothing waits for it any more or still does."""
    place = ConfigPlace(top=top)
    with hold_config(place, "test"):
        config._recover(place, FakeServices(top), Root(top), Silence())


def _in_force(top: Path) -> object:
    record = read_in_force(ConfigPlace(top=top))
    return None if record is None else (record.text, record.waits, record.identity.number, record.files)


def test_a_boot_takes_back_what_nobody_confirmed_and_writes_the_rest_again(tree: Path) -> None:
    top = make_machine(tree / "box")
    apply(top, FIRST, waits=False)
    confirmed = snapshot(top)
    apply(top, OTHER, waits=True)
    assert snapshot(top) != confirmed
    for name in ("etc/hostname", "etc/systemd/network/40-bedplate-eno1.network", "proc/sys/kernel/hostname"):
        (top / name).write_text("of the image\n")  # /etc of an image is as it was built after each boot
    services = FakeServices(top)
    config.restore(top, Silence(), services=services)
    assert snapshot(top) == confirmed
    assert "reload systemd-networkd.service" in services.asked
    assert [row["what"] for row in config.history(top)] == ["applied", "applied", "reverted"]
    assert "restarted" in config.history(top)[-1]["why"]
