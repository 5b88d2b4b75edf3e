"""Readers of the installed stack: dpkg, apt, dkms, modules, GPU code, environments; and the document that holds them."""

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

from bedplate.errors import ReadError
from bedplate.host.record.redact import Redactor
from bedplate.host.record.trim import trim
from bedplate.host.root.recording import MemoryTree
from bedplate.host.root.zstd import pack_zstd
from bedplate.host.stack.apt import parse_pins, read_releases, read_sources
from bedplate.host.stack.code import SeenCode, read_code
from bedplate.host.stack.dkms import parse_log_error, parse_log_release, read_dkms
from bedplate.host.stack.document import DOCUMENT, DeepFacts, parse_deep, render_deep
from bedplate.host.stack.dpkg import parse_status, read_interrupted, read_packages, shorten_status
from bedplate.host.stack.driver_files import find_missing_firmware, read_cdi, read_libraries, read_toolkits
from bedplate.host.stack.elf import find_sections
from bedplate.host.stack.environments import (
    find_environments,
    parse_torch_bounds,
    parse_torch_version,
    read_environments,
)
from bedplate.host.stack.installed import read_deep
from bedplate.host.stack.modinfo import read_modinfo
from bedplate.host.stack.modules import read_module_files
from bedplate.model.facts.reading import Unknown, known, missing
from bedplate.model.facts.stack import (
    AptPin,
    DeviceCode,
    DkmsState,
    ModuleFile,
    PythonEnvironment,
    PythonPackage,
    PythonRequirement,
    TorchBuild,
)

# As dpkg 1.22 writes it.
STATUS = """\
Package: adduser
Status: install ok installed
Priority: important
Section: admin
Installed-Size: 408
Maintainer: Debian Adduser Developers <adduser@packages.debian.org>
Architecture: all
Multi-Arch: foreign
Version: 3.152
Depends: passwd (>= 1:4.17.2-5)
Conffiles:
 /etc/adduser.conf b5bbd9fd3d4e0f0c4d0b5b3b0b6f8b0f
Description: add and remove users and groups
 This package includes the 'adduser' and 'deluser' commands.
 .
 Version: 9.9 is no field here.

Package: linux-image-amd64
Status: hold ok installed
Architecture: amd64
Source: linux-signed-amd64 (6.12.118+1)
Version: 6.12.118-1
Description: Linux for 64-bit PCs (meta-package)

Package: libcuda1
Status: install ok unpacked
Architecture: amd64
Version: 1:550.163.01-2
Config-Version: 535.261.03-1
Description: NVIDIA CUDA Driver Library

Package: somebody-elses-secret
Status: install reinstreq half-installed
Architecture: amd64
Version: 2
Description: x

Package: nvidia-smi
Status: deinstall ok config-files
Architecture: amd64
Version: 550.163.01-2
Description: x
"""


def test_packages_of_the_stack_and_unfinished_ones_are_read() -> None:
    packages = {package.name: package for package in parse_status(STATUS)}
    assert sorted(packages) == ["libcuda1", "linux-image-amd64", "nvidia-smi", "somebody-elses-secret"]
    assert packages["linux-image-amd64"].want == "hold"
    assert (packages["libcuda1"].state, packages["libcuda1"].upstream) == ("unpacked", "550.163.01")
    assert packages["somebody-elses-secret"].needs_reinstall
    assert not packages["nvidia-smi"].is_installed and not packages["somebody-elses-secret"].is_installed


def test_a_recording_of_the_status_reads_the_same_and_holds_nothing_else() -> None:
    short = shorten_status(STATUS)
    assert list(parse_status(short)) == list(parse_status(STATUS))
    assert "adduser" not in short and "Description" not in short
    assert trim("/var/lib/dpkg/status", STATUS.encode(), Redactor()).decode() == short


def test_a_status_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    assert read_packages(make_root(tmp_path / "a", {})).unknown is Unknown.ABSENT
    assert read_packages(make_root(tmp_path / "b", {"/var/lib/dpkg/status": ""})).value == ()
    root = make_root(tmp_path / "c", {"/var/lib/dpkg/updates/0001": "", "/var/lib/dpkg/updates/tmp.i": ""})
    assert read_interrupted(root) == ("/var/lib/dpkg/updates/0001",)


STANZAS = """\
# written by the installer
Types: deb deb-src
URIs: http://archive.example/debian
Suites: trixie
 trixie-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8

Types: deb
URIs: https://user:password@vendor.example/cuda/
Suites: /
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
"""
LINES = """\
# deb http://commented.example/debian trixie main
deb [arch=amd64 signed-by=/x.gpg] http://one.example/debian trixie main contrib
deb-src http://one.example/debian trixie main
deb file:/srv/mirror trixie main
# deb https://off.example/cuda / # disabled on upgrade to trixie
"""


