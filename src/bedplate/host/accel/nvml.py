"""NVIDIA's management library, asked once: every answer or error as plain data that a recording keeps as JSON.

Needs nvidia-ml-py (`pynvml`), which bedplate does not require: without it, without the library of the driver or without a
driver the document says so. Nothing is set or changed; a call that this driver does not have is an error in the document
like any other. Source: NVML API Reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

RECORDED = "/vendor/nvml.json"
FORMAT = 1
_LINKS = 36  # NVML_NVLINK_MAX_LINKS
_SM = 1  # NVML_CLOCK_SM
_P2P_NVLINK = 2  # NVML_P2P_CAPS_INDEX_NVLINK
_NOT_SUPPORTED, _INVALID, _NO_FUNCTION, _NOT_FOUND = 3, 2, 13, 6
_DEVICES_MOST = 64

Answer = dict[str, Any]
"""{"value": ...} or {"error": number of nvmlReturn_t, "text": its words}."""


def query_nvml() -> dict[str, Any]:
    """The document: {"format": 1, "library": ..., "driver": ..., "devices": [...]}, or {"format": 1, "missing": why}."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return {"format": FORMAT, "missing": "nvidia-ml-py is not installed"}
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return {"format": FORMAT, "missing": f"nvmlInit: {error}", "error": error.value}
    try:
        return _query(nvml)
    finally:
        nvml.nvmlShutdown()


def render_nvml(document: dict[str, Any]) -> str:
    """The JSON text that a recording keeps: keys sorted, so that two readings of the same state are the same text."""
    return json.dumps(document, sort_keys=True, indent=1)


def _query(nvml: Any) -> dict[str, Any]:
    def ask(call: Callable[[], Any]) -> Answer:
        try:
            return {"value": call()}
        except nvml.NVMLError as error:
            return {"error": error.value, "text": str(error)}
        except AttributeError:  # an older nvidia-ml-py
            return {"error": _NO_FUNCTION, "text": "nvidia-ml-py does not have the call"}

    count = ask(nvml.nvmlDeviceGetCount)
    indexes = range(min(count.get("value", 0), _DEVICES_MOST))
    handles = [ask(partial(nvml.nvmlDeviceGetHandleByIndex, index)) for index in indexes]
    return {
        "format": FORMAT,
        "library": ask(lambda: _text(nvml.nvmlSystemGetNVMLVersion())),
        "driver": ask(lambda: _text(nvml.nvmlSystemGetDriverVersion())),
        "confidential": ask(lambda: nvml.nvmlSystemGetConfComputeState().ccFeature),
        "count": count,
        "devices": [_device(nvml, ask, handle["value"]) if "value" in handle else {"handle": handle} for handle in handles],
        "pairs": [
            {"a": a, "b": b, **_pair(nvml, ask, handles[a]["value"], handles[b]["value"])}
            for a in range(len(handles))
            for b in range(a + 1, len(handles))
            if "value" in handles[a] and "value" in handles[b]
        ],
    }


def _device(nvml: Any, ask: Callable[[Callable[[], Any]], Answer], handle: Any) -> dict[str, Any]:
    return {
        "Name": ask(lambda: _text(nvml.nvmlDeviceGetName(handle))),
        "PciInfo": ask(lambda: _text(nvml.nvmlDeviceGetPciInfo(handle).busId)),
        "UUID": ask(lambda: _text(nvml.nvmlDeviceGetUUID(handle))),
        "MemoryInfo": ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
        "PersistenceMode": ask(lambda: nvml.nvmlDeviceGetPersistenceMode(handle)),
        "ComputeMode": ask(lambda: nvml.nvmlDeviceGetComputeMode(handle)),
        "EccMode": ask(lambda: nvml.nvmlDeviceGetEccMode(handle)[0]),
        "TotalEccErrors": ask(lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, 1, 0)),  # uncorrected, volatile
        "MigMode": ask(lambda: nvml.nvmlDeviceGetMigMode(handle)[0]),
        "MigModePending": ask(lambda: nvml.nvmlDeviceGetMigMode(handle)[1]),
        "RemappedRows": ask(lambda: [int(count) for count in nvml.nvmlDeviceGetRemappedRows(handle)]),
        "RetiredPagesPending": ask(lambda: int(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))),
        "MigInstances": ask(lambda: _instances(nvml, handle)),
        "EnforcedPowerLimit": ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
        "PowerManagementDefaultLimit": ask(lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)),
        "PowerUsage": ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle)),
        "ClockInfo": ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, _SM)),
        "MaxClockInfo": ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, _SM)),
        "CurrentClocksEventReasons": ask(lambda: _reasons(nvml, handle)),
        "UtilizationRates": ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "Temperature": ask(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
        "GpuFabricInfo": ask(lambda: _fabric(nvml, handle)),
        "NvLinkState": ask(lambda: _links(nvml, handle)),
        "ComputeRunningProcesses": ask(lambda: _processes(nvml, handle)),
    }


def _pair(nvml: Any, ask: Callable[[Callable[[], Any]], Answer], a: Any, b: Any) -> dict[str, Any]:
    return {
        "TopologyCommonAncestor": ask(lambda: nvml.nvmlDeviceGetTopologyCommonAncestor(a, b)),
        "P2PStatus": ask(lambda: nvml.nvmlDeviceGetP2PStatus(a, b, _P2P_NVLINK)),
    }


def _text(value: Any) -> str:
    """Older releases of nvidia-ml-py answer bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _reasons(nvml: Any, handle: Any) -> int:
    newer = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    try:
        if newer is not None:
            return int(newer(handle))
    except nvml.NVMLError as error:
        if error.value != _NO_FUNCTION:  # drivers before 535 have the other name
            raise
    return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _fabric(nvml: Any, handle: Any) -> int:
    import ctypes  # a quarter of the time of loading this file, which hosts without a driver load too

    info = nvml.c_nvmlGpuFabricInfo_t()
    nvml.nvmlDeviceGetGpuFabricInfo(handle, ctypes.byref(info))
    return int(info.state)


def _links(nvml: Any, handle: Any) -> list[int]:
    """1 or 0 for each NVLink that the device has; [] when it has none."""
    states: list[int] = []
    for link in range(_LINKS):
        try:
            states.append(int(nvml.nvmlDeviceGetNvLinkState(handle, link)))
        except nvml.NVMLError as error:
            if error.value in (_NOT_SUPPORTED, _INVALID):
                break
            raise
    return states


def _instances(nvml: Any, handle: Any) -> list[int]:
    """Bytes of memory of each MIG instance; [] when none was made. Asked only where MIG is enabled."""
    if nvml.nvmlDeviceGetMigMode(handle)[0] != 1:
        raise nvml.NVMLError(_NOT_SUPPORTED)
    sizes: list[int] = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError as error:
            if error.value == _NOT_FOUND:
                continue
            raise
        sizes.append(int(nvml.nvmlDeviceGetMemoryInfo(instance).total))
    return sizes


def _processes(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
        try:
            name = _text(nvml.nvmlSystemGetProcessName(process.pid))
        except nvml.NVMLError:  # it has ended, or it is in another namespace
            name = ""
        found.append({"pid": int(process.pid), "name": name, "bytes": int(process.usedGpuMemory or 0)})
    return found
