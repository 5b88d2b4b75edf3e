"""The GPU modules on disk of one kernel, each with what its file says and the firmware that it would not find."""

from __future__ import annotations

from collections.abc import Collection

from bedplate.host.kernel.kernel import GPU_MODULE_LINE
from bedplate.host.root.root import Root
from bedplate.host.stack.driver_files import find_missing_firmware
from bedplate.host.stack.modinfo import read_modinfo
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import ModuleFile

_MODULES_MOST = 16


def read_module_files(root: Root, release: str, names: Collection[str]) -> tuple[ModuleFile, ...]:
    """The files of the named GPU modules ("nvidia", "amdgpu") that modprobe would load for a release, by path.

    A file that cannot be read has its reason in `version` and `vermagic`. Source: modules.dep(5).
    """
    top = f"/lib/modules/{release}"
    found: list[ModuleFile] = []
    for match in GPU_MODULE_LINE.finditer(root.read(f"{top}/modules.dep").value or ""):
        if match["name"] in names:
            path = match[0].partition(":")[0]
            where = path if path.startswith("/") else f"{top}/{path}"
            found.append(_read_module_file(root, release, match["name"], where))
    return tuple(sorted(found[:_MODULES_MOST], key=lambda module: module.path))


def _read_module_file(root: Root, release: str, name: str, where: str) -> ModuleFile:
    info = read_modinfo(root, where)
    if info.value is None:
        reason: Reading[str] = missing(info.unknown or Unknown.ABSENT, where, info.text)
        return ModuleFile(
            path=where, release=release, name=name, version=reason, vermagic=reason, firmware=(), firmware_missing=None
        )
    return ModuleFile(
        path=where,
        release=release,
        name=name,
        version=known(info.value.version, where) if info.value.version else missing(Unknown.ABSENT, where),
        vermagic=known(info.value.vermagic, where) if info.value.vermagic else missing(Unknown.ABSENT, where),
        firmware=info.value.firmware,
        firmware_missing=find_missing_firmware(root, release, info.value.firmware),
    )