def test_sources_are_read_in_both_forms(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/etc/apt/sources.list": LINES,
            "/etc/apt/sources.list.d/debian.sources": STANZAS,
            "/etc/apt/sources.list.d/old.list.distUpgrade": "deb http://old.example/ x",
        },
    )
    sources = read_sources(root).value or ()
    assert [(source.uri, source.suite, source.enabled, source.directory) for source in sources] == [
        ("http://one.example/debian", "trixie", True, None),
        ("file:/srv/mirror", "trixie", True, False),
        ("https://off.example/cuda", "/", False, None),
        ("http://archive.example/debian", "trixie", True, None),
        ("http://archive.example/debian", "trixie-updates", True, None),
        ("https://user:password@vendor.example/cuda/", "/", False, None),
    ]
    (tmp_path / "srv/mirror").mkdir(parents=True)
    assert [source.directory for source in read_sources(root).value or ()][1] is True


def test_sources_that_cannot_all_be_read_are_not_known(tmp_path: Path) -> None:
    assert read_sources(make_root(tmp_path / "a", {})).unknown is Unknown.ABSENT
    partly = make_root(tmp_path / "b", {"/etc/apt/sources.list": LINES}, absent=Unknown.NOT_RECORDED)
    assert read_sources(partly).unknown is Unknown.NOT_RECORDED
    root = make_root(tmp_path / "c", {"/etc/apt/sources.list": LINES, "/etc/apt/sources.list.d/a.list/x": ""})
    assert read_sources(root).unknown is Unknown.MALFORMED


def test_recorded_sources_hold_no_host_no_password_and_no_key(tmp_path: Path) -> None:
    redactor = Redactor()
    kept = trim("/etc/apt/sources.list.d/debian.sources", STANZAS.encode(), redactor).decode()
    pins = trim("/etc/apt/preferences.d/x", b'# why\nPackage: *\nPin: origin "vendor.example"\n', redactor).decode()
    assert "example" not in kept and "password" not in kept and "PGP" not in kept and "installer" not in kept
    host = kept.partition("@")[2].partition("/")[0] or kept.rpartition("://")[2].partition("/")[0]
    assert " trixie-updates" in kept
    assert f'origin "{host}"' in pins.replace("host-", "host-"), (kept, pins)
    assert "why" not in pins


def test_pins_are_read_and_what_is_none_is_left_out() -> None:
    text = (
        "Explanation: x\nPackage: nvidia-* libcuda1\nPin: release o=Debian,n=trixie-backports\nPin-Priority: 600\n\n"
        'Package: *\nPin: origin ""\nPin-Priority: -1\n\nPackage: x\nPin: version 1.*\n\nPin: nothing\n'
    )
    assert list(parse_pins(text, "/p")) == [
        AptPin(
            file="/p",
            package="nvidia-* libcuda1",
            kind="release",
            value="o=Debian,n=trixie-backports",
            priority=600,
        ),
        AptPin(file="/p", package="*", kind="origin", value='""', priority=-1),
    ]


def test_heads_of_release_files_are_read(tmp_path: Path) -> None:
    head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    signed = head + "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: trixie\n"
    root = make_root(
        tmp_path, {"/var/lib/apt/lists/a_InRelease": signed + "MD5Sum:\n Suite: no\n", "/var/lib/apt/lists/lock": ""}
    )
    (release,) = read_releases(root)
    assert (release.origin, release.suite, release.codename) == ("Debian", "stable", "trixie")


def dkms_tree(**builds: str) -> dict[str, str | bytes | Link]:
    top = "/var/lib/dkms/nvidia-current/550.163.01"
    entries: dict[str, str | bytes | Link] = {f"{top}/source/dkms.conf": ""}
    for release, state in builds.items():
        release = release.replace("_", ".")
        if state != "failed":
            entries[f"{top}/{release}/x86_64/module/nvidia-current.ko.xz"] = ""
        entries[f"{top}/{release}/x86_64/log/make.log"] = ""
        if state == "installed":
            entries[f"/var/lib/dkms/nvidia-current/kernel-{release}-x86_64"] = Link(f"550.163.01/{release}/x86_64")
    return entries


