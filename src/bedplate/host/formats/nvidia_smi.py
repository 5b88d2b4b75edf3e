"""NVIDIA accelerators from what `nvidia-smi` prints: `-q` as text, `-q -x` as XML, `nvlink -s`, or a file with several of
them.

Both forms have one tree of titles and values; the table FIELDS names a value's place in each. "N/A" is a value that this
device does not have. Titles changed over the years ("Clocks Throttle Reasons" became "Clocks Event Reasons" with driver
535).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.accel.nvidia import REASONS, VENDOR
from bedplate.host.formats.smi_values import SMI_NUMBER, parse_smi_number, parse_smi_switch
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.host.root.xmlfile import Element, parse_xml
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import NOT_ASKED, Reading, Unknown, known, missing

T = TypeVar("T")
Values = Mapping[str, str]
"""Path of titles -> value: "ECC Mode/Current" -> "Enabled"."""

LOG = "NVSMI LOG"
MIG_DEVICE = "MIG Device"
_DEVICES_MOST = 256
VALUES_MOST = 150_000  # of all devices; nvidia-smi prints some 300 a device
_DEVICE_VALUES_MOST = 4096  # a bug report has other text behind the last device, which is not read as its values for ever
_LEVELS_MOST = 8  # titles of a path; the deepest of nvidia-smi have six
_TITLE_MOST = 64  # characters, which is also what a path takes eight times: the longest of nvidia-smi have some 40
_VALUE_MOST = 4096  # characters; the command line of a process is the longest
_PLAIN = ("N/A", "[N/A]", "", "Requested functionality has been deprecated", "Insufficient Permissions")
_GPU = re.compile(r"GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])", re.ASCII)
_NVLINK_GPU = re.compile(r"GPU (\d{1,3}): (.{1,80}?) \(UUID: (\S{1,60})\)", re.ASCII)
_NVLINK = re.compile(r"\s+Link \d{1,2}: (\S.{0,60})")
# The tool and the library come in one package; of the library only the first two numbers are printed ("NVML version :
# 590.48").
_VERSION = re.compile(r"NVIDIA-SMI version {0,10}: (\S{1,20})", re.ASCII)
_MIB = 1 << 20
# What NVML answers for a device that is gone (NVML API Reference, nvmlReturn_t), as nvidia-smi prints it.
LOST = (
    "GPU is lost",
    "GPU requires reset",
    "[GPU is lost]",
    "[GPU requires reset]",
    "GPU access blocked by the operating system",
)
UNKNOWN_ERRORS = ("Unknown Error", "[Unknown Error]", "ERR!")
ERRORS = frozenset((*LOST, *UNKNOWN_ERRORS))
_UNKNOWN_MANY = 3  # some drivers print "Unknown Error" for one value that a healthy card lacks
_COUNTERS = {
    "SW Power Capping": "sw_power_cap",
    "Sync Boost": "sync_boost",
    "SW Thermal Slowdown": "sw_thermal_slowdown",
    "HW Thermal Slowdown": "hw_thermal_slowdown",
    "HW Power Braking": "hw_power_brake_slowdown",
    "sw_power_cap": "sw_power_cap",
    "sync_boost": "sync_boost",
    "sw_therm_slowdown": "sw_thermal_slowdown",
    "hw_therm_slowdown": "hw_thermal_slowdown",
    "hw_power_brake": "hw_power_brake_slowdown",
}


def parse_nvidia_smi(text: str) -> tuple[Accelerator, ...]:
    """Accelerators in the order of the listing. A capture that holds several logs gives the state of the last one.

    Raises ReadError when no device is described: "no devices were found" is an error too, and says so.
    """
    links = _parse_nvlinks(text)
    if links and LOG not in text:
        return tuple(_only_links(index, links[index]) for index in sorted(links))
    version = _VERSION.search(text)
    devices, common = _load(text)
    found = [_accelerator(values, common, index) for index, values in enumerate(devices)]
    if version is not None:
        found = [replace(accelerator, library_version=known(version[1], "nvidia-smi --version")) for accelerator in found]
    return tuple(_with_links(accelerator, links.get(accelerator.index)) for accelerator in found)


def parse_smi_list(text: str) -> tuple[Accelerator, ...]:
    """Accelerators of `nvidia-smi -L` or `nvlink -s`: name and UUID, and the links where they are listed.

    Raises ReadError for a text without a line of a GPU.
    """
    links = _parse_nvlinks(text)
    found: dict[int, Accelerator] = {}
    for line in _lines(text):
        match = _NVLINK_GPU.match(line)
        if match is not None and int(match[1]) not in found and len(found) < _DEVICES_MOST:
            blank = make_accelerator(
                vendor="nvidia",
                index=int(match[1]),
                name=match[2],
                address=None,
                why=Unknown.NOT_RECORDED,
                source="nvidia-smi -L",
            )
            found[int(match[1])] = _with_links(replace(blank, uuid=match[3]), links.get(int(match[1])))
    if not found:
        raise ReadError('the text has no line "GPU 0: NAME (UUID: ...)"')
    return tuple(found[index] for index in sorted(found))


def parse_smi_version(text: str) -> str:
    """Version of the user-space library by `nvidia-smi --version`, which comes in one package with it. Raises ReadError."""
    match = _VERSION.search(text)
    if match is None:
        raise ReadError('the text has no line "NVIDIA-SMI version"')
    return match[1]


def parse_nvidia_smi_machine(text: str) -> tuple[Reading[int], Reading[str]]:
    """(accelerators that the driver counts, virtualisation): what a listing says of the machine. Raises ReadError as above.

    "Pass-Through" and "VGPU" are said in a virtual machine; nothing else tells whether it is one.
    """
    if LOG not in text and _parse_nvlinks(text):
        return NOT_ASKED, NOT_ASKED
    devices, common = _load(text)
    source = "nvidia-smi -q"
    attached = _reading(common, source, int, "Attached GPUs", "attached_gpus")
    paths = "GPU Virtualization Mode/Virtualization Mode", "gpu_virtualization_mode/virtualization_mode"
    modes = [mode for values in devices if (mode := _first(values, *paths)) in ("Pass-Through", "VGPU")]
    virtual: Reading[str] = known("virtual machine", f"{source}: {paths[0]}", modes[0] or "") if modes else NOT_ASKED
    return attached, virtual


def parse_nvidia_smi_pci(text: str) -> tuple[PciDevice, ...]:
    """The devices of the listing as PCI devices with their links, without a tree. Raises ReadError as above."""
    if LOG not in text and _parse_nvlinks(text):
        return ()
    found: list[PciDevice] = []
    for values in _load(text)[0]:
        address = _address(values)
        if address is not None:
            number = (_first(values, "PCI/Device Id", "pci/pci_device_id") or "").removeprefix("0x")
            device = make_device(address, class_code=0x030200, source="nvidia-smi -q")
            found.append(
                replace(
                    device,
                    vendor=VENDOR,
                    device=parse_int(f"0x{number[:4]}") or 0,
                    name=_name(values),
                    link=replace(
                        device.link,
                        speed_gts=_generation(values, "Current", "current_link_gen"),
                        width=_width(values, "Current", "current_link_width"),
                        max_speed_gts=_generation(values, "Device Max", "max_device_link_gen")
                        or _generation(values, "Max", "max_link_gen"),
                        max_width=_width(values, "Max", "max_link_width"),
                    ),
                )
            )
    return finish_tree(found)


def _name(values: Values) -> str:
    """The product's name; "" where an error stands in its place."""
    name = _first(values, "Product Name", "product_name") or ""
    return "" if name in ERRORS or name in _PLAIN else name


