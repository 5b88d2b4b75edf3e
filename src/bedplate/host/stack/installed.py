"""The installed stack of a machine in one value: what is cheap to read always, what takes long when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from bedplate.errors import ReadError
from bedplate.host.kernel.kernel import read_kernel
from bedplate.host.kernel.pci import read_pci
from bedplate.host.root.root import Root
from bedplate.host.stack.apt import read_pins, read_releases, read_sources
from bedplate.host.stack.dkms import read_dkms
from bedplate.host.stack.document import DOCUMENT, DOCUMENT_LIMIT, DeepFacts, parse_deep, render_deep
from bedplate.host.stack.dpkg import read_interrupted, read_packages
from bedplate.host.stack.driver_files import read_cdi, read_libraries, read_toolkits
from bedplate.model.facts.pci import PciDevice
from bedplate.model.facts.stack import InstalledStack, ModuleFile
from bedplate.model.facts.system import KernelFacts

_BOOT_FILES = ("vmlinuz-", "initrd.img-", "initramfs-")
# Modules of the kernel's own tree are read only where a device is that they would drive.
_MODULES = {0x1002: ("amdgpu",), 0x8086: ("xe", "i915")}

_DEVICE_CLASSES = (0x03, 0x12)  # display controllers and processing accelerators; PCI Code and ID Assignment Specification


class StackDepth(StrEnum):
    """How much of the installed stack is read."""

    NONE = "none"
    QUICK = "quick"
    """What takes a few hundredths of a second: packages, sources, dkms, names of libraries and toolkits."""
    DEEP = "deep"
    """Also module files, Python environments, and the GPU code in binaries."""


def read_installed(
    root: Root, kernel: KernelFacts, pci: Sequence[PciDevice], depth: StackDepth, *, environments: Iterable[str] = ()
) -> InstalledStack:
    """What is installed; nothing is started. `environments` are directories that are read besides those that are found.

    Raises ReadError for a recording whose document of large files is malformed.
    """
    if depth is StackDepth.NONE:
        return InstalledStack()
    document = root.read(DOCUMENT, limit=DOCUMENT_LIMIT).value
    held = parse_deep(document) if document is not None else None
    if depth is StackDepth.DEEP:
        deep = held or read_deep(root, kernel, pci, environments)
    else:
        deep = DeepFacts(releases=read_releases(root) if held is None else held.releases)
    return InstalledStack(
        deep=deep.searched,
        packages=read_packages(root),
        interrupted=read_interrupted(root),
        sources=read_sources(root),
        pins=read_pins(root),
        releases=deep.releases,
        dkms=read_dkms(root),
        boot_files=tuple(name for name in root.listdir("/boot") if name.startswith(_BOOT_FILES)),
        headers=tuple(release for release in kernel.installed if root.exists(f"/lib/modules/{release}/build")),
        libraries=read_libraries(root),
        toolkits=read_toolkits(root),
        cdi=read_cdi(root),
        module_files=deep.module_files,
        environments=deep.environments,
        code=deep.code,
        denied=deep.denied,
    )


def read_deep(root: Root, kernel: KernelFacts, pci: Sequence[PciDevice], environments: Iterable[str] = ()) -> DeepFacts:
    """What takes long, of the files themselves; `environments` are read besides those that are found."""
    from bedplate.host.stack.environments import (  # doctor, which reads none of it, starts faster without
        find_denied,
        find_environments,
        is_searchable,
        read_environments,
        read_library_code,
    )
    from bedplate.host.stack.modules import read_module_files

    vendors = {device.vendor for device in pci if device.class_code >> 16 in _DEVICE_CLASSES}
    names = ["nvidia", *(name for vendor, those in _MODULES.items() if vendor in vendors for name in those)]
    modules: tuple[ModuleFile, ...] = ()
    for release in dict.fromkeys((kernel.next_release.value, kernel.release.value)):
        # What the next kernel lacks, the running one has as it will be built for the next.
        lacking = set(names) - {module.name for module in modules}
        modules += read_module_files(root, release, lacking) if release is not None else ()
    return DeepFacts(
        searched=is_searchable(root),
        module_files=modules,
        environments=read_environments(root, [*find_environments(root), *environments]),
        code=read_library_code(root),
        releases=read_releases(root),
        denied=find_denied(root),
    )


def record_stack(root: Root) -> dict[str, bytes]:
    """What a recording holds in place of large files and of directories of people: path -> bytes.

    Of a recording its own document, as it is.
    """
    held = root.read_bytes(DOCUMENT, DOCUMENT_LIMIT).value
    if held is not None:
        return {DOCUMENT: held}
    try:
        pci = read_pci(root)
    except ReadError:
        pci = ()  # the reader of the facts says so
    return {DOCUMENT: render_deep(read_deep(root, read_kernel(root), pci)).encode()}