def test_what_dkms_built_is_read_as_dkms_status_says_it(tmp_path: Path) -> None:
    entries = dkms_tree(**{"6_1": "installed", "6_2": "built", "6_3": "failed"})
    entries["/var/lib/dkms/nvidia-current/550.163.01/build/make.log"] = (
        "DKMS make.log for nvidia-current-550.163.01 for kernel 6.12.118+deb13-amd64 (x86_64)"
    )
    entries["/var/lib/dkms/mok.key"] = "secret"
    (module,) = read_dkms(make_root(tmp_path, entries)).value or ()
    assert module.versions == ("550.163.01",)
    assert [(build.release, build.state) for build in module.builds] == [
        ("6.1", DkmsState.INSTALLED),
        ("6.2", DkmsState.BUILT),
        ("6.3", DkmsState.FAILED),
        ("6.12.118+deb13-amd64", DkmsState.FAILED),
    ]
    assert parse_log_release("make: nothing") == ""


LOG = """\
DKMS make.log for nvidia-current-open-550.163.01 for kernel 6.12.118+deb13-amd64 (x86_64)
Sat Nov 28 10:11:12 UTC 2026
/build/nvidia/nv.c:10:2: warning: an error: would follow [-Werror=x]
/build/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'
  237 |     r = pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size);
make[3]: *** [/usr/src/linux-headers-6.12/scripts/Makefile.build:229: nv-pci.o] Error 1
"""


def test_a_failed_build_says_why() -> None:
    error = "/build/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'"
    assert parse_log_error(LOG) == error
    assert parse_log_error("make[1]: *** No rule to make target 'modules'.  Stop.\n").startswith("make[1]: ***")
    assert parse_log_error("no errors: none\n") == ""
    short = trim("/var/lib/dkms/a/1/build/make.log", LOG.encode(), Redactor()).decode()
    assert (parse_log_release(short), parse_log_error(short)) == (parse_log_release(LOG), error)
    assert short.count("\n") == 2


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


# Of torch 2.10.0 and of a build by Debian.
VERSION = (
    "from typing import Optional\n__version__ = '2.10.0+cu128'\ndebug = False\n"
    "cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
)
OLD_VERSION = "__version__ = '2.6.0'\ndebug = False\ncuda = None\ngit_version = 'x'\nhip = '6.2'\n"


def test_what_torch_was_built_for_is_read() -> None:
    assert parse_torch_version(VERSION, "/v") == TorchBuild(path="/v", version="2.10.0+cu128", cuda="12.8", hip="")
    assert parse_torch_version(OLD_VERSION, "/v") == TorchBuild(path="/v", version="2.6.0", cuda="", hip="6.2")
    assert parse_torch_version("import x\n", "/v") is None


def test_bounds_on_torch_are_read_and_those_with_a_marker_are_left_out() -> None:
    text = (
        "Name: vllm\nRequires-Dist: torch==2.10.0\nRequires-Dist: torch (>=2.1,<3)\nRequires-Dist: torchvision==0.25\n"
        'Requires-Dist: torch==2.9; extra == "x"\nRequires-Dist: torch\n'
    )
    assert parse_torch_bounds(text) == ("==2.10.0", ">=2.1,<3")


def site(path: str, *names: str) -> dict[str, str | bytes | Link]:
    return {f"{path}/{name}": "" for name in names}


def test_environments_are_found_in_the_usual_places_and_by_units(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/opt/vllm/pyvenv.cfg": "",
            "/opt/deep/down/it/venv/pyvenv.cfg": "",
            "/home/alice/project/.venv/pyvenv.cfg": "",
            "/home/alice/.cache/venv/pyvenv.cfg": "",
            "/opt/conda/conda-meta/history": "",
            "/opt/conda/envs/llm/conda-meta/history": "",
            "/usr/local/cuda/bin/pyvenv.cfg": "",
            "/elsewhere/engine/pyvenv.cfg": "",
            "/etc/systemd/system/vllm.service": (
                "[Service]\nExecStartPre=-/usr/bin/true\nExecStart=/elsewhere/engine/bin/vllm serve /m --port 8000"
            ),
        },
    )
    assert find_environments(root) == (
        "/elsewhere/engine",
        "/home/alice/project/.venv",
        "/opt/conda",
        "/opt/conda/envs/llm",
        "/opt/vllm",
    )


def test_directories_of_the_network_are_not_searched(tmp_path: Path) -> None:
    mounts = (
        "22 1 0:30 / /home rw - nfs4 server:/home rw",
        "23 1 0:31 / /opt/shared rw - fuse.sshfs x rw",
        "24 1 8:1 / /srv rw - ext4 /dev/sda1 rw",
    )
    names = ("/home/alice/venv", "/opt/shared/venv", "/opt/own", "/srv/venv")
    entries = {f"{name}/pyvenv.cfg": "" for name in names}
    root = make_root(tmp_path, {"/proc/self/mountinfo": "\n".join(mounts), **entries})
    assert find_environments(root) == ("/opt/own", "/srv/venv")


