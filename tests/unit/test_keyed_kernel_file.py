"""Lines of io.cost as they are read, judged and given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.act.durable import write_all
from bedplate.act.tuning.kinds.keyed_kernel_file import KEYED_KERNEL_FILE, says, write_line
from bedplate.act.tuning.step import Target
from bedplate.host.root.root import Root

QOS = "/sys/fs/cgroup/io.cost.qos"
COMPUTED = "254:16 enable=0 ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00"
CHOSEN = "8:0 enable=1 ctrl=user rpct=90.00 rlat=5000 wpct=95.00 wlat=5000 min=50.00 max=100.00"


def line_of(device: str) -> Target:
    return Target(kind=KEYED_KERNEL_FILE, path=QOS, key=device)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    file = tmp_path / QOS.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(f"{CHOSEN}\n{COMPUTED}\n")
    return Root(tmp_path)


def test_what_the_kernel_computed_is_given_back_to_it(root: Root) -> None:
    """A coefficient that is written makes it a user's: undo wrote ctrl=auto with them, and read ctrl=user."""
    before = KEYED_KERNEL_FILE.read(line_of("254:16"), root)
    assert before == "254:16 enable=0 ctrl=auto"
    assert says(COMPUTED, before)
    assert not says(COMPUTED.replace("auto", "user"), before)
    KEYED_KERNEL_FILE.write_value(line_of("254:16"), before, root)
    assert root.read(QOS).value == before


def test_what_somebody_chose_is_given_back_whole(root: Root) -> None:
    assert KEYED_KERNEL_FILE.read(line_of("8:0"), root) == CHOSEN


def test_a_disk_without_a_line_is_switched_off(root: Root) -> None:
    assert KEYED_KERNEL_FILE.read(line_of("259:0"), root) == ""
    KEYED_KERNEL_FILE.write_value(line_of("259:0"), "", root)
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

    monkeypatch.setattr("bedplate.act.tuning.kinds.kernel_file.write_all", write)
    write_line(root, QOS, CHOSEN)
    assert throttling.read_text() == "75000\n"
