"""Lines of io.cost as they are read, judged and given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.act.tuning.durable import write_all
from bedplate.act.tuning.kernel_file import read_kernel_file, restore_kernel_file, write_kernel_file
from bedplate.act.tuning.meaning import holds_keyed
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Parse

QOS = "/sys/fs/cgroup/io.cost.qos"
COMPUTED = "254:16 enable=0 ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00"
CHOSEN = "8:0 enable=1 ctrl=user rpct=90.00 rlat=5000 wpct=95.00 wlat=5000 min=50.00 max=100.00"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    file = tmp_path / QOS.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(f"{CHOSEN}\n{COMPUTED}\n")
    return Root(tmp_path)


def test_what_the_kernel_computed_is_given_back_to_it(root: Root) -> None:
    """A coefficient that is written makes it a user's: undo wrote ctrl=auto with them, and read ctrl=user."""
    before = read_kernel_file(root, QOS, Parse.WORDS, key="254:16")
    assert before == "254:16 enable=0 ctrl=auto"
    assert holds_keyed(COMPUTED, before)
    assert not holds_keyed(COMPUTED.replace("auto", "user"), before)
    restore_kernel_file(root, QOS, before, twin="", key="254:16")
    assert root.read(QOS).value == before


def test_what_somebody_chose_is_given_back_whole(root: Root) -> None:
    assert read_kernel_file(root, QOS, Parse.WORDS, key="8:0") == CHOSEN


def test_a_disk_without_a_line_is_switched_off(root: Root) -> None:
    assert read_kernel_file(root, QOS, Parse.WORDS, key="259:0") == ""
    restore_kernel_file(root, QOS, "", twin="", key="259:0")
    assert root.read(QOS).value == "259:0 enable=0 ctrl=auto"


def test_writeback_throttling_outlives_io_cost(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel switches it off when io.cost is enabled."""
    throttling = root.at("/sys/dev/block/8:0/queue/wbt_lat_usec")
    throttling.parent.mkdir(parents=True)
    throttling.write_text("75000\n")

    def write(descriptor: int, data: bytes) -> None:
        if b"enable=1" in data:
            throttling.write_text("0\n")
        write_all(descriptor, data)

    monkeypatch.setattr("bedplate.act.tuning.kernel_file.write_all", write)
    write_kernel_file(root, QOS, CHOSEN)
    assert throttling.read_text() == "75000\n"
