"""NVIDIA accelerators from the answers of NVML, and those that NVML does not know from the PCI tree.

A device on the bus that NVML does not list is the fact that matters: no driver, a driver of the wrong flavour, a device
given to a virtual machine, or one that has fallen off. Its facts are unknown, and their text says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.accel.nvml import FORMAT, RECORDED
from bedplate.host.kernel.kernel import NVIDIA_VERSION
from bedplate.host.kernel.pcitree import parse_address
from bedplate.host.root.jsontext import parse_json
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

VENDOR = 0x10DE
T = TypeVar("T")

# Bits of nvmlClocksEventReasons, named as `nvidia-smi --query-gpu=clocks_event_reasons.NAME` does; bit 0 is idle.
REASONS = {
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}
_COMPUTE = {0: "Default", 1: "Exclusive_Thread", 2: "Prohibited", 3: "Exclusive_Process"}
_FABRIC = {0: "N/A", 1: "Not Started", 2: "In Progress", 3: "Completed"}
_ANCESTOR = {0: "INT", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_LIBRARIES = (
    *("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64"),
    *("/run/opengl-driver/lib", "/home/kubernetes/bin/nvidia/lib64"),
)
_LIBRARY = re.compile(r"libnvidia-ml\.so\.(\d{2,4}\.\d[\d.]{0,12})", re.ASCII)
_ABSENT = (3, 13, 26, 6)  # not supported, no such function, deprecated, not found
_DENIED = 4


def parse_nvml(text: str) -> tuple[tuple[Accelerator, ...], str]:
    """(accelerators by NVML's index, why there are none or ""), from the document that host/accel/nvml.py makes.

    Raises ReadError when the text is not such a document.
    """
    document = parse_json(text, f"{RECORDED}:")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ReadError(f"{RECORDED}: is not a document of format {FORMAT}")
    if isinstance(document.get("missing"), str):
        return (), document["missing"]
    devices = document.get("devices")
    if not isinstance(devices, list) or not all(isinstance(device, dict) for device in devices):
        raise ReadError(f"{RECORDED}: devices: is not a list of objects")
    peers = _peers(document.get("pairs"))
    found = tuple(_accelerator(document, device, index, peers.get(index, ())) for index, device in enumerate(devices))
    return found, "" if found else "NVML answers and lists no device"


def _accelerator(
    document: dict[str, Any], device: dict[str, Any], index: int, peers: tuple[tuple[int, str], ...]
) -> Accelerator:
    def ask(call: str, convert: Callable[[Any], T], answers: dict[str, Any] = device) -> Reading[T]:
        return _reading(answers.get(call), f"nvml:{call}({index})", convert)

    def watts(value: Any) -> float:
        return int(value) / 1000  # NVML answers in milliwatts

    lost = _reading(device.get("handle"), f"nvml:DeviceGetHandleByIndex({index})", int)
    blank = make_accelerator(
        vendor="nvidia",
        index=index,
        name=ask("Name", str).value or "",
        address=parse_address(ask("PciInfo", str).value or ""),
        why=lost.unknown if "handle" in device and lost.unknown is not None else Unknown.ABSENT,
        source=lost.source if "handle" in device else f"nvml:({index})",
        text=lost.text if "handle" in device else "",
    )
    if "handle" in device:
        return blank
    reasons = ask("CurrentClocksEventReasons", int).value or 0
    links = ask("NvLinkState", lambda value: [int(count) for count in value])
    return replace(
        blank,
        uuid=ask("UUID", str).value or "",
        memory_bytes=ask("MemoryInfo", int),
        driver_version=_reading(document.get("driver"), "nvml:SystemGetDriverVersion", str),
        library_version=_reading(document.get("library"), "nvml:SystemGetNVMLVersion", _library),
        persistence=ask("PersistenceMode", bool),
        compute_mode=ask("ComputeMode", lambda value: _COMPUTE.get(int(value), str(value))),
        ecc=ask("EccMode", bool),
        ecc_uncorrected=ask("TotalEccErrors", int),
        mig=ask("MigMode", bool),
        power_limit_w=ask("EnforcedPowerLimit", watts),
        power_default_w=ask("PowerManagementDefaultLimit", watts),
        power_draw_w=ask("PowerUsage", watts),
        sm_clock_mhz=ask("ClockInfo", int),
        max_sm_clock_mhz=ask("MaxClockInfo", int),
        throttle_reasons=tuple(name for bit, name in REASONS.items() if reasons & bit),
        utilization_pct=ask("UtilizationRates", float),
        temperature_c=ask("Temperature", float),
        fabric_state=ask("GpuFabricInfo", lambda value: _FABRIC.get(int(value), str(value))),
        nvlinks_active=_map(links, sum),
        nvlinks_total=_map(links, len),
        confidential=_reading(document.get("confidential"), "nvml:SystemGetConfComputeState", bool),
        processes=_processes(device),
        peers=peers,
        mig_pending=ask("MigModePending", bool),
        mig_bytes=ask("MigInstances", lambda value: tuple(int(size) for size in value)),
        rows_pending=_pending(ask("RemappedRows", lambda value: bool(value[2])), ask("RetiredPagesPending", bool)),
        rows_failed=ask("RemappedRows", lambda value: bool(value[3])),
        rows_uncorrectable=ask("RemappedRows", lambda value: int(value[1])),
    )


def _pending(rows: Reading[bool], pages: Reading[bool]) -> Reading[bool]:
    """Rows of Ampere and later, pages of older GPUs: a GPU has one of the two."""
    return pages if rows.value is None and pages.value is not None else rows


def _reading(answer: Any, source: str, convert: Callable[[Any], T]) -> Reading[T]:
    if not isinstance(answer, dict):
        return missing(Unknown.NOT_RECORDED, source)
    if answer.get("value") is None:
        code, text = answer.get("error"), str(answer.get("text", ""))[:200]
        if code in _ABSENT:
            return missing(Unknown.ABSENT, source, text)
        return missing(Unknown.DENIED if code == _DENIED else Unknown.MALFORMED, source, text)
    try:
        return known(convert(answer["value"]), source)
    except (TypeError, ValueError, OverflowError, LookupError):
        return missing(Unknown.MALFORMED, source, str(answer["value"])[:80])


def _library(value: Any) -> str:
    """NVML's version without the CUDA version before it, which makes it the driver's: "13.590.48.01" -> "590.48.01"."""
    first, _, rest = str(value).partition(".")
    return (
        rest if len(first) <= 2 and rest.partition(".")[0].isdecimal() and len(rest.partition(".")[0]) == 3 else str(value)
    )


def _map(reading: Reading[list[int]], convert: Callable[[list[int]], int]) -> Reading[int]:
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, reading.source, reading.text)
    return known(convert(reading.value), reading.source)


def _processes(device: dict[str, Any]) -> tuple[tuple[int, str, int], ...]:
    answer = device.get("ComputeRunningProcesses")
    rows = answer.get("value") if isinstance(answer, dict) else None
    found: list[tuple[int, str, int]] = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("pid"), int) and isinstance(row.get("bytes"), int):
            found.append((row["pid"], str(row.get("name", "")), row["bytes"]))
    return tuple(sorted(found))


def _peers(pairs: Any) -> dict[int, tuple[tuple[int, str], ...]]:
    """(other, how they meet) by index: NVLink where both may use it, else what `topo -m` prints."""
    peers: dict[int, list[tuple[int, str]]] = {}
    for pair in pairs if isinstance(pairs, list) else ():
        if not isinstance(pair, dict) or not isinstance(pair.get("a"), int) or not isinstance(pair.get("b"), int):
            continue
        linked = _reading(pair.get("P2PStatus"), "nvml:DeviceGetP2PStatus", int).value == 0
        ancestor = _reading(pair.get("TopologyCommonAncestor"), "nvml:DeviceGetTopologyCommonAncestor", int).value
        how = "NVLink" if linked else _ANCESTOR.get(ancestor, "") if ancestor is not None else ""
        if how:
            peers.setdefault(pair["a"], []).append((pair["b"], how))
            peers.setdefault(pair["b"], []).append((pair["a"], how))
    return {index: tuple(sorted(others)) for index, others in peers.items()}


def read_nvidia(root: Root, pci: Sequence[PciDevice], nvml: str | None) -> tuple[Accelerator, ...]:
    """NVIDIA accelerators of NVML's document (None: nobody asked), then those of `pci` that it does not have."""
    listed, why_none = parse_nvml(nvml) if nvml is not None else ((), "NVML was not asked")
    here = {accelerator.address for accelerator in listed}
    reason = Unknown.ABSENT if nvml is not None else Unknown.NOT_RECORDED
    driver, library = read_driver_version(root), read_library_version(root)
    found = [
        replace(accelerator, library_version=library) if library.value is not None else accelerator for accelerator in listed
    ]
    # A device that is lost has an index and no address: it is one of those that only the bus still lists.
    lost = [place for place, accelerator in enumerate(found) if accelerator.address is None]
    for device in pci:
        if device.address in here:
            continue
        if lost:
            place = lost.pop(0)
            found[place] = replace(found[place], name=_name_of(root, device), address=device.address, driver_version=driver)
            continue
        blank = make_accelerator(
            vendor="nvidia",
            index=len(found),
            name=_name_of(root, device),
            address=device.address,
            why=reason,
            source=RECORDED if nvml is not None else f"nvml:({device.address})",
            text=why_none or f"NVML does not list the device; its driver is {device.driver.value or 'none'}",
        )
        found.append(replace(blank, driver_version=driver, library_version=library))
    return tuple(found)


def read_driver_version(root: Root) -> Reading[str]:
    """Version of the kernel module that is loaded: "590.48.01"."""
    reading = root.read("/sys/module/nvidia/version")
    if reading.value is None:
        told = root.read("/proc/driver/nvidia/version")
        match = NVIDIA_VERSION.search(told.value or "")
        if match is not None:
            return known(match[1], told.source, match[0])
    return reading


def read_library_version(root: Root) -> Reading[str]:
    """Version of the user-space library that programs load next, by its file: "libnvidia-ml.so.590.48.01".

    It is another than the module's after an update and before the restart, when new programs fail.
    """
    for directory in _LIBRARIES:
        where = f"{directory}/libnvidia-ml.so.1"
        match = _LIBRARY.fullmatch(root.end_of_links(where).rsplit("/", 1)[-1])  # through Debian's alternatives, too
        if match is not None:
            return known(match[1], where, match[0])
    return missing(root.absent, f"{_LIBRARIES[0]}/libnvidia-ml.so.1")


def _name_of(root: Root, device: PciDevice) -> str:
    """The driver's own name of the device, else that of the PCI register."""
    text = root.read(f"/proc/driver/nvidia/gpus/{device.address}/information").value or ""
    for line in text.splitlines():
        if line.startswith("Model:"):
            return line.partition(":")[2].strip()
    return device.name
