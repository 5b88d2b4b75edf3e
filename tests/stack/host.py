"""A host with a whole GPU stack, as Debian 13 has it: tiny packages in the real dpkg, and the files of the rest in place.

`make_host(top)` makes the tree, in which nothing is wrong. The same code works on "/" of a guest, with the guest's own dpkg:
only what the stack adds is written there, not /proc and /sys. Standard library alone, so that a guest can run it.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.stack.binaries import make_cuda_library, make_module

DRIVER = "550.163.01"
OTHER_DRIVER = "535.261.03"
NEWER_DRIVER = "580.126.20"
DKMS = "nvidia-current-open"
REVISION = "-4~bpo13+1"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
SITE = "/opt/vllm/lib/python3.13/site-packages"
GPU = "/sys/bus/pci/devices/0000:19:00.0"

_SOURCES = """\
Types: deb
URIs: http://archive.example/debian
Suites: trixie trixie-updates trixie-backports
Components: main contrib non-free non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://archive.example/debian-security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8
 -----END PGP PUBLIC KEY BLOCK-----
"""
_PIN = """\
Explanation: the driver that was built for this kernel
Package: nvidia-* libcuda1 libnvidia-*
Pin: release n=trixie-backports
Pin-Priority: 600
"""
_PIN_TOOLKIT = """\
Package: nvidia-container-toolkit*
Pin: origin "toolkit.example"
Pin-Priority: 700
"""
_RELEASE = """\
Origin: Debian
Label: Debian
Suite: {suite}
Version: 13.2
Codename: {codename}
Date: Sat, 28 Nov 2026 09:31:24 UTC
Acquire-By-Hash: yes
Architectures: all amd64 arm64
Components: main contrib non-free-firmware non-free
MD5Sum:
 0ef56a4d5bf6e43bb8f3f9b0c2b7d5a1  1484322 main/binary-amd64/Packages.xz
"""
_CDI = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - path: /dev/nvidia0
containerEdits:
  mounts:
    - containerPath: {libraries}/libcuda.so.{version}
      hostPath: {libraries}/libcuda.so.{version}
      options: [ro, nosuid, nodev, bind]
    - containerPath: {libraries}/libnvidia-ml.so.{version}
      hostPath: {libraries}/libnvidia-ml.so.{version}
"""
_TORCH = """\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
git_version = '449b1768410104d3ed79d3bcfe4ba1d65c7f22c0'
hip: Optional[str] = None
rocm: Optional[str] = None
xpu: Optional[str] = None
"""


