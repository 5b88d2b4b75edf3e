"""The parsers that take text or bytes of strangers, by name: for the fuzzer, and to replay what it kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial

from bedplate.host.accel.nvidia import parse_nvml
from bedplate.host.accel.nvidia_smi import parse_nvidia_smi, parse_nvidia_smi_pci
from bedplate.host.accel.rocm_smi import parse_rocm_smi, parse_rocm_smi_pci
from bedplate.host.cpus import parse_cpu_list, parse_cpu_mask
from bedplate.host.foreign import recognise
from bedplate.host.hwlocxml import parse_hwloc
from bedplate.host.lsblk import parse_lsblk
from bedplate.host.lspci import parse_lspci
from bedplate.host.nccl import parse_nccl
from bedplate.host.pciconfig import parse_config
from bedplate.host.recording import decompress
from bedplate.host.tar import read_tar, read_ttar

Parser = Callable[[bytes], object]


def _text(parse: Callable[[str], object], data: bytes) -> object:
    return parse(data.decode("utf-8", errors="replace"))


def _unpack(data: bytes) -> int:
    return sum(len(chunk) for chunk in decompress(io.BytesIO(data)))


def _members(read: Callable[[Callable[[int], bytes]], Iterator[object]], data: bytes) -> int:
    return sum(1 for _ in read(io.BytesIO(data).read))


PARSERS: dict[str, Parser] = {
    "lspci": partial(_text, parse_lspci),
    "nvidia-smi": partial(_text, parse_nvidia_smi),
    "nvidia-smi-pci": partial(_text, parse_nvidia_smi_pci),
    "nvml": partial(_text, parse_nvml),
    "rocm-smi": partial(_text, parse_rocm_smi),
    "rocm-smi-pci": partial(_text, parse_rocm_smi_pci),
    "lsblk": partial(_text, parse_lsblk),
    "nccl": partial(_text, parse_nccl),
    "hwloc": partial(_text, parse_hwloc),
    "cpu-list": partial(_text, parse_cpu_list),
    "cpu-mask": partial(_text, parse_cpu_mask),
    "recognise": partial(_text, recognise),
    "pci-config": parse_config,
    "unpack": _unpack,
    "tar": partial(_members, read_tar),
    "ttar": partial(_members, read_ttar),
}
NAMES = tuple(PARSERS)