def test_an_environment_is_read_without_starting_it(tmp_path: Path) -> None:
    top = "/opt/vllm/lib/python3.13/site-packages"
    entries = site(
        top,
        *("torch-2.10.0.dist-info/RECORD", "numpy-2.3.5.dist-info/RECORD", "flash_attn-2.8.3.dist-info/RECORD"),
        *("~orch-2.9.1.dist-info/RECORD", "nvidia_cuda_runtime_cu12-12.8.90.dist-info/RECORD"),
    )
    entries |= {
        "/opt/vllm/pyvenv.cfg": "home = /usr/bin",
        "/opt/vllm/bin/python": Link("python3.13"),
        "/opt/vllm/bin/python3": Link("python"),
        "/opt/vllm/bin/python3.13": Link("/usr/bin/python3.13"),
        "/opt/vllm/bin/pip": "#!/usr/bin/python3.13",
        f"{top}/vllm-0.19.1.dist-info/METADATA": "Name: vllm\nRequires-Dist: torch==2.10.0\n\nRequires-Dist: torch==1\n",
        f"{top}/torch/version.py": VERSION,
    }
    root = make_root(tmp_path, entries)
    (environment,) = read_environments(root, ["/opt/vllm", "/opt/vllm", "/opt/absent"])
    assert [(package.name, package.version) for package in environment.packages] == [
        ("flash-attn", "2.8.3"),
        ("nvidia-cuda-runtime-cu12", "12.8.90"),
        ("torch", "2.10.0"),
        ("vllm", "0.19.1"),
    ]
    assert environment.leftovers == (f"{top}/~orch-2.9.1.dist-info",)
    assert environment.torch is not None and environment.torch.cuda == "12.8"
    assert environment.requirements == (PythonRequirement(package="vllm", bounds="==2.10.0"),)
    assert (environment.interpreter.unknown, environment.interpreter.text) == (Unknown.ABSENT, "/usr/bin/python3.13")
    assert [link.rpartition("/")[2] for link in environment.dangling] == ["python", "python3", "python3.13"]
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.13").write_text("")
    assert read_environments(root, ["/opt/vllm"])[0].dangling == ()
    assert read_environments(root, ["/opt/vllm"])[0].interpreter.value == "/usr/bin/python3.13"


def test_directories_of_the_system_and_a_target_directory_are_read(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/usr/lib/python3/dist-packages/torch-2.6.0.dist-info/RECORD": "",
            "/usr/local/lib/python3.13/dist-packages/torch-2.10.0.dist-info/RECORD": "",
            "/srv/site/sglang-0.5.20.dist-info/RECORD": "",
        },
    )
    found = read_environments(root, ["/srv/site"])
    assert [(environment.path, environment.packages[0].version, environment.is_virtual) for environment in found] == [
        ("/srv/site", "0.5.20", False),
        ("/usr/lib/python3/dist-packages", "2.6.0", False),
        ("/usr/local/lib/python3.13/dist-packages", "2.10.0", False),
    ]


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


DEEP = DeepFacts(
    module_files=(
        ModuleFile(
            path="/lib/modules/6.12/nvidia.ko",
            release="6.12",
            name="nvidia",
            version=known("550.163.01", "/lib/modules/6.12/nvidia.ko"),
            vermagic=missing(Unknown.ABSENT, "/x"),
            firmware=FIRMWARE,
            firmware_missing=None,
        ),
    ),
    environments=(
        PythonEnvironment(
            path="/home/alice/venv",
            is_virtual=True,
            interpreter=known("/usr/bin/python3.13", "/home/alice/venv/bin/python"),
            packages=(PythonPackage(name="torch", version="2.10.0", path="/home/alice/venv/lib/t.dist-info"),),
            leftovers=(),
            torch=None,
            requirements=(),
            code=(DeviceCode(path="/x", architectures=("sm_80",), intermediate=()),),
        ),
    ),
    denied=("/root",),
)


def test_the_document_holds_the_facts_and_no_name() -> None:
    assert parse_deep(render_deep(DEEP)) == DEEP
    text = trim(DOCUMENT, render_deep(DEEP).encode(), Redactor(users=("alice",))).decode()
    assert "alice" not in text
    assert parse_deep(text).environments[0].path == "/home/user-1/venv"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bedplate-stack/1", "bedplate-stack/2"),
        ('"is_virtual": true', '"is_virtual": "yes"'),
        ('"torch": null', '"torch": 5'),
        ('"release"', '"releaze"'),
        ('"unknown": "absent"', '"unknown": "perhaps"'),
        ('"denied": [', '"denied": [{}, '),
    ],
)
def test_a_document_of_another_shape_is_refused(old: str, new: str) -> None:
    text = render_deep(DEEP)
    assert old in text
    with pytest.raises(ReadError):
        parse_deep(text.replace(old, new))


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


