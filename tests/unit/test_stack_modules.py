"""What is read of kernel modules, of libraries of the driver, and of the code in binaries."""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from tests.stack.binaries import (
    make_bundle,
    make_cuda_library,
    make_elf,
    make_fatbin,
    make_hip_library,
    make_module,
)
from tests.unit.facts_factory import make_kernel, make_pci
from tests.unit.tree import Link, make_root

from bedplate.host.record.redact import Redactor
from bedplate.host.record.trim import trim
from bedplate.host.root.recording import MemoryTree
from bedplate.host.root.zstd import pack_zstd
from bedplate.host.stack.code import SeenCode, read_code
from bedplate.host.stack.driver_files import find_missing_firmware, read_cdi, read_libraries, read_toolkits
from bedplate.host.stack.elf import find_sections
from bedplate.host.stack.installed import read_deep
from bedplate.host.stack.modinfo import read_modinfo
from bedplate.host.stack.modules import read_module_files
from bedplate.model.facts.reading import Unknown, known
from bedplate.model.facts.stack import (
    DeviceCode,
)

FIRMWARE = ("nvidia/550.163.01/gsp_ga10x.bin", "nvidia/550.163.01/gsp_tu10x.bin")


def packings(plain: bytes) -> dict[str, bytes]:
    zstd = pack_zstd(plain)
    assert zstd is not None
    return {"": plain, ".xz": lzma.compress(plain), ".zst": zstd, ".gz": gzip.compress(plain)}


@pytest.mark.parametrize("ending", ["", ".xz", ".zst", ".gz"])
def test_a_module_says_what_it_is_however_it_is_packed(tmp_path: Path, ending: str) -> None:
    plain = make_module(vermagic="6.12.118+deb13-amd64", version="550.163.01", firmware=FIRMWARE)
    root = make_root(tmp_path, {f"/nvidia.ko{ending}": packings(plain)[ending]})
    info = read_modinfo(root, f"/nvidia.ko{ending}").value
    assert info is not None
    assert (info.version, info.vermagic, info.firmware) == ("550.163.01", "6.12.118+deb13-amd64", FIRMWARE)


@pytest.mark.parametrize("ending", ["", ".xz", ".zst", ".gz"])
@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_damaged_module_is_malformed(tmp_path: Path, ending: str, damage: str) -> None:
    whole = packings(make_module(vermagic="6.12"))[ending]
    data = {"empty": b"", "cut": whole[: len(whole) // 2], "other": b"MZ" + bytes(4096)}[damage]
    root = make_root(tmp_path, {f"/a.ko{ending}": data})
    assert read_modinfo(root, f"/a.ko{ending}").unknown is Unknown.MALFORMED


def test_sections_past_the_end_of_the_file_are_none(tmp_path: Path) -> None:
    module = bytearray(make_elf({".modinfo": b"version=1\0"}))
    struct.pack_into("<Q", module, 40, 1 << 62)  # e_shoff
    assert read_modinfo(make_root(tmp_path, {"/a.ko": bytes(module)}), "/a.ko").unknown is Unknown.MALFORMED
    assert read_modinfo(make_root(tmp_path / "b", {}), "/a.ko").unknown is Unknown.ABSENT


def test_a_table_of_names_without_an_end_costs_no_more_than_its_names() -> None:
    """65,000 sections whose names have no end would each be a copy of 4 MiB."""
    sections, size = 20_000, 1 << 20
    names_at = 64 + 64 * sections
    rows = [struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, names_at, size, 0, 0, 1, 0)] * sections
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, sections, 0)
    file = head + b"".join(rows) + b"x" * size
    copied = 0

    class Counted(bytes):
        """Text that counts what is copied of it and looked through."""

        def __getitem__(self, key: Any) -> Any:
            nonlocal copied
            part = super().__getitem__(key)
            copied += len(part) if isinstance(part, bytes) else 1
            return part

        def find(self, *arguments: Any) -> int:
            nonlocal copied
            found = super().find(*arguments)
            start, end = arguments[1], arguments[2] if len(arguments) > 2 else len(self)
            copied += (found if found >= 0 else min(end, len(self))) - start
            return found

    names = frozenset((b".modinfo",))
    assert find_sections(lambda offset, count: Counted(file[offset : offset + count]), names) == {}
    assert copied < 4 * len(file)


