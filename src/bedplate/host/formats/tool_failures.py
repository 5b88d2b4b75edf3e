"""What tools of NVIDIA and frameworks print when they fail: each kind of error, by its words.

Sources: nvmlErrorString of the NVML API Reference; nvidia-smi's own messages; CUDA Runtime API, cudaError.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import parse_address
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.system import FailureKind, ToolFailure

BEGINS = re.compile(
    r"(?:NVIDIA-SMI (?:has failed because it )?couldn't |No devices were found|Failed to initialize NVML: "
    r"|Unable to determine the device handle for |NVML library version: |Driver/library version mismatch"
    r"|.{0,200}(?:No CUDA GPUs are available|no CUDA-capable device is detected|system not yet initialized))"
)
CONTINUES = re.compile(
    r"Make sure that the latest NVIDIA driver|Please also try adding directory|NVML library version: |Reboot the system"
)
_HANDLE = re.compile(r"for (?:GPU|gpu )? ?([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]): ?(.{0,80})", re.ASCII)
_LIBRARY = re.compile(r"NVML library version: {0,4}(\d{1,4}\.[\d.]{1,16})", re.ASCII)
_KINDS = (
    ("version mismatch", FailureKind.VERSION_MISMATCH),
    ("couldn't communicate with the NVIDIA driver", FailureKind.NO_DRIVER),
    ("Driver Not Loaded", FailureKind.NO_DRIVER),
    ("couldn't find libnvidia-ml", FailureKind.NO_LIBRARY),
    ("NVML Shared Library Not Found", FailureKind.NO_LIBRARY),
    ("No devices were found", FailureKind.NO_DEVICES),
    ("No CUDA GPUs are available", FailureKind.NO_DEVICES),
    ("no CUDA-capable device is detected", FailureKind.NO_DEVICES),
    ("system not yet initialized", FailureKind.FABRIC),
    ("Failed to initialize NVML: Unknown Error", FailureKind.CONTAINER),
    ("Failed to initialize NVML: Insufficient Permissions", FailureKind.CONTAINER),
    ("Unable to determine the device handle", FailureKind.DEVICE_LOST),
)
_OF_CUDA = ("No CUDA GPUs are available", "no CUDA-capable device is detected", "system not yet initialized")
_SHOWN = 200


def find_cuda_failure(line: str) -> ToolFailure | None:
    """The error of CUDA in a line of an engine's log, None where it has none; of a long line its end is kept."""
    words = next((words for words in _OF_CUDA if words in line), None)
    if words is None:
        return None
    return ToolFailure(kind=dict(_KINDS)[words], text=line.strip()[-_SHOWN:], source="CUDA")


def parse_tool_failures(section: Section) -> HostFacts:
    """The errors of a section, each once."""
    library = _LIBRARY.search(section.text)
    found: dict[ToolFailure, None] = {}
    for line in section.text.split("\n"):
        kind = next((kind for words, kind in _KINDS if words in line), None)
        if kind is None:
            continue
        handle = _HANDLE.search(line)
        tool = "CUDA" if "CUDA" in line or "system not yet" in line else "nvidia-smi"
        failure = ToolFailure(
            kind=kind,
            text=line.strip()[:_SHOWN],
            source=tool,
            address=parse_address(handle[1]) if handle is not None else None,
            version=library[1] if library is not None and kind is FailureKind.VERSION_MISMATCH else "",
        )
        found[failure] = None
    return replace(empty_facts(section.file), failures=tuple(found))