def test_an_environment_with_two_names_is_one(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/opt/current": Link("vllm"),
            "/opt/loop": Link("/opt"),
            "/opt/vllm/pyvenv.cfg": "",
            "/opt/vllm/lib/python3.13/site-packages/torch-2.10.0.dist-info/RECORD": "",
            "/srv/engine": Link("/mnt/large/engine"),
            "/mnt/large/engine/pyvenv.cfg": "",
        },
    )
    assert find_environments(root) == ("/opt/vllm", "/srv/engine")
    assert [found.path for found in read_environments(root, ["/opt/current", "/opt/vllm"])] == ["/opt/vllm"]


def test_environments_of_conda_in_home_directories_are_found(tmp_path: Path) -> None:
    names = ("/home/alice/miniconda3", "/home/alice/miniconda3/envs/vllm", "/home/bob/.conda/envs/sglang")
    root = make_root(tmp_path, {**{f"{name}/conda-meta/history": "" for name in names}})
    assert find_environments(root) == names


def test_an_environment_that_sees_the_packages_of_its_python_has_them(tmp_path: Path) -> None:
    dist = "/usr/local/lib/python3.13/dist-packages"
    own = "/opt/vllm/lib/python3.13/site-packages"
    entries: dict[str, str | bytes | Link] = {
        "/opt/vllm/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\n",
        "/opt/alone/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n",
        "/opt/alone/lib/python3.13/site-packages/vllm-0.19.1.dist-info/RECORD": "",
        f"{own}/vllm-0.19.1.dist-info/RECORD": "",
        f"{own}/transformers-4.57.1.dist-info/RECORD": "",
        f"{dist}/torch-2.10.0.dist-info/RECORD": "",
        f"{dist}/transformers-4.40.0.dist-info/RECORD": "",
        f"{dist}/~orch-2.9.0.dist-info/RECORD": "",
        f"{dist}/torch/version.py": VERSION,
        "/srv/conda/lib/python3.12/site-packages/torch-2.9.0.dist-info/RECORD": "",
        "/srv/engine/pyvenv.cfg": "home = /srv/conda/bin\ninclude-system-site-packages = True\n",
        "/srv/engine/lib/python3.12/site-packages/vllm-0.18.0.dist-info/RECORD": "",
    }
    root = make_root(tmp_path, entries)
    alone, vllm, engine = read_environments(root, ["/opt/alone", "/opt/vllm", "/srv/engine"])[:3]
    assert [(package.name, package.version) for package in vllm.packages] == [
        ("torch", "2.10.0"),
        ("transformers", "4.57.1"),
        ("vllm", "0.19.1"),
    ]
    assert vllm.torch is not None and vllm.torch.path == f"{dist}/torch/version.py"
    assert vllm.leftovers == (), "those of the system's Python are told of it"
    assert (alone.version_of("torch"), alone.torch) == (None, None)
    assert engine.version_of("torch") == "2.9.0"


def test_a_directory_full_of_names_costs_little_and_fills_no_report(tmp_path: Path) -> None:
    top = "/opt/vllm/lib/python3.13/site-packages"
    names = [f"{top}/vllm-0.{number}.dist-info/METADATA" for number in range(600)]
    root = make_root(
        tmp_path,
        {
            "/opt/vllm/pyvenv.cfg": "",
            **dict.fromkeys(names, "Name: vllm\nRequires-Dist: torch==2.10.0\n"),
            **{f"{top}/~orch{number}": "" for number in range(600)},
        },
    )
    (environment,) = read_environments(root, ["/opt/vllm"])
    assert len(environment.packages) <= 256
    assert len(environment.leftovers) <= 64
    assert len(environment.requirements) <= 32


def test_packages_without_which_a_system_does_not_run_are_read() -> None:
    """dpkg writes Essential and Protected between the name and the status; lib/dpkg/parse.c, fieldinfos."""
    text = (
        "Package: libc-bin\nEssential: yes\nStatus: install ok half-configured\nVersion: 2.41-12\n\n"
        "Package: init\nProtected: yes\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1.69\n"
    )
    assert [(package.name, package.version) for package in parse_status(text)] == [("libc-bin", "2.41-12"), ("init", "1.69")]
    assert list(parse_status(shorten_status(text)))[1] == list(parse_status(text))[1]