def test_module_files_are_those_of_modules_dep_with_the_firmware_that_they_lack(tmp_path: Path) -> None:
    top = "/lib/modules/6.12"
    root = make_root(
        tmp_path,
        {
            f"{top}/modules.dep": (
                "updates/dkms/nvidia-current-open.ko.xz:\nupdates/dkms/nvidia-current-uvm.ko.xz:\n"
                "kernel/drivers/gpu/drm/nvidia-not.ko.xz:\nkernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko.xz:"
            ),
            f"{top}/updates/dkms/nvidia-current-open.ko.xz": lzma.compress(
                make_module(vermagic="6.11", version="550.163.01", firmware=FIRMWARE)
            ),
            "/lib/firmware/updates/nvidia/550.163.01/gsp_ga10x.bin.zst": "",
        },
    )
    (module,) = read_module_files(root, "6.12", ["nvidia"])
    assert module.path == f"{top}/updates/dkms/nvidia-current-open.ko.xz"
    assert (module.name, module.version.value, module.vermagic.value) == ("nvidia", "550.163.01", "6.11")
    assert module.firmware_missing == FIRMWARE[1:]
    (unread,) = read_module_files(root, "6.12", ["amdgpu"])
    assert (unread.vermagic.unknown, unread.firmware_missing) == (Unknown.ABSENT, None)
    assert find_missing_firmware(make_root(tmp_path / "b", {"/x": ""}), "6.12", FIRMWARE) is None


def test_a_module_that_the_next_kernel_lacks_is_that_of_the_running_one(tmp_path: Path) -> None:
    entries: dict[str, str | bytes | Link] = {
        "/lib/modules/6.2/modules.dep": "kernel/amdgpu.ko:",
        "/lib/modules/6.1/modules.dep": "kernel/amdgpu.ko:\nupdates/dkms/nvidia-current.ko:",
        "/lib/modules/6.2/kernel/amdgpu.ko": make_module(vermagic="6.2"),
        "/lib/modules/6.1/updates/dkms/nvidia-current.ko": make_module(vermagic="6.1", version="550.163.01"),
    }
    kernel = make_kernel(release=known("6.1", "/proc"), next_release=known("6.2", "/boot"))
    amd = make_pci("0000:19:00.0", vendor=0x1002, device=0x74A1)
    root = make_root(tmp_path, entries)
    assert [(module.name, module.release) for module in read_deep(root, kernel, (amd,)).module_files] == [
        ("amdgpu", "6.2"),
        ("nvidia", "6.1"),
    ]
    assert [module.name for module in read_deep(root, kernel, ()).module_files] == ["nvidia"]


def test_the_code_of_a_binary_is_read(tmp_path: Path) -> None:
    packed = zlib.compress(make_bundle(("gfx942",)))
    zstd = pack_zstd(make_bundle(("gfx950", "gfx1201")))
    assert zstd is not None
    second = struct.pack("<4sHHII", b"CCOB", 2, 1, 24 + len(zstd), 4096) + bytes(8) + zstd
    third = struct.pack("<4sHHQQ", b"CCOB", 3, 0, 32 + len(packed), 4096) + bytes(8) + packed
    files = {
        "/cuda.so": make_cuda_library((100, 80, 90), (90,)),
        "/hip.so": make_hip_library(make_bundle(("gfx90a", "gfx803"))),
        "/second.so": make_hip_library(second),
        "/third.so": make_hip_library(third),
        "/plain.so": make_elf({".text": b"sm_80"}),
        "/text": b"sm_80 gfx942",
    }
    root = make_root(tmp_path, dict(files))
    assert read_code(root, "/cuda.so") == DeviceCode(
        path="/cuda.so", architectures=("sm_80", "sm_90", "sm_100"), intermediate=("sm_90",)
    )
    found = {name: code.architectures for name in files if (code := read_code(root, name)) is not None}
    assert found["/hip.so"] == ("gfx803", "gfx90a")
    assert found["/second.so"] == ("gfx950", "gfx1201")
    assert found["/third.so"] == ("gfx942",)
    assert {"/plain.so", "/text"}.isdisjoint(found)
    assert read_code(root, "/absent.so") is None


def test_a_fatbin_that_is_cut_or_lies_about_its_size_ends_there(tmp_path: Path) -> None:
    good, liar = make_fatbin((80,)), bytearray(make_fatbin((90,)))
    struct.pack_into("<Q", liar, 8, 1 << 60)
    root = make_root(tmp_path, {"/a.so": make_elf({".nv_fatbin": good + bytes(-len(good) % 8) + bytes(liar)})})
    code = read_code(root, "/a.so")
    assert code is not None and code.architectures == ("sm_80",)


