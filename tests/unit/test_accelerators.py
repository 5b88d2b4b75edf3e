"""Accelerators: the answers of NVML and their document, amdgpu's and KFD's files, Intel's, and devices without a driver."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.tree import Link, make_root

from bedplate.errors import ReadError
from bedplate.host.accel import find_accelerators, read_accelerators, record_vendor
from bedplate.host.accel.nvidia import parse_nvml, read_driver_version, read_library_version
from bedplate.host.accel.nvml import query_nvml, render_nvml
from bedplate.host.kernel.pcitree import make_device
from bedplate.model.facts.pci import PciDevice
from bedplate.model.facts.reading import Unknown, known


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 4: "Insufficient Permissions", 15: "GPU is lost"}.get(value, "Unknown Error"))
        self.value = value


def raising(value: int) -> Any:
    def call(*_: object) -> Any:
        raise NvmlError(value)

    return call


def make_nvml() -> SimpleNamespace:
    """Two devices of which the second is lost, as nvidia-ml-py answers for them."""

    def handle(index: int) -> int:
        if index == 1:
            raise NvmlError(15)
        return index

    def link(_: int, number: int) -> int:
        if number >= 4:
            raise NvmlError(2)
        return int(number != 2)

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetNVMLVersion=lambda: "13.590.48.01",
        nvmlSystemGetDriverVersion=lambda: b"590.48.01",
        nvmlSystemGetConfComputeState=lambda: SimpleNamespace(ccFeature=1),
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetName=lambda _: "NVIDIA H100",
        nvmlDeviceGetPciInfo=lambda _: SimpleNamespace(busId="00000000:19:00.0"),
        nvmlDeviceGetUUID=lambda _: "GPU-1",
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(total=80 << 30),
        nvmlDeviceGetPersistenceMode=lambda _: 0,
        nvmlDeviceGetComputeMode=lambda _: 3,
        nvmlDeviceGetEccMode=lambda _: [1, 1],
        nvmlDeviceGetTotalEccErrors=lambda *_: 7,
        nvmlDeviceGetMigMode=raising(3),
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 500_000,
        nvmlDeviceGetPowerManagementDefaultLimit=lambda _: 700_000,
        nvmlDeviceGetPowerUsage=raising(4),
        nvmlDeviceGetClockInfo=lambda *_: 1410,
        nvmlDeviceGetMaxClockInfo=lambda *_: 1980,
        nvmlDeviceGetCurrentClocksEventReasons=raising(13),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: 0x45,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=42),
        nvmlDeviceGetTemperature=lambda *_: 61,
        nvmlDeviceGetNvLinkState=link,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=4711, usedGpuMemory=1 << 30)],
        nvmlSystemGetProcessName=raising(6),
    )


def gpu(address: str, *, vendor: int = 0x10DE, code: int = 0x030200, driver: str | None = None) -> PciDevice:
    device = replace(make_device(address, class_code=code, source="test"), vendor=vendor, name="a device")
    return replace(device, driver=known(driver, "test")) if driver else device


def test_the_answers_of_nvml_and_their_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", make_nvml())
    document = render_nvml(query_nvml())
    root = make_root(tmp_path, {"/vendor/nvml.json": document, "/sys/module/nvidia/version": "590.48.01"})
    first, lost = read_accelerators(root, [gpu("0000:19:00.0"), gpu("0000:3b:00.0")])
    assert (first.name, first.address, first.uuid, first.memory_bytes.value) == (
        "NVIDIA H100",
        "0000:19:00.0",
        "GPU-1",
        80 << 30,
    )
    assert (first.driver_version.value, first.library_version.value) == ("590.48.01", "590.48.01")
    assert (first.persistence.value, first.compute_mode.value, first.ecc_uncorrected.value) == (
        False,
        "Exclusive_Process",
        7,
    )
    assert (first.mig.unknown, first.power_draw_w.unknown) == (Unknown.ABSENT, Unknown.DENIED)
    assert (first.power_limit_w.value, first.power_default_w.value) == (500.0, 700.0)
    assert first.throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert (first.nvlinks_active.value, first.nvlinks_total.value) == (3, 4)
    assert first.fabric_state.unknown is Unknown.ABSENT  # this module is older than the call
    assert (first.confidential.value, first.processes) == (True, ((4711, "", 1 << 30),))
    assert (lost.index, lost.address, lost.memory_bytes.unknown, lost.memory_bytes.text) == (
        *(1, "0000:3b:00.0"),
        *(Unknown.MALFORMED, "GPU is lost"),
    )
    assert record_vendor(root) == {"/vendor/nvml.json": (document + "\n").encode()}


def test_without_the_library_the_document_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    root = make_root(tmp_path, {"/vendor/nvml.json": render_nvml(query_nvml())})
    (found,) = read_accelerators(root, [gpu("0000:19:00.0", driver="nouveau")])
    assert (found.vendor, found.name, found.memory_bytes.unknown) == ("nvidia", "a device", Unknown.ABSENT)
    assert found.memory_bytes.text == "nvidia-ml-py is not installed"


def test_a_device_that_nvml_does_not_list(tmp_path: Path) -> None:
    """The driver of the wrong flavour loads, and lists nothing."""
    document = {
        "format": 1,
        "driver": {"value": "570.1"},
        "library": {"value": "570.1"},
        "count": {"value": 0},
        "devices": [],
    }
    root = make_root(tmp_path, {"/vendor/nvml.json": json.dumps(document)})
    (found,) = read_accelerators(root, [gpu("0000:19:00.0", driver="nvidia")])
    assert (found.index, found.memory_bytes.text) == (0, "NVML answers and lists no device")


def test_a_recording_without_vendor_answers_says_that(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"/proc/version": "x"}, absent=Unknown.NOT_RECORDED)
    (found,) = read_accelerators(root, [gpu("0000:19:00.0")])
    assert found.memory_bytes.unknown is Unknown.NOT_RECORDED
    assert record_vendor(root) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "devices": [3]}', "[" * 100_000])
def test_a_malformed_document_is_refused(text: str) -> None:
    with pytest.raises(ReadError):
        parse_nvml(text)


def test_answers_of_the_wrong_type_are_malformed() -> None:
    device = {
        "Name": {"value": None},
        "MemoryInfo": {"value": "much"},
        "NvLinkState": {"value": 3},
        "PciInfo": 7,
        "MigMode": [],
    }
    document = {"format": 1, "devices": [device], "pairs": [{"a": 0, "b": 1, "P2PStatus": {"value": []}}, 3]}
    ((found,), why) = parse_nvml(json.dumps(document))
    assert (found.memory_bytes.unknown, found.memory_bytes.text) == (Unknown.MALFORMED, "much")
    assert (found.nvlinks_total.unknown, found.address, found.mig.unknown, why) == (
        *(Unknown.MALFORMED, None),
        *(Unknown.NOT_RECORDED, ""),
    )


def test_versions_of_module_and_library(tmp_path: Path) -> None:
    """After an update and before the restart they differ: new programs fail then."""
    root = make_root(
        tmp_path,
        {
            "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release",
            "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": Link("libnvidia-ml.so.580.65.06"),
        },
    )
    assert read_driver_version(root).value == "570.86.15"
    assert read_library_version(root).value == "580.65.06"


def test_amd_with_its_driver(tmp_path: Path) -> None:
    files: dict[str, str | bytes | Link] = {"/sys/module/amdgpu/version": "6.12.12", "/proc/4711/comm": "vllm"}
    for place, address in enumerate(("0000:0c:00.0", "0000:15:00.0")):
        where = f"/sys/bus/pci/devices/{address}"
        node = f"/sys/class/kfd/kfd/topology/nodes/{place + 2}"
        files |= {
            f"{where}/product_name": "AMD Instinct MI300X",
            f"{where}/mem_info_vram_total": str(192 << 30),
            f"{where}/gpu_busy_percent": "97",
            f"{where}/unique_id": "abc",
            f"{where}/pp_dpm_sclk": "0: 132Mhz\n1: 2100Mhz *",
            f"{where}/ras/umc_err_count": "ue: 2\nce: 5",
            f"{where}/hwmon/hwmon3/power1_cap": "600000000",
            f"{where}/hwmon/hwmon3/power1_cap_default": "750000000",
            f"{where}/hwmon/hwmon3/power1_input": "310000000",
            f"{where}/hwmon/hwmon3/temp1_input": "48000",
            f"{node}/gpu_id": str(100 + place),
            f"{node}/properties": f"simd_count 1216\nlocation_id {int(address[5:7], 16) << 8}\ndomain 0",
            f"{node}/io_links/0/properties": "type 2\nnode_from 2\nnode_to 0",
            f"{node}/io_links/1/properties": f"type 11\nnode_from 2\nnode_to {3 - place}",
            "/sys/class/kfd/kfd/proc/4711/vram_100": str(64 << 30),
        }
    devices = [gpu(address, vendor=0x1002, code=0x120000, driver="amdgpu") for address in ("0000:0c:00.0", "0000:15:00.0")]
    first, second = read_accelerators(make_root(tmp_path, files), devices)
    assert (first.vendor, first.name, first.memory_bytes.value) == ("amd", "AMD Instinct MI300X", 192 << 30)
    assert (first.power_limit_w.value, first.power_default_w.value, first.power_draw_w.value) == (600.0, 750.0, 310.0)
    assert (first.sm_clock_mhz.value, first.max_sm_clock_mhz.value, first.temperature_c.value) == (2100, 2100, 48.0)
    assert (first.ecc.value, first.ecc_uncorrected.value, first.driver_version.value) == (True, 2, "6.12.12")
    assert (first.peers, second.peers) == (((1, "XGMI"),), ((0, "XGMI"),))
    assert (first.processes, second.processes) == (((4711, "vllm", 64 << 30),), ())


def test_amd_without_its_driver(tmp_path: Path) -> None:
    (found,) = read_accelerators(make_root(tmp_path, {}), [gpu("0000:0c:00.0", vendor=0x1002, driver="vfio-pci")])
    assert (found.memory_bytes.unknown, found.memory_bytes.text) == (Unknown.ABSENT, "the driver is vfio-pci")


def test_intel_by_xe_and_not_what_is_integrated(tmp_path: Path) -> None:
    where = "/sys/bus/pci/devices/0000:03:00.0"
    files: dict[str, str | bytes | Link] = {
        f"{where}/drm/card1/dev": "226:1",
        f"{where}/tile0/gt0/freq0/act_freq": "2400",
        f"{where}/tile0/gt0/freq0/rp0_freq": "2850",
        f"{where}/tile0/gt0/freq0/throttle/status": "1",
        f"{where}/tile0/gt0/freq0/throttle/reason_pl1": "1",
        f"{where}/tile0/gt0/freq0/throttle/reason_thermal": "0",
        f"{where}/hwmon/hwmon2/power1_max": "190000000",
    }
    devices = [
        gpu("0000:00:02.0", vendor=0x8086, code=0x030000),
        gpu("0000:03:00.0", vendor=0x8086, code=0x030000, driver="xe"),
    ]
    (found,) = read_accelerators(make_root(tmp_path, files), devices)
    assert (found.address, found.sm_clock_mhz.value, found.max_sm_clock_mhz.value) == ("0000:03:00.0", 2400, 2850)
    assert (found.throttle_reasons, found.power_limit_w.value) == (("pl1",), 190.0)


def test_others_by_class_and_no_screens(tmp_path: Path) -> None:
    devices = [
        gpu("0000:01:00.0", vendor=0x1DA3, code=0x120000),
        gpu("0000:02:00.0", vendor=0x1A03, code=0x030000),  # the screen of a management controller
        gpu("0000:03:00.0", vendor=0x10DE, code=0x068000),  # NVSwitch
        gpu("0000:04:00.0", vendor=0x10DE, code=0x040300),  # its sound
    ]
    assert [
        (accelerator.vendor, accelerator.address) for accelerator in read_accelerators(make_root(tmp_path, {}), devices)
    ] == [("1da3", "0000:01:00.0")]
    assert [
        (accelerator.vendor, accelerator.index) for accelerator in find_accelerators([devices[0], gpu("0000:05:00.0")])
    ] == [
        ("1da3", 0),
        ("nvidia", 0),
    ]