@dataclass
class StackHost:
    """A host below `top`; the kernel that runs and the one that boots next."""

    top: Path
    running: str = "6.12.117+deb13-amd64"
    following: str = "6.12.118+deb13-amd64"

    def at(self, where: str) -> Path:
        return self.top / where.lstrip("/")

    def write(self, where: str, content: str | bytes) -> None:
        path = self.at(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, where: str, target: str) -> None:
        path = self.at(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def remove(self, where: str) -> None:
        path = self.at(where)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    # -- packages, by dpkg itself

    def install(self, *packages: tuple[str, str], postinst: str = "", ok: bool = True) -> None:
        """Build tiny packages of these names and versions and give them to dpkg, which writes its own status."""
        files = [self._build(name, version, postinst) for name, version in packages]
        self.dpkg("--install", *map(str, files), ok=ok)

    def has_package(self, name: str) -> bool:
        """Whether dpkg has it installed."""
        return f"Package: {name}\nStatus: install ok installed\n" in self.at("/var/lib/dpkg/status").read_text()

    def unpack(self, name: str, version: str) -> None:
        """What a stopped upgrade leaves: the files are there, the package is not configured."""
        self.dpkg("--unpack", str(self._build(name, version, "")))

    def hold(self, name: str) -> None:
        """What `apt-mark hold` asks dpkg for."""
        self.dpkg("--set-selections", text=f"{name} hold\n")

    def dpkg(self, *arguments: str, text: str = "", ok: bool = True) -> None:
        options = ["--force-depends", "--force-unsafe-io", "--no-triggers"]
        if self.top != Path("/"):
            options += [f"--root={self.top}", "--force-not-root", "--force-script-chrootless", "--force-bad-path"]
        done = subprocess.run(["dpkg", *options, *arguments], input=text, text=True, capture_output=True, check=False)
        if ok and done.returncode != 0:
            raise AssertionError(f"dpkg {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def _build(self, name: str, version: str, postinst: str) -> Path:
        tree = self.at(f"/tmp/packages/{name}_{version.replace(':', '%3a')}")
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n"
            f"Section: misc\nPriority: optional\nDescription: a package for a test\n a longer text\n"
        )
        if postinst:
            (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{postinst}\n")
            (tree / "DEBIAN/postinst").chmod(0o755)
        file = tree.with_suffix(".deb")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, file], check=True, capture_output=True)
        return file

    # -- parts that drifts change

    def write_libraries(self, version: str, *names: str) -> None:
        """The driver's libraries as Debian links them: through its alternatives."""
        for name in names or ("libcuda", "libnvidia-ml"):
            self.write(f"{LIBRARIES}/nvidia/current/{name}.so.{version}", b"\x7fELF")
            self.link(f"{LIBRARIES}/nvidia/current/{name}.so.1", f"{name}.so.{version}")
            self.link(f"/etc/alternatives/glx--{name}.so.1", f"{LIBRARIES}/nvidia/current/{name}.so.1")
            self.link(f"{LIBRARIES}/{name}.so.1", f"/etc/alternatives/glx--{name}.so.1")
            self.link(f"{LIBRARIES}/{name}.so.{version}", f"nvidia/current/{name}.so.{version}")

    def write_module(self, release: str, *, version: str = DRIVER, vermagic: str = "") -> None:
        """The module as dkms leaves it: in its own tree, and packed in the kernel's directory."""
        names = [f"nvidia/{version}/gsp_{family}.bin" for family in ("ga10x", "tu10x")]
        data = lzma.compress(make_module(vermagic=vermagic or release, version=version, firmware=names), preset=0)
        built = f"/var/lib/dkms/{DKMS}/{version}/{release}/x86_64"
        self.write(f"{built}/module/{DKMS}.ko.xz", data)
        self.write(f"{built}/log/make.log", f"DKMS make.log for {DKMS}-{version} for kernel {release} (x86_64)\n")
        self.link(f"/var/lib/dkms/{DKMS}/kernel-{release}-x86_64", f"{version}/{release}/x86_64")
        self.write(f"/lib/modules/{release}/updates/dkms/{DKMS}.ko.xz", data)

    def write_modules_dep(self, release: str, *, driver: bool) -> None:
        """The kernel's own list, or a short one, with or without the driver."""
        path = self.at(f"/lib/modules/{release}/modules.dep")
        own = path.read_text().splitlines() if path.exists() else ["kernel/drivers/gpu/drm/drm.ko.xz:"]
        lines = [line for line in own if DKMS not in line]
        lines += [f"updates/dkms/{DKMS}.ko.xz: kernel/drivers/gpu/drm/drm.ko.xz"] if driver else []
        self.write(f"/lib/modules/{release}/modules.dep", "\n".join(lines) + "\n")

    def write_firmware(self, version: str) -> None:
        for family in ("ga10x", "tu10x"):
            self.write(f"/lib/firmware/nvidia/{version}/gsp_{family}.bin", b"\0" * 64)

    def write_cdi(self, version: str) -> None:
        self.write("/etc/cdi/nvidia.yaml", _CDI.format(version=version, libraries=LIBRARIES))

    def write_toolkit(self, version: str, *, default: bool = False) -> None:
        short = ".".join(version.split(".")[:2])
        text = f'{{\n  "cuda" : {{\n    "name" : "CUDA SDK",\n    "version" : "{version}"\n  }}\n}}\n'
        self.write(f"/usr/local/cuda-{short}/version.json", text)
        if default:
            self.link("/usr/local/cuda", f"cuda-{short}")

    def write_wheel(self, name: str, version: str, requires: str = "", site: str = SITE) -> None:
        """The metadata that an installer leaves of a wheel."""
        head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nAuthor-email: a@example.org\n"
        self.write(
            f"{site}/{name}-{version}.dist-info/METADATA", f"{head}{requires}\nRequires-Dist: torch ==0.0 in the text\n"
        )
        self.write(f"{site}/{name}-{version}.dist-info/INSTALLER", "uv")

    def write_torch(self, version: str, cuda: str | None, site: str = SITE) -> None:
        self.write(f"{site}/torch/version.py", _TORCH.format(version=version, cuda=repr(cuda)))


def make_host(top: Path, *, gpu: bool = True) -> StackHost:
    """A host with an H100, driver 550.163.01 (open), CUDA 12.4, the container toolkit and vLLM 0.19.1; nothing is wrong."""
    host = find_host(top)
    if top != Path("/"):
        _make_machine(host, gpu=gpu)
    _make_packages(host)
    for release in (host.running, host.following):
        if not host.at(f"/lib/modules/{release}/build").exists():
            host.write(f"/lib/modules/{release}/build/Makefile", "include ../linux-headers-common/Makefile\n")
        host.write_modules_dep(release, driver=True)
        host.write_module(release)
    host.link(f"/var/lib/dkms/{DKMS}/{DRIVER}/source", f"/usr/src/{DKMS}-{DRIVER}")
    host.write(f"/usr/src/{DKMS}-{DRIVER}/dkms.conf", f'PACKAGE_NAME="{DKMS}"\n')
    host.write_firmware(DRIVER)
    host.write_libraries(DRIVER)
    host.write_cdi(DRIVER)
    host.write("/usr/bin/nvidia-ctk", "")
    host.write_toolkit("12.4.131", default=True)
    host.write("/etc/ld.so.conf.d/000_cuda.conf", "/usr/local/cuda/targets/x86_64-linux/lib\n")
    _make_apt(host)
    _make_environment(host)
    return host


def find_host(top: Path) -> StackHost:
    """The host below a directory; of the guest that this runs in, with the kernels that it has."""
    if top != Path("/"):
        return StackHost(top)
    kernels = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    running = os.uname().release
    newest = max([running, *kernels], key=lambda release: [int(number) for number in re.findall(r"\d+", release)])
    return StackHost(Path("/"), running=running, following=newest)