def test_libraries_are_told_by_where_their_links_lead(tmp_path: Path) -> None:
    where = "/usr/lib/x86_64-linux-gnu"
    root = make_root(
        tmp_path,
        {
            f"{where}/libcuda.so.1": Link("/etc/alternatives/glx--libcuda.so.1"),
            "/etc/alternatives/glx--libcuda.so.1": Link(f"{where}/nvidia/current/libcuda.so.1"),
            f"{where}/nvidia/current/libcuda.so.1": Link("libcuda.so.550.163.01"),
            f"{where}/libnvidia-ml.so.1": Link("libnvidia-ml.so.535.261.03"),
            f"{where}/libnvidia-ml.so.535.261.03": "",
        },
    )
    assert [(library.name, library.version, library.path) for library in read_libraries(root)] == [
        ("libcuda", "550.163.01", f"{where}/libcuda.so.1"),
        ("libnvidia-ml", "535.261.03", f"{where}/libnvidia-ml.so.1"),
    ]
    assert read_libraries(make_root(tmp_path / "b", {f"{where}/libcuda.so.1": Link("libcuda.so.1")})) == ()


def test_toolkits_are_read_with_the_default_and_the_loader(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/usr/local/cuda-12.4/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.4.131"}}',
            "/usr/local/cuda-13.0/compat/libcuda.so.580.65.06": "",
            "/usr/local/cuda-9/x": "",
            "/usr/local/cuda": Link("/etc/alternatives/cuda"),
            "/etc/alternatives/cuda": Link("/usr/local/cuda-13.0"),
            "/etc/ld.so.conf.d/cuda.conf": "/usr/local/cuda-12.4/lib64\n# /usr/local/cuda/lib64",
        },
    )
    assert [
        (toolkit.path, toolkit.version.value, toolkit.is_default, toolkit.in_loader_path, toolkit.compat)
        for toolkit in read_toolkits(root)
    ] == [
        ("/usr/local/cuda-12.4", "12.4.131", False, True, ""),
        ("/usr/local/cuda-13.0", "13.0", True, False, "580.65.06"),
    ]


CDI_JSON = '{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "mounts": [{"hostPath": "/usr/lib64/libcuda.so.550.163.01"}]}'


def test_cdi_files_are_read_with_what_they_name(tmp_path: Path) -> None:
    entries: dict[str, str | bytes | Link] = {"/etc/cdi/a.json": CDI_JSON, "/etc/cdi/other.yaml": "kind: vendor.example/net"}
    (specification,) = read_cdi(make_root(tmp_path / "a", dict(entries))).value or ()
    assert specification.missing == ("/usr/lib64/libcuda.so.550.163.01",)
    assert specification.versions == ("550.163.01",)
    (whole,) = read_cdi(make_root(tmp_path / "b", {**entries, specification.missing[0]: ""})).value or ()
    assert whole.missing == ()
    kept = {name: trim(name, str(text).encode(), Redactor()).decode() for name, text in entries.items()}
    assert kept["/etc/cdi/other.yaml"] == ""
    assert read_cdi(make_root(tmp_path / "e", dict(kept))).value == (specification,)
    assert read_cdi(make_root(tmp_path / "c", {"/x": ""})).value == ()
    assert read_cdi(make_root(tmp_path / "d", {"/x": ""}, absent=Unknown.NOT_RECORDED)).unknown is Unknown.NOT_RECORDED


def test_ranges_of_a_file_are_read(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"/a": b"0123456789", "/d/x": ""})
    ranges = root.open_ranges("/a").value
    assert ranges is not None
    with ranges:
        assert [ranges.read(3, 4), ranges.read(8, 100), ranges.read(100, 1), ranges.read(1 << 70, 1)] == [
            b"3456",
            b"89",
            b"",
            b"",
        ]
    assert root.open_ranges("/b").unknown is Unknown.ABSENT
    assert root.open_ranges("/d").unknown is Unknown.MALFORMED
    archive = MemoryTree(files={"/a": b"0123456789"}, children={"/": {"a"}})
    held = archive.open_ranges("/a").value
    assert held is not None and held.read(8, 100) == b"89"
    assert archive.open_ranges("/").unknown is Unknown.MALFORMED


def test_a_code_that_only_few_files_of_a_library_hold_is_found(tmp_path: Path) -> None:
    piece, rare = make_fatbin((80, 90)), make_fatbin((120,))
    root = make_root(tmp_path, {"/a.so": make_elf({".nv_fatbin": piece * 40 + rare + piece * 40})})
    code = read_code(root, "/a.so")
    assert code is not None and code.architectures == ("sm_80", "sm_90", "sm_120")


def test_the_same_build_in_another_environment_is_read_once(tmp_path: Path) -> None:
    library, other = make_cuda_library((80,)), make_cuda_library((80, 90))
    entries = {"/a/_C.so": library, "/b/_C.so": library, "/c/_C.so": other, "/d/_D.so": library}
    root = make_root(tmp_path, dict(entries))
    seen: SeenCode = {}
    found = [code.architectures for name in entries if (code := read_code(root, name, seen)) is not None]
    assert found == [("sm_80",), ("sm_80",), ("sm_80", "sm_90"), ("sm_80",)]
    assert len(seen) == 3