def _address(values: Values) -> str | None:
    """Where the device is: the head of its block stands for a bus id that could not be read."""
    told = (values.get(path) for path in ("PCI/Bus Id", "pci/pci_bus_id", "Bus"))
    return next((address for text in told if text and (address := parse_address(text)) is not None), None)


def _generation(values: Values, title: str, tag: str) -> float | None:
    link = "pci/pci_gpu_link_info/pcie_gen"
    text = _first(values, f"PCI/GPU Link Info/PCIe Generation/{title}", f"{link}/{tag}") or ""
    return {"1": 2.5, "2": 5.0, "3": 8.0, "4": 16.0, "5": 32.0, "6": 64.0}.get(text)


def _width(values: Values, title: str, tag: str) -> int | None:
    text = _first(values, f"PCI/GPU Link Info/Link Width/{title}", f"pci/pci_gpu_link_info/link_widths/{tag}") or ""
    return parse_int(text.removesuffix("x")) or None


def _load(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """(values of each device, values of all)."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return _parse_xml(text)
    # Without the heading the beginning of the text was cut off, and what is left is read.
    devices, common = _parse_log(text.rpartition(LOG)[2])
    if not devices:
        raise ReadError("the text has no device as `nvidia-smi -q` prints it")
    return devices, common


def _lines(text: str) -> Iterator[str]:
    """One by one: a list of short lines takes fifty times their memory."""
    for line in io.StringIO(text):
        yield line.rstrip("\r\n")


def _parse_log(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """(values of each GPU, values before the first): titles nest by their indentation."""
    devices: list[dict[str, str]] = []
    common: dict[str, str] = {}
    titles: list[tuple[int, str]] = []
    processes = instances = 0
    for line in _lines(text):
        if line.startswith("#"):  # the next section of a capture
            break
        if _GPU.fullmatch(line.strip()) is not None and not line.startswith(" "):
            if len(devices) >= _DEVICES_MOST:
                raise ReadError(f"the text has more than {_DEVICES_MOST} devices")
            _check_values(devices)
            devices.append({"Bus": line.strip()[4:]})
            titles, processes, instances = [], 0, 0
            continue
        indent = len(line) - len(line.lstrip(" "))
        title, colon, value = line.strip().partition(" : ")
        title = title.strip().removesuffix(" :").rstrip()[:_TITLE_MOST]
        if not title:
            continue
        while titles and titles[-1][0] >= indent:
            titles.pop()
        if title == "Process ID":  # the keys of a process repeat: number them
            processes += 1
            title = f"Process {processes}"
        if title == "MIG Device" and not colon:  # one block an instance
            instances += 1
            title = f"{MIG_DEVICE} {instances}"
        titles.append((indent, title))
        if colon:
            _put(devices[-1] if devices else common, [title for _, title in titles[-_LEVELS_MOST:]], value)
    _check_values(devices)
    return devices, common


def _parse_xml(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    log = parse_xml(text)
    if log.tag != "nvidia_smi_log":
        raise ReadError(f"the XML is a {log.tag[:40]}, not a nvidia_smi_log")
    common: dict[str, str] = {}
    for child in log:
        if len(child) == 0:
            _put(common, [child.tag], child.text)
    devices: list[dict[str, str]] = []
    for gpu in log.findall("gpu")[:_DEVICES_MOST]:
        values: dict[str, str] = {"Bus": gpu.get("id", "")}
        _flatten(gpu, [], values)
        devices.append(values)
        _check_values(devices)
    if not devices:
        raise ReadError("the nvidia_smi_log has no gpu")
    return devices, common


def _put(values: dict[str, str], titles: list[str], value: str | None) -> None:
    """Keep a value unless its path has one. All of them are cut: a path repeats its titles, so long ones cost a product."""
    if len(values) < _DEVICE_VALUES_MOST:
        values.setdefault("/".join(titles), (value or "")[:_VALUE_MOST].strip())


def _check_values(devices: list[dict[str, str]]) -> None:
    if (count := sum(map(len, devices))) > VALUES_MOST:
        raise ReadError(f"the text has {count} values, at most {VALUES_MOST} are read")


def _flatten(element: Element, above: list[str], values: dict[str, str]) -> None:
    """Values of what is below an element, by their titles; what is deeper than any of nvidia-smi's is left out."""
    processes = instances = 0
    for child in element:
        if child.tag == "supported_clocks" or len(above) >= _LEVELS_MOST:
            continue
        titles = [*above, child.tag[:_TITLE_MOST]]
        if child.tag == "mig_device":
            instances += 1
            titles = [f"{MIG_DEVICE} {instances}"]
        if child.tag == "process_info":
            processes += 1
            titles = ["Processes", f"Process {processes}"]
            _put(values, titles, child.findtext("pid"))
        elif len(child) == 0:
            _put(values, titles, child.text)
        _flatten(child, titles, values)


def _accelerator(values: Values, common: Values, index: int) -> Accelerator:
    source = "nvidia-smi -q"
    blank = make_accelerator(
        vendor="nvidia",
        index=index,
        name=_name(values),
        address=_address(values),
        why=Unknown.NOT_RECORDED,
        source=source,
    )

    def text(*paths: str) -> Reading[str]:
        return _reading(values, source, str, *paths)

    def number(*paths: str) -> Reading[float]:
        return _reading(values, source, parse_smi_number, *paths)

    def whole(*paths: str) -> Reading[int]:
        return _reading(values, source, lambda value: round(parse_smi_number(value)), *paths)

    def enabled(*paths: str) -> Reading[bool]:
        return _reading(values, source, parse_smi_switch, *paths)

    driver = _first(common, "Driver Version", "driver_version")
    protected = _reading(
        values,
        source,
        lambda value: parse_smi_number(value) > 0,
        "Conf Compute Protected Memory Usage/Total",
        "cc_protected_memory_usage/total",
    )
    return replace(
        blank,
        uuid=_first(values, "GPU UUID", "uuid") or "",
        memory_bytes=_reading(
            values,
            source,
            lambda value: round(parse_smi_number(value)) * _MIB,
            "FB Memory Usage/Total",
            "fb_memory_usage/total",
        ),
        driver_version=known(driver, source) if driver else missing(Unknown.NOT_RECORDED, source),
        persistence=enabled("Persistence Mode", "persistence_mode"),
        compute_mode=text("Compute Mode", "compute_mode"),
        ecc=enabled("ECC Mode/Current", "ecc_mode/current_ecc", "Ecc Mode/Current"),
        ecc_uncorrected=_uncorrected(values, source),
        mig=enabled("MIG Mode/Current", "mig_mode/current_mig"),
        power_limit_w=number(
            "GPU Power Readings/Current Power Limit",
            "gpu_power_readings/current_power_limit",
            "Power Readings/Enforced Power Limit",
            "power_readings/enforced_power_limit",
        ),
        power_default_w=number(
            "GPU Power Readings/Default Power Limit",
            "gpu_power_readings/default_power_limit",
            "Power Readings/Default Power Limit",
            "power_readings/default_power_limit",
        ),
        power_draw_w=number(
            "GPU Power Readings/Average Power Draw",
            "GPU Power Readings/Power Draw",
            "gpu_power_readings/average_power_draw",
            "gpu_power_readings/power_draw",
            "Power Readings/Power Draw",
            "power_readings/power_draw",
        ),
        sm_clock_mhz=whole("Clocks/SM", "clocks/sm_clock"),
        max_sm_clock_mhz=whole("Max Clocks/SM", "max_clocks/sm_clock"),
        throttle_reasons=_reasons(values),
        utilization_pct=number("Utilization/GPU", "Utilization/Gpu", "utilization/gpu_util"),
        temperature_c=number("Temperature/GPU Current Temp", "temperature/gpu_temp"),
        fabric_state=_fabric(values, source),
        confidential=protected,
        processes=_processes(values),
        failure=_failure(values, source),
        **_states(values, source),
    )


def _first(values: Values, *paths: str) -> str | None:
    return next((values[path] for path in paths if path in values), None)


def _reading(values: Values, source: str, convert: Callable[[str], T], *paths: str) -> Reading[T]:
    """The first path that is there. What the device does not have is ABSENT; what needs root is DENIED."""
    for path in paths:
        value = values.get(path)
        if value is None:
            continue
        where = f"{source}: {path}"
        if value in _PLAIN:
            return missing(Unknown.DENIED if value == "Insufficient Permissions" else Unknown.ABSENT, where, value)
        if value in ERRORS:
            return missing(Unknown.MALFORMED, where, value)
        try:
            return known(convert(value), where, value[:80])
        except ValueError:
            return missing(Unknown.MALFORMED, where, value[:80])
    return missing(Unknown.NOT_RECORDED, f"{source}: {paths[0]}")


def _uncorrected(values: Values, source: str) -> Reading[int]:
    """The sum of the uncorrectable counters since the driver was loaded ("Volatile")."""
    counters = {
        path: value
        for path, value in values.items()
        if path.lower().startswith(("ecc errors/volatile/", "ecc_errors/volatile/")) and "uncorrectable" in path.lower()
    }
    counts = [int(value) for value in counters.values() if value.isdecimal() and len(value) < 19]
    if counts:
        return known(sum(counts), f"{source}: ECC Errors/Volatile", f"{len(counts)} counters")
    return missing(Unknown.ABSENT if counters else Unknown.NOT_RECORDED, f"{source}: ECC Errors/Volatile")


def _reasons(values: Values) -> tuple[str, ...]:
    """Active reasons by the names of the query interface: "SW Power Cap" and clocks_event_reason_sw_power_cap are one."""
    active: set[str] = set()
    for path, value in values.items():
        top, _, rest = path.lower().replace(" ", "_").partition("/")
        if value == "Active" and top in ("clocks_event_reasons", "clocks_throttle_reasons"):
            name = rest.rpartition("/")[2].removeprefix("clocks_event_reason_").removeprefix("clocks_throttle_reason_")
            active.add({"display_clock_setting": "display_clocks_setting"}.get(name, name))
    return tuple(name for name in REASONS.values() if name in active)


def _fabric(values: Values, source: str) -> Reading[str]:
    """The state as it is printed; "N/A" is said by a device without NVSwitch fabric and is itself a state."""
    state = _first(values, "Fabric/State", "fabric/state")
    if state is None:
        return missing(Unknown.NOT_RECORDED, f"{source}: Fabric/State")
    if state in ERRORS:
        return missing(Unknown.MALFORMED, f"{source}: Fabric/State", state)
    return known(state, f"{source}: Fabric/State")


def _failure(values: Values, source: str) -> Reading[str]:
    """The error that stands in the place of values, where the device does not answer."""
    found = {value: path for path, value in values.items() if value in ERRORS}
    for error in LOST:
        if error in found:
            return known(error.strip("[]"), f"{source}: {found[error]}")
    errors = [(path, value) for path, value in values.items() if value in UNKNOWN_ERRORS]
    if len(errors) >= _UNKNOWN_MANY or any(
        path in ("Temperature/GPU Current Temp", "temperature/gpu_temp") for path, _ in errors
    ):
        path, value = errors[0]
        return known(value.strip("[]"), f"{source}: {path}")
    return missing(Unknown.ABSENT if len(values) > 1 else Unknown.NOT_RECORDED, source)


def _states(values: Values, source: str) -> dict[str, Any]:
    """Fields of Accelerator that say how the device is: rows of its memory, MIG, what the driver asks for, counters."""

    def yes(*paths: str) -> Reading[bool]:
        return _reading(values, source, _yes, *paths)

    pending = yes("Remapped Rows/Pending", "remapped_rows/remapped_row_pending")
    if pending.value is None:
        older = yes(
            "Retired Pages/Pending Page Blacklist",
            "Retired Pages/Pending",
            "retired_pages/pending_blacklist",
            "retired_pages/pending_retirement",
        )
        pending = older if older.unknown is not Unknown.NOT_RECORDED else pending
    return {
        "rows_pending": pending,
        "rows_failed": yes("Remapped Rows/Remapping Failure Occurred", "remapped_rows/remapped_row_failure"),
        "rows_uncorrectable": _reading(
            values, source, int, "Remapped Rows/Uncorrectable Error", "remapped_rows/remapped_row_unc"
        ),
        "recovery_action": _reading(values, source, str, "GPU Recovery Action", "gpu_recovery_action"),
        "mig_pending": _reading(values, source, parse_smi_switch, "MIG Mode/Pending", "mig_mode/pending_mig"),
        "mig_bytes": _instances(values, source),
        "held_s": _held(values),
    }


def _instances(values: Values, source: str) -> Reading[tuple[int, ...]]:
    """Memory of each MIG instance; () only where the listing goes on behind the mode without any."""
    where = f"{source}: {MIG_DEVICE}"
    sizes: dict[str, int] = {}
    for path, value in values.items():
        head, _, rest = path.partition("/")
        if (
            head.startswith(MIG_DEVICE)
            and rest.lower().replace(" ", "_") in _MIG_TOTALS
            and (size := SMI_NUMBER.match(value))
        ):
            sizes[head] = round(float(size[0])) * _MIB
    if sizes:
        return known(tuple(sizes.values()), where, f"{len(sizes)} instances")
    if any(path.startswith(MIG_DEVICE) for path in values):
        return missing(Unknown.NOT_RECORDED, where)
    paths = list(values)
    modes = [place for place, path in enumerate(paths) if path in ("MIG Mode/Pending", "mig_mode/pending_mig")]
    if modes and len(paths) > modes[-1] + 1:
        return known((), where, "no instance is listed")
    return missing(Unknown.NOT_RECORDED, where)


_MIG_TOTALS = ("shared_fb_memory_usage/total", "fb_memory_usage/total")


def _held(values: Values) -> tuple[tuple[str, float], ...]:
    """Seconds for which each reason held the clock down, of counters in microseconds."""
    found: dict[str, float] = {}
    for path, value in values.items():
        top, _, name = path.partition("/")
        if top.lower().replace(" ", "_") not in ("clocks_event_reasons_counters", "clocks_throttle_reasons_counters"):
            continue
        name = name.removeprefix("clocks_event_reasons_counters_").removeprefix("clocks_throttle_reasons_counters_")
        if name in _COUNTERS and (count := SMI_NUMBER.match(value)) is not None:
            found[_COUNTERS[name]] = float(count[0]) / 1e6
    return tuple(sorted(found.items()))


def _yes(value: str) -> bool:
    if value not in ("Yes", "No"):
        raise ValueError(value)
    return value == "Yes"


def _processes(values: Values) -> tuple[tuple[int, str, int], ...]:
    found: list[tuple[int, str, int]] = []
    for path, value in values.items():
        if re.fullmatch(r"Processes/Process \d+", path) and value.isdecimal() and len(value) < 12:
            name = _first(values, f"{path}/Name", f"{path}/process_name") or ""
            used = SMI_NUMBER.match(_first(values, f"{path}/Used GPU Memory", f"{path}/used_memory") or "")
            found.append((int(value), name, round(float(used[0])) * _MIB if used else 0))
    return tuple(sorted(found))


class _Links:
    """What `nvidia-smi nvlink -s` says of one device."""

    __slots__ = ("active", "name", "total", "uuid")

    def __init__(self, name: str, uuid: str) -> None:
        self.name, self.uuid, self.active, self.total = name, uuid, 0, 0


def _parse_nvlinks(text: str) -> dict[int, _Links]:
    links: dict[int, _Links] = {}
    here: _Links | None = None
    for line in _lines(text):
        if (match := _NVLINK_GPU.match(line)) is not None:
            here = links.setdefault(int(match[1]), _Links(match[2], match[3]))
        elif here is not None and (match := _NVLINK.fullmatch(line)) is not None:
            here.total += 1
            here.active += "inactive" not in match[1]
        elif line.strip():
            here = None
    return {index: links_of_gpu for index, links_of_gpu in links.items() if links_of_gpu.total}


def _with_links(accelerator: Accelerator, links: _Links | None) -> Accelerator:
    if links is None:
        return accelerator
    source = "nvidia-smi nvlink -s"
    return replace(accelerator, nvlinks_active=known(links.active, source), nvlinks_total=known(links.total, source))


def _only_links(index: int, links: _Links) -> Accelerator:
    source = "nvidia-smi nvlink -s"
    blank = make_accelerator(
        vendor="nvidia", index=index, name=links.name, address=None, why=Unknown.NOT_RECORDED, source=source
    )
    return _with_links(replace(blank, uuid=links.uuid), links)
