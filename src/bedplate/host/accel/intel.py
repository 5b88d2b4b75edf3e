"""Intel accelerators from the files of the xe and i915 drivers.

Sources: Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon, Documentation/gpu/xe, i915_sysfs.c. What is integrated in the
processor (0000:00:02.0) shares the host's memory and is not counted as an accelerator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bedplate.host.accel.blank import make_accelerator
from bedplate.host.kernel.attributes import read_int
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

VENDOR = 0x8086
_INTEGRATED = "0000:00:02.0"


def read_intel(root: Root, pci: Sequence[PciDevice]) -> tuple[Accelerator, ...]:
    """Intel accelerators by PCI address; without a driver their facts are unknown."""
    return tuple(
        _read_one(root, device, index)
        for index, device in enumerate(device for device in pci if device.address != _INTEGRATED)
    )


def _read_one(root: Root, device: PciDevice, index: int) -> Accelerator:
    where = f"/sys/bus/pci/devices/{device.address}"
    blank = make_accelerator(
        vendor="intel",
        index=index,
        name=device.name,
        address=device.address,
        why=root.absent,
        source=where,
        text="" if device.driver.value in ("xe", "i915") else f"the driver is {device.driver.value or 'none'}",
    )
    card = next((name for name in root.listdir(f"{where}/drm") if name.startswith("card")), None)
    if device.driver.value not in ("xe", "i915") or card is None:
        return blank
    monitor = f"{where}/hwmon/{next(iter(root.listdir(f'{where}/hwmon')), 'none')}"
    clock = f"{where}/tile0/gt0/freq0" if device.driver.value == "xe" else f"{where}/drm/{card}"
    names = ("act_freq", "rp0_freq") if device.driver.value == "xe" else ("gt_act_freq_mhz", "gt_RP0_freq_mhz")
    return replace(
        blank,
        memory_bytes=read_int(root, f"{where}/drm/{card}/lmem_total_bytes"),
        power_limit_w=_watts(root, f"{monitor}/power1_max"),
        power_default_w=_watts(root, f"{monitor}/power1_rated_max"),
        sm_clock_mhz=read_int(root, f"{clock}/{names[0]}"),
        max_sm_clock_mhz=read_int(root, f"{clock}/{names[1]}"),
        throttle_reasons=_throttle(root, f"{clock}/throttle" if device.driver.value == "xe" else f"{clock}/gt/gt0"),
    )


def _throttle(root: Root, where: str) -> tuple[str, ...]:
    """Names of the reasons whose file says 1: xe has reason_NAME, i915 throttle_reason_NAME."""
    reasons: list[str] = []
    for name in root.listdir(where):
        short = name.removeprefix("throttle_").removeprefix("reason_")
        if "reason_" in name and short != "status" and root.read(f"{where}/{name}").value == "1":
            reasons.append(short)
    return tuple(reasons)


def _watts(root: Root, where: str) -> Reading[float]:
    reading = read_int(root, where)
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, where, reading.text)
    return known(reading.value / 1e6, where)  # microwatts
