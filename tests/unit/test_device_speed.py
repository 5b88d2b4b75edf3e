"""Records of measured disks, the disk under a directory, and what fio says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tests.unit.tree import Link, make_root

from bedplate.errors import ReadError
from bedplate.host.kernel.disk import read_disk
from bedplate.host.root.root import Root
from bedplate.host.system.device_speeds import DIRECTORY, parse_device_speed, read_device_speeds, render_device_speed
from bedplate.model.device_speed import DeviceSpeed
from bedplate.prove.lab.disk import FioResult, parse_disk_stat, parse_fio

SPEED = DeviceSpeed(
    device="vda",
    number="254:0",
    model="",
    read_bytes_per_s=698_000_000,
    read_seq_iops=83_023,
    read_rand_iops=100_880,
    write_bytes_per_s=864_000_000,
    write_seq_iops=66_285,
    write_rand_iops=82_806,
    read_p95_us=30,
    write_p95_us=38,
    kept_pct=97,
    kernel="6.18.44",
    made="2026-11-24T21:51:00Z",
)
DEVICES, MAPPED = "/sys/devices/pci0/block", "/sys/devices/virtual/block"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """vda with a partition, and a mapped device over that partition."""
    return make_root(
        tmp_path,
        {
            f"{DEVICES}/vda/dev": "254:0",
            f"{DEVICES}/vda/vda2/dev": "254:2",
            f"{DEVICES}/vda/vda2/partition": "2",
            f"{DEVICES}/vdb/dev": "254:16",
            f"{MAPPED}/dm-0/dev": "253:0",
            f"{MAPPED}/dm-1/dev": "253:1",
            f"{MAPPED}/dm-0/slaves/vda2": Link("../../../../pci0/block/vda/vda2"),
            f"{MAPPED}/dm-1/slaves/vda2": Link("../../../../pci0/block/vda/vda2"),
            f"{MAPPED}/dm-1/slaves/vdb": Link("../../../../pci0/block/vdb"),
            "/sys/dev/block/254:0": Link("../../devices/pci0/block/vda"),
            "/sys/dev/block/254:2": Link("../../devices/pci0/block/vda/vda2"),
            "/sys/dev/block/253:0": Link("../../devices/virtual/block/dm-0"),
            "/sys/dev/block/253:1": Link("../../devices/virtual/block/dm-1"),
            "/sys/class/block/vda2": Link("../../devices/pci0/block/vda/vda2"),
            "/sys/class/block/vdb": Link("../../devices/pci0/block/vdb"),
            "/sys/block/vda": Link("../devices/pci0/block/vda"),
        },
    )


@pytest.mark.parametrize("number", ["254:0", "254:2", "253:0"])
def test_partitions_and_mappings_lead_to_the_disk(root: Root, number: str) -> None:
    disk = read_disk(root, number)
    assert (disk.name, disk.number) == ("vda", "254:0")


def test_a_directory_on_two_disks_or_none_is_refused(root: Root) -> None:
    with pytest.raises(ReadError, match=r"dm-1: is on 2 disks \(vda2, vdb\)"):
        read_disk(root, "253:1")
    with pytest.raises(ReadError, match="is not on a disk"):
        read_disk(root, "0:25")


def test_a_record_comes_back_as_it_was(root: Root) -> None:
    assert parse_device_speed(render_device_speed(SPEED), "x") == SPEED
    directory = root.at(DIRECTORY)
    directory.mkdir(parents=True)
    (directory / "vda.json").write_text(render_device_speed(SPEED))
    gone = dataclasses.replace(SPEED, device="sda", number="8:0")
    (directory / "sda.json").write_text(render_device_speed(gone))
    other = dataclasses.replace(SPEED, model="another disk")
    (directory / "other.json").write_text(render_device_speed(other))
    assert read_device_speeds(root) == (SPEED,)  # neither the disk that is gone nor the one that was exchanged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "schema 2"),
        ({"kept_pct": "97"}, "kept_pct: expected a number from 0 on or null"),
        ({"read_rand_iops": -1}, "read_rand_iops: expected a number"),
        ({"read_rand_iops": True}, "read_rand_iops: expected a number"),
        ({"kernel": None}, "kernel: expected text"),
        ({"number": "a:b"}, "expected a name and a number"),
        ({"device": "../vda"}, "expected a name and a number"),
    ],
)
def test_a_file_that_is_no_record_is_told(change: dict[str, object], message: str) -> None:
    record = json.loads(render_device_speed(SPEED)) | change
    with pytest.raises(ReadError, match=f"^disk.json: .*{message}"):
        parse_device_speed(json.dumps(record), "disk.json")
    with pytest.raises(ReadError, match="is not JSON"):
        parse_device_speed("{", "disk.json")


def test_what_fio_says_is_read() -> None:
    side = {
        "total_ios": 10,
        "bw_bytes": 4096,
        "iops": 1.9,
        "io_bytes": 40960,
        "clat_ns": {"percentile": {"95.000000": 30208}},
    }
    none = {"total_ios": 0, "bw_bytes": 0, "iops": 0, "io_bytes": 0, "clat_ns": {}}
    text = "note: both iodepth >= 1 and synchronous\n" + json.dumps({"jobs": [{"read": side, "write": none}]})
    assert parse_fio(text) == FioResult(bytes_per_s=4096, iops=1, p95_us=30, bytes_moved=40960)
    with pytest.raises(ReadError, match="did nothing"):
        parse_fio(json.dumps({"jobs": [{"read": none, "write": none}]}))
    with pytest.raises(ReadError, match="wrote no JSON"):
        parse_fio("fio: command not found")
    with pytest.raises(ReadError, match="its report"):
        parse_fio('{"jobs": [{"read": {}}]}')


def test_a_load_that_ended_with_an_error_is_no_measurement() -> None:
    """A disk that filled up, or failed, in the middle of a load gave a speed."""
    side = {"total_ios": 10, "bw_bytes": 4096, "iops": 1, "io_bytes": 40960, "clat_ns": {}}
    with pytest.raises(ReadError, match="job 'load' ended with error 28"):
        parse_fio(json.dumps({"jobs": [{"jobname": "load", "error": 28, "read": side, "write": side}]}))


def test_what_the_kernel_says_of_a_disk_is_read() -> None:
    assert parse_disk_stat("  10 0 8 1   20 0 4 1  0 0 0") == 12 * 512
    with pytest.raises(ReadError, match="expected numbers"):
        parse_disk_stat("")
