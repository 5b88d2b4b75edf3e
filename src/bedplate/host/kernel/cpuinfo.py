"""Model, flags and architecture of the first processor of /proc/cpuinfo.

Only its beginning is read: the kernel may ask every CPU for its clock to write the rest. Names of Arm cores are those of the
technical reference manuals (MIDR part numbers), since the kernel gives numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing

CPUINFO = "/proc/cpuinfo"
_BLOCK = 12_288  # bytes; one processor with all flags of today is about 3 kB
_ARM_PARTS = {
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
    (0x46, 0x001): "A64FX",
    (0x4E, 0x010): "Olympus",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuInfo:
    """What /proc/cpuinfo says of its first processor; `flags` is () where it lists none."""

    model_name: Reading[str]
    architecture: str
    """As uname says; "" when it cannot be told."""
    flags: tuple[str, ...]


def read_cpuinfo(root: Root) -> CpuInfo:
    """What the first processor says of itself; /proc/sys/kernel/arch (Linux 6.1) settles the architecture."""
    raw = root.read_bytes(CPUINFO, _BLOCK)
    told = root.read("/proc/sys/kernel/arch").value or ""
    if raw.value is None:
        unknown = raw.unknown or Unknown.ABSENT
        return CpuInfo(model_name=missing(unknown, CPUINFO, raw.text), architecture=told, flags=())
    info = parse_cpuinfo(raw.value.decode("utf-8", errors="replace"))
    return CpuInfo(model_name=info.model_name, architecture=told or info.architecture, flags=info.flags)


def has_amx(flags: Collection[str]) -> bool:
    """Whether the flags name what ggml's AMX code is built with: 8-bit tiles, and AVX-512 VNNI."""
    return {"amx_tile", "amx_int8", "avx512_vnni"} <= set(flags)


def parse_cpuinfo(text: str) -> CpuInfo:
    """The first block of /proc/cpuinfo: "model name : AMD EPYC 9654" -> its name; on Arm the name of its part number."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            if fields:
                break
            continue
        fields.setdefault(key.strip(), value.strip())
    flags = tuple((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name") or _arm_name(fields) or fields.get("cpu") or fields.get("machine")
    return CpuInfo(
        model_name=known(name, CPUINFO) if name else missing(Unknown.ABSENT, CPUINFO),
        architecture=_architecture(fields, flags),
        flags=flags,
    )


def _arm_name(fields: dict[str, str]) -> str | None:
    implementer, part = fields.get("CPU implementer", ""), fields.get("CPU part", "")
    try:
        return _ARM_PARTS.get(
            (int(implementer[:8], 16), int(part[:8], 16)), f"implementer {implementer[:8]} part {part[:8]}"
        )
    except ValueError:
        return None


def _architecture(fields: dict[str, str], flags: tuple[str, ...]) -> str:
    if "vendor_id" in fields and "lm" in flags:
        return "x86_64"
    if fields.get("CPU architecture") in ("8", "9", "AArch64"):
        return "aarch64"
    return "riscv64" if fields.get("isa", "").startswith("rv64") else ""
