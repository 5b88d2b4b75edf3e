"""A single file that another program wrote of a machine, recognised by its content: what it tells, and nothing else.

lspci, nvidia-smi (-q, -q -x, nvlink -s), rocm-smi JSON, lsblk JSON, topologies of NCCL and RCCL, hwloc XML, a log of the
kernel; plain, or packed with gzip, bzip2, xz or zstd.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.errors import ReadError
from bedplate.host.accel import check_count, find_accelerators
from bedplate.host.formats.hwlocxml import parse_hwloc
from bedplate.host.formats.lsblk import parse_lsblk
from bedplate.host.formats.lspci import parse_lspci
from bedplate.host.formats.nccl import parse_nccl
from bedplate.host.formats.nvidia_smi import LOG, parse_nvidia_smi, parse_nvidia_smi_pci
from bedplate.host.formats.rocm_smi import parse_rocm_smi, parse_rocm_smi_pci
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.kernel_log import parse_kernel_log
from bedplate.host.kernel.kernel_log_lines import looks_like_kernel_log
from bedplate.host.root.recording import decompress
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known
from bedplate.model.kernel_log_row import KernelLogRow

EXPECTED = (
    "Give a file of `bedplate record`, a directory or archive (tar; gzip, bzip2, xz, zstd) of /proc and /sys, or one file of"
    " lspci -vvv, nvidia-smi -q, rocm-smi --json, lsblk --json, hwloc or NCCL XML, dmesg, journalctl -k."
)
TEXT_MOST = 16 << 20  # bytes after unpacking
_KERNEL_LOG = "kernel-log"
_HEAD = 65_536  # characters that are looked at to recognise a format
_LSPCI = re.compile(r"^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] \S", re.ASCII | re.MULTILINE)
_NVLINK = re.compile(r"^GPU \d{1,3}: .{1,80} \(UUID: GPU-", re.ASCII | re.MULTILINE)
_ROOT_TAG = re.compile(r"<([A-Za-z_]\w{0,40})[\s>/]", re.ASCII)
_READERS: dict[str, Callable[[str, str], HostFacts]]


def read_foreign(path: Path, data: bytes | None = None, *, kernel_rows: Sequence[KernelLogRow] = ()) -> HostFacts | None:
    """Facts of a single-file recording; None when it is none that is known here (an archive, a directory, something else).

    data is what came through a pipe of that name; a pipe itself is not read here, since what else it may be follows.
    What the file does not hold is NOT_RECORDED. kernel_rows say which messages of a kernel log are kept. Raises ReadError
    when it is one and is malformed or too large.
    """
    if data is None and not path.is_file():
        return None
    text = _read_text(path, data)
    format_name = recognise(text) if text is not None else None
    if text is None or format_name is None:
        return None
    if format_name == _KERNEL_LOG:
        log = parse_kernel_log(text.splitlines(), kernel_rows, source=path.name)
        return replace(empty_facts(path.name), kernel_log=log)
    try:
        facts = _READERS[format_name](text, path.name)
        check_count(len(facts.accelerators))
        return facts
    except ReadError as error:
        raise ReadError(f"{path}: {error.message}", hint=error.hint) from error


def recognise(text: str) -> str | None:
    """The format of a text: "lspci", "nvidia-smi", "rocm-smi", "lsblk", "nccl", "hwloc", "kernel-log"; None for another."""
    head = text[:_HEAD].lstrip("\ufeff \t\r\n")
    if head.startswith("<"):
        tag = next((match[1] for match in _ROOT_TAG.finditer(_without_comments(head))), "")
        return {"nvidia_smi_log": "nvidia-smi", "system": "nccl", "topology": "hwloc"}.get(tag)
    if head.startswith("{"):
        return "lsblk" if '"blockdevices"' in head else "rocm-smi" if '"card' in head else None
    if LOG in text or _NVLINK.match(head) is not None:
        return "nvidia-smi"
    if _LSPCI.match(head) is not None:
        return "lspci"
    return _KERNEL_LOG if looks_like_kernel_log(head.splitlines()) else None


def _without_comments(head: str) -> str:
    return re.sub(r"<!--.*?(?:-->|\Z)", "", head, flags=re.DOTALL)


def _read_text(path: Path, given: bytes | None) -> str | None:
    """The text, unpacked; None when it is not text: most archives are told by the first bytes and are not unpacked whole."""
    data = bytearray()
    try:
        with path.open("rb") if given is None else io.BytesIO(given) as file:
            for chunk in decompress(file):
                data += chunk
                if b"\0" in data[:_HEAD]:
                    return None
                if len(data) > TEXT_MOST:
                    if recognise(data[:_HEAD].decode("utf-8", errors="replace")) is None:
                        return None
                    raise ReadError(f"is longer than {TEXT_MOST} bytes")
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    except ReadError as error:  # of the unpacker
        raise ReadError(f"{path}: {error.message}", hint=error.hint) from error.__cause__
    return data.decode("utf-8", errors="replace")


def _from_lspci(text: str, origin: str) -> HostFacts:
    pci = parse_lspci(text)
    return replace(empty_facts(origin), pci=pci, accelerators=find_accelerators(pci))


def _from_nvidia_smi(text: str, origin: str) -> HostFacts:
    return replace(empty_facts(origin), pci=parse_nvidia_smi_pci(text), accelerators=parse_nvidia_smi(text))


def _from_rocm_smi(text: str, origin: str) -> HostFacts:
    return replace(empty_facts(origin), pci=parse_rocm_smi_pci(text), accelerators=parse_rocm_smi(text))


def _from_lsblk(text: str, origin: str) -> HostFacts:
    return replace(empty_facts(origin), blocks=parse_lsblk(text))


def _from_nccl(text: str, origin: str) -> HostFacts:
    told = parse_nccl(text)
    facts = empty_facts(origin)
    return replace(
        facts,
        cpu=replace(facts.cpu, architecture=told.architecture),
        numa=told.numa,
        pci=told.pci,
        accelerators=told.accelerators,
        network=told.network,
    )


def _from_hwloc(text: str, origin: str) -> HostFacts:
    told = parse_hwloc(text)
    facts = empty_facts(origin)
    name = known(told.model_name, "hwloc XML") if told.model_name else facts.cpu.model_name
    total = sum(node.mem_bytes or 0 for node in told.numa.nodes)
    return replace(
        facts,
        cpu=replace(facts.cpu, model_name=name, architecture=told.architecture, cpus=told.cpus, caches=told.caches),
        numa=told.numa,
        memory=replace(facts.memory, total_bytes=total),
        pci=told.pci,
        accelerators=told.accelerators,
        network=told.network,
    )


_READERS = {
    "lspci": _from_lspci,
    "nvidia-smi": _from_nvidia_smi,
    "rocm-smi": _from_rocm_smi,
    "lsblk": _from_lsblk,
    "nccl": _from_nccl,
    "hwloc": _from_hwloc,
}