def _make_machine(host: StackHost, *, gpu: bool) -> None:
    """What the kernel and the boot loader show of a real machine."""
    files = {
        "/proc/sys/kernel/osrelease": host.running,
        "/proc/version": f"Linux version {host.running} (debian-kernel@lists.example)",
        "/proc/cmdline": f"BOOT_IMAGE=/boot/vmlinuz-{host.running} root=/dev/sda1 ro quiet",
        "/proc/meminfo": "MemTotal: 65536000 kB\nMemAvailable: 60000000 kB\nMemFree: 50000000 kB",
        "/proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu sse2",
        "/proc/1/comm": "systemd",
        "/proc/2/comm": "kthreadd",
        "/proc/self/cgroup": "0::/init.scope",
        "/etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"',
        "/etc/apt/apt.conf.d/01autoremove": 'APT::NeverAutoRemove { "^firmware-linux.*"; };',
    }
    if gpu:
        files |= {
            f"{GPU}/vendor": "0x10de",
            f"{GPU}/device": "0x2330",
            f"{GPU}/class": "0x030200",
            f"{GPU}/numa_node": "0",
            "/proc/modules": "nvidia 62000000 0 - Live 0x0000000000000000 (O)",
            "/sys/module/nvidia/version": DRIVER,
            "/proc/driver/nvidia/version": f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}  Release",
        }
        host.link(f"{GPU}/driver", "../../../bus/pci/drivers/nvidia")
    for where, text in files.items():
        host.write(where, text + "\n")
    for release in (host.running, host.following):
        host.write(f"/boot/vmlinuz-{release}", b"MZ")
        host.write(f"/boot/initrd.img-{release}", b"0707")
    host.write("/usr/bin/python3.13", b"\x7fELF")
    for where in ("/var/lib/dpkg/info", "/var/lib/dpkg/updates", "/tmp", "/root", "/home", "/srv"):
        host.at(where).mkdir(parents=True, exist_ok=True)
    host.write("/var/lib/dpkg/status", "")


def _make_packages(host: StackHost) -> None:
    kernels = [(host.running, "6.12.117-1"), (host.following, "6.12.118-1")]
    packages = [
        *((f"linux-image-{release}", version) for release, version in kernels),
        *((f"linux-headers-{release}", version) for release, version in kernels),
        ("linux-image-amd64", "6.12.118-1"),
        ("linux-headers-amd64", "6.12.118-1"),
        ("nvidia-open-kernel-dkms", f"{DRIVER}{REVISION}"),
        ("libcuda1", f"{DRIVER}{REVISION}"),
        ("libnvidia-ml1", f"{DRIVER}{REVISION}"),
        ("nvidia-smi", f"{DRIVER}{REVISION}"),
        ("firmware-nvidia-gsp", f"{DRIVER}{REVISION}"),
        ("nvidia-modprobe", "570.133.20-1"),
        ("nvidia-settings", "535.171.04-1"),
        ("nvidia-container-toolkit", "1.18.1-1"),
        ("dkms", "3.2.2-1"),
        ("tini", "0.19.0-3"),
    ]
    # A guest keeps the packages that it has: its kernel is one of them.
    host.install(*((name, version) for name, version in dict(packages).items() if not host.has_package(name)))


def _make_apt(host: StackHost) -> None:
    host.write("/etc/apt/sources.list.d/debian.sources", _SOURCES)
    host.write("/etc/apt/sources.list.d/toolkit.list", "deb [arch=amd64] https://toolkit.example/stable/deb/amd64 /\n")
    host.write("/etc/apt/preferences.d/nvidia", _PIN)
    host.write("/etc/apt/preferences.d/toolkit.pref", _PIN_TOOLKIT)
    for suite, codename in (("stable", "trixie"), ("stable-backports", "trixie-backports")):
        name = f"archive.example_debian_dists_{codename}_InRelease"
        host.write(f"/var/lib/apt/lists/{name}", _RELEASE.format(suite=suite, codename=codename))


def _make_environment(host: StackHost) -> None:
    host.write("/opt/vllm/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13.5\n")
    host.link("/opt/vllm/bin/python", "/usr/bin/python3.13")
    host.link("/opt/vllm/bin/python3", "python")
    host.write_wheel("vllm", "0.19.1", 'Requires-Dist: torch==2.10.0\nRequires-Dist: torch ==9.9 ; extra == "other"\n')
    host.write_wheel("torch", "2.10.0")
    host.write_wheel("transformers", "4.57.1")
    host.write_wheel("nvidia_cuda_runtime_cu12", "12.8.90")
    host.write_torch("2.10.0+cu128", "12.8")
    host.write(f"{SITE}/torch/lib/libtorch_cuda.so", make_cuda_library((50, 80, 90), (90,)))
    host.write(f"{SITE}/vllm/_C.abi3.so", make_cuda_library((80, 90)))
    host.write(f"{SITE}/vllm/_moe_C.abi3.so", make_cuda_library((100,)))  # kernels for newer devices alone
