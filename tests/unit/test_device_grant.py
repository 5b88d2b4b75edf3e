"""Engines and containers get the nodes of the accelerators that they use, and no other."""

from __future__ import annotations

import json

import pytest

from bedplate.model.device_grant import DeviceGrant
from bedplate.plan.device_grant import plan_device_allow, plan_nvidia_grant
from bedplate.report.cdi import render_cdi

LIBRARIES = ("libcuda.so.535.274.02", "libcuda.so.1")


def _grant(*minors: int) -> DeviceGrant:
    return plan_nvidia_grant(minors, driver="tesla-535", libraries=LIBRARIES, programs=("nvidia-smi",))


def test_a_unit_gets_the_devices_that_it_uses_and_no_other() -> None:
    assert plan_device_allow(_grant(0, 1, 2, 3), ("2",)) == (
        "DevicePolicy=closed",
        "DeviceAllow=/dev/nvidiactl rw",
        "DeviceAllow=/dev/nvidia-uvm rw",
        "DeviceAllow=/dev/nvidia2 rw",
    )


def test_two_devices_share_what_both_need() -> None:
    lines = plan_device_allow(_grant(1, 0), ("0", "1", "0"))
    assert lines[1:] == tuple(f"DeviceAllow=/dev/{name} rw" for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1"))


@pytest.mark.parametrize("names", [(), ("4",), ("0", "all")])
def test_a_device_that_is_not_there_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected one or more of 0, 1"):
        plan_device_allow(_grant(0, 1), names)


@pytest.mark.parametrize("minors", [(255,), (-1,), (0, 0)])
def test_a_number_that_no_card_has_is_refused(minors: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="minor number: got"):
        _grant(*minors)


@pytest.mark.parametrize("name", ["", "../libcuda.so.1", "/etc/passwd"])
def test_a_file_outside_of_the_layer_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name without a directory"):
        plan_nvidia_grant((0,), driver="tesla-535", libraries=(name,))


def test_a_cdi_file_has_the_devices_and_the_files_of_the_driver() -> None:
    cdi = json.loads(render_cdi(_grant(1, 0)))
    assert (cdi["cdiVersion"], cdi["kind"]) == ("0.6.0", "nvidia.com/gpu")
    nodes = {device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]] for device in cdi["devices"]}
    assert nodes == {"0": ["/dev/nvidia0"], "1": ["/dev/nvidia1"], "all": ["/dev/nvidia0", "/dev/nvidia1"]}
    assert [node["path"] for node in cdi["containerEdits"]["deviceNodes"]] == ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in cdi["containerEdits"]["mounts"]}
    assert mounts == {
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1": "/usr/lib/bedplate/driver/tesla-535/lib/libcuda.so.1",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.535.274.02": "/usr/lib/bedplate/driver/tesla-535/lib/libcuda.so.535.274.02",
        "/usr/bin/nvidia-smi": "/usr/lib/bedplate/driver/tesla-535/bin/nvidia-smi",
    }
    assert all("ro" in mount["options"] for mount in cdi["containerEdits"]["mounts"])


def test_a_machine_without_a_card_has_no_device() -> None:
    assert json.loads(render_cdi(_grant()))["devices"] == []
