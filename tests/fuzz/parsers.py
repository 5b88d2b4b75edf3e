"""The parsers that take text or bytes of strangers, by name: for the fuzzer, to replay what it kept, and to be measured.

A new reader of foreign bytes gets a row here, at the end (the first byte of an input of the corpus is its number), and an
input that grows in tests/unit/test_readers.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from bedplate.act.front_stats import parse_stats
from bedplate.catalog.kernel_log import read_kernel_messages
from bedplate.errors import ModelRefused, ReadError
from bedplate.host.accel.nvidia import parse_nvml
from bedplate.host.facts import read_host
from bedplate.host.formats.dcgm import parse_dcgm, parse_dcgm_json
from bedplate.host.formats.foreign import read_text_files
from bedplate.host.formats.hwlocxml import parse_hwloc
from bedplate.host.formats.lsblk import parse_lsblk
from bedplate.host.formats.lspci import parse_lspci
from bedplate.host.formats.nccl import parse_nccl
from bedplate.host.formats.nvidia_smi import parse_nvidia_smi, parse_nvidia_smi_pci
from bedplate.host.formats.python_session import parse_python_session
from bedplate.host.formats.rocm_smi import parse_rocm_smi, parse_rocm_smi_pci
from bedplate.host.formats.section import Section
from bedplate.host.kernel.cgroup import parse_cgroup, parse_counters
from bedplate.host.kernel.cpuinfo import parse_cpuinfo
from bedplate.host.kernel.engines import find_engine, find_models, parse_numa_maps, parse_policy, parse_status
from bedplate.host.kernel.kernel import parse_cmdline
from bedplate.host.kernel.kernel_log import parse_kernel_log
from bedplate.host.kernel.limits import parse_limits, parse_pressure
from bedplate.host.kernel.memory import parse_meminfo
from bedplate.host.kernel.pciconfig import parse_config
from bedplate.host.kernel.pciids import find_names
from bedplate.host.kernel.processes import parse_argv
from bedplate.host.record.kernel_log import redact_message
from bedplate.host.record.record import record_host
from bedplate.host.record.redact import Redactor
from bedplate.host.record.trim import trim
from bedplate.host.root.cpu_lists import parse_cpu_list, parse_cpu_mask
from bedplate.host.root.recording import MemoryTree, decompress, parse_manifest
from bedplate.host.root.tar import read_tar, read_ttar
from bedplate.host.secrets.secrets import hide_secrets, hide_secrets_in
from bedplate.host.stack.installed import StackDepth
from bedplate.host.system.apt_sources import parse_deb822, parse_one_line
from bedplate.host.system.device_speeds import parse_device_speed
from bedplate.host.system.osinfo import parse_os_release
from bedplate.model.facts.reading import Unknown
from bedplate.model.versions import version_key
from bedplate.weights.gguf import parse_gguf_file, whole_model
from bedplate.weights.index import parse_index
from bedplate.weights.safetensors import parse_safetensors

Parser = Callable[[bytes], object]

REFUSALS = (ReadError, ModelRefused)
"""What a reader may raise for what a stranger wrote."""

FILES = (
    *("/proc/meminfo", "/proc/4711/cmdline", "/proc/4711/status", "/proc/4711/numa_maps", "/proc/self/mountinfo"),
    *("/proc/cmdline", "/etc/default/grub", "/etc/apt/apt.conf.d/20auto", "/var/lib/dpkg/status", "/proc/modules"),
    *(
        "/lib/modules/6.1.0/modules.dep",
        "/boot/loader/entries/a.conf",
        "/etc/os-release",
        "/proc/self/cgroup",
        "/etc/passwd",
    ),
    *("/sys/devices/system/cpu/online", "/sys/class/dmi/id/product_name", "/proc/pressure/cpu", "/proc/self/limits"),
    *("/etc/apt/sources.list", "/etc/apt/sources.list.d/a.sources", "/etc/apt/preferences", "/etc/cdi/nvidia.yaml"),
    *("/var/lib/dkms/nvidia/1/build/make.log", "/lib/modules/6.1.0/nvidia.ko", "/usr/local/cuda-13.0/version.json"),
    *("/opt/a/lib/python3.13/site-packages/torch/version.py", "/vendor/stack.json"),
    *("/vendor/nvml.json", "/vendor/pci.ids", "/etc/security/limits.conf", "/etc/systemd/system/a.service.d/b.conf"),
)


def machine(files: dict[str, bytes]) -> MemoryTree:
    """A machine of these files, as an archive gives it."""
    tree = MemoryTree(path=Path("fuzz"), absent=Unknown.NOT_RECORDED, children={"/": set()})
    for where, data in files.items():
        tree.files[where] = data
        path = where
        while path != "/":
            parent, _, name = path.rpartition("/")
            path = parent or "/"
            tree.children.setdefault(path, set()).add(name)
    return tree


def _text(parse: Callable[[str], object], data: bytes) -> object:
    return parse(data.decode("utf-8", errors="replace"))


def _unpack(data: bytes) -> int:
    return sum(len(chunk) for chunk in decompress(io.BytesIO(data)))


def _members(read: Callable[[Callable[[int], bytes]], Iterator[object]], data: bytes) -> int:
    return sum(1 for _ in read(io.BytesIO(data).read))


def _command_line(data: bytes) -> object:
    argv = parse_argv(data)
    return find_engine(argv), find_models(argv), hide_secrets(argv)


def _redact(data: bytes) -> object:
    return Redactor(hosts=("canaryhost7",), users=("canaryalice", "bob")).words(
        data.decode("utf-8", errors="surrogateescape")
    )


def _trim(data: bytes) -> object:
    redactor = Redactor()
    return [trim(where, data, redactor) for where in FILES]


def _file(data: bytes) -> object:
    """One file of a machine: the first byte says which."""
    tree = machine(
        {"/proc/4711/cmdline": b"vllm\0serve\0", "/proc/4711/status": b"Name:\tx\n", FILES[data[0] % len(FILES)]: data[1:]}
    )
    read_host(tree, (), origin="fuzz", config_options=(), stack=StackDepth.DEEP)
    return record_host(tree, (), bedplate="", recorded="")


def _gguf(data: bytes) -> object:
    return whole_model(parse_gguf_file(io.BytesIO(data), "fuzz"), "fuzz")


def _safetensors(data: bytes) -> object:
    return parse_safetensors(io.BytesIO(data), "fuzz")


def _index(text: str) -> object:
    return parse_index(text, "fuzz", [])


def _kernel_log(text: str) -> object:
    redactor = Redactor()
    log = parse_kernel_log(text.splitlines(), read_kernel_messages().rows, source="fuzz")
    return log, [redact_message(line, redactor) for line in text.splitlines()]


def _tables(text: str) -> object:
    """The small tables of /proc and /etc."""
    for parse in (parse_status, parse_policy, parse_numa_maps, parse_cgroup, parse_counters, parse_limits, parse_meminfo):
        parse(text)
    for more in (parse_cpuinfo, parse_cmdline, parse_os_release):
        more(text)
    with suppress(ReadError):
        parse_device_speed(text, "fuzz")
    return [*parse_deb822(text), *parse_one_line(text)], parse_pressure("cpu", text), version_key(text) < version_key("1.0")


def _section(parse: Callable[[Section], object], text: str) -> object:
    return parse(Section(format="fuzz", file="fuzz", first_line=1, last_line=1, text=text))


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
    "paste": lambda data: read_text_files([("paste", data)], "paste"),
    "pci-config": parse_config,
    "unpack": _unpack,
    "tar": partial(_members, read_tar),
    "ttar": partial(_members, read_ttar),
    "command line": _command_line,
    "secrets": partial(_text, hide_secrets_in),
    "redact": _redact,
    "trim": _trim,
    "file": _file,
    "gguf": _gguf,
    "safetensors": _safetensors,
    "manifest": parse_manifest,
    "tables": partial(_text, _tables),
    "pci.ids": lambda data: find_names(data, {(0x10DE, 0x2330), (0x8086, 0x1234)}),
    "index of models": partial(_text, _index),
    "front": partial(_text, parse_stats),
    "kernel log": partial(_text, _kernel_log),
    "dcgm": partial(_text, partial(_section, parse_dcgm)),
    "dcgm json": partial(_text, partial(_section, parse_dcgm_json)),
    "python session": partial(_text, partial(_section, parse_python_session)),
}
NAMES = tuple(PARSERS)
