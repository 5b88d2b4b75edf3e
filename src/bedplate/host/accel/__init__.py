"""Accelerators of a machine: by the vendor's library where it was asked, by /sys, and at least by their place on the bus."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.errors import ReadError
from bedplate.host.accel.amd import VENDOR as AMD
from bedplate.host.accel.amd import read_amd
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.accel.intel import VENDOR as INTEL
from bedplate.host.accel.intel import read_intel
from bedplate.host.accel.nvidia import VENDOR as NVIDIA
from bedplate.host.accel.nvidia import read_nvidia
from bedplate.host.accel.nvml import FORMAT, query_nvml, render_nvml
from bedplate.host.accel.nvml import RECORDED as NVML
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pci import DEVICES
from bedplate.host.kernel.pciids import RECORDED as NAMES
from bedplate.host.kernel.pciids import REGISTERS, excerpt
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Unknown

_DISPLAY = {0x0300, 0x0302, 0x0380}
_PROCESSING = 0x12
ACCELERATORS_LIMIT = 1024  # of one machine; 16 GPUs of 32 virtual functions each, which count too, are half of that
# Display adapters that compute nothing: those of management controllers and of hypervisors.
_SCREENS = {
    *(0x1A03, 0x102B),  # ASPEED, Matrox
    *(0x1234, 0x1B36, 0x1AF4, 0x15AD, 0x1414, 0x1013, 0x80EE, 0x1AB8),  # Bochs, QXL, virtio, VMware, Hyper-V, Cirrus, ...
}


def is_accelerator(device: PciDevice) -> bool:
    """Whether a PCI device computes: a 3D or display controller of a vendor that makes them, or a processing accelerator."""
    code = device.class_code >> 8
    if code >> 8 == _PROCESSING:
        return True
    return code in _DISPLAY and device.vendor not in _SCREENS and device.vendor != 0


def read_accelerators(root: Root, pci: Sequence[PciDevice]) -> tuple[Accelerator, ...]:
    """Accelerators: NVIDIA's, AMD's, Intel's, then others by PCI address; () on a machine without.

    NVML is asked on the running machine only, where NVIDIA's driver is there; a recording holds its answers.
    Raises ReadError when a recorded answer is malformed, and for more than ACCELERATORS_LIMIT of them.
    """
    by_vendor: dict[int, list[PciDevice]] = {}
    for device in pci:
        if is_accelerator(device):
            by_vendor.setdefault(device.vendor, []).append(device)
    check_count(sum(map(len, by_vendor.values())))
    nvidia = by_vendor.pop(NVIDIA, [])
    found = [*read_nvidia(root, nvidia, _nvml_document(root))] if nvidia or root.exists(NVML) else []
    found += read_amd(root, by_vendor.pop(AMD, []))
    found += read_intel(root, by_vendor.pop(INTEL, []))
    for vendor, devices in sorted(by_vendor.items()):
        found += (_other(device, vendor, index) for index, device in enumerate(devices))
    check_count(len(found))  # NVML may list some that are not on the bus
    return tuple(found)


def check_count(count: int) -> None:
    """Raise ReadError for more than ACCELERATORS_LIMIT: checks compare accelerators in pairs, so time grows as a square."""
    if count > ACCELERATORS_LIMIT:
        raise ReadError(
            f"the machine has {count} accelerators, at most {ACCELERATORS_LIMIT} are read",
            hint="Remove the devices of other machines from the text or the recording.",
        )


def find_accelerators(pci: Sequence[PciDevice]) -> tuple[Accelerator, ...]:
    """Accelerators of a listing of PCI devices alone: their places and the driver, nothing of their state.

    Raises ReadError for more than ACCELERATORS_LIMIT of them.
    """
    found: list[Accelerator] = []
    counts: dict[str, int] = {}
    makers = {NVIDIA: "nvidia", AMD: "amd", INTEL: "intel"}
    devices = [device for device in pci if is_accelerator(device)]
    check_count(len(devices))
    for device in devices:
        vendor = makers.get(device.vendor, f"{device.vendor:04x}")
        index = counts[vendor] = counts.get(vendor, -1) + 1
        found.append(
            make_accelerator(
                vendor=vendor,
                index=index,
                name=device.name,
                address=device.address,
                why=Unknown.NOT_RECORDED,
                source=device.driver.source,
            )
        )
    return tuple(found)


def record_vendor(root: Root) -> dict[str, bytes]:
    """What a recording of this machine must hold besides the files that the readers read: path -> bytes.

    The answers of NVML, and the lines of pci.ids that name the devices here. From a recording, what it holds.
    """
    files: dict[str, bytes] = {}
    for where in (NVML, NAMES):
        data = root.read_bytes(where).value
        if data is not None:
            files[where] = data
    if root.is_live:
        files.setdefault(NVML, _ask_nvml(root).encode())
        if NAMES not in files:
            files |= _names(root)
    return files


def _nvml_document(root: Root) -> str | None:
    reading = root.read(NVML)
    if reading.unknown is Unknown.MALFORMED:
        raise ReadError(f"{NVML}: {reading.text}")
    if reading.value is None and root.is_live:
        return _ask_nvml(root)
    return reading.value


def _ask_nvml(root: Root) -> str:
    """NVML's answers. It is not woken without a driver: its start may load one, and reading changes nothing."""
    if root.exists("/proc/driver/nvidia/version") or root.exists("/dev/nvidiactl"):
        return render_nvml(query_nvml())
    return render_nvml({"format": FORMAT, "missing": "no NVIDIA driver is loaded"})


def _names(root: Root) -> dict[str, bytes]:
    wanted: set[tuple[int, int]] = set()
    for name in root.listdir(DEVICES):
        vendor, device = (parse_int(root.read(f"{DEVICES}/{name}/{file}").value or "") for file in ("vendor", "device"))
        if vendor is not None and device is not None:
            wanted.add((vendor, device))
    for where in REGISTERS:
        data = root.read_bytes(where).value
        if data is not None:
            return {NAMES: excerpt(data, wanted)}
    return {}


def _other(device: PciDevice, vendor: int, index: int) -> Accelerator:
    return make_accelerator(
        vendor=f"{vendor:04x}",
        index=index,
        name=device.name,
        address=device.address,
        why=Unknown.ABSENT,
        source=f"{DEVICES}/{device.address}",
        text="no reader for this vendor",
    )
