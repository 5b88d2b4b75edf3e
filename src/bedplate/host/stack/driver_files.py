"""Files of NVIDIA's user space: the driver's libraries, CUDA toolkits, descriptions of devices for containers; and firmware.

Versions are in the names: libcuda.so.1 leads to libcuda.so.550.163.01, by one link or by Debian's alternatives. Sources: the
CUDA Installation Guide (/usr/local/cuda-X.Y, version.json), the Container Device Interface specification (/etc/cdi,
/var/run/cdi), Documentation/driver-api/firmware/fw_search_path.rst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import CDI_DIRECTORY, CdiSpecification, CudaToolkit, DriverLibrary
from bedplate.model.versions import version_key

_DIRECTORIES = (
    *("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64"),
    *("/run/opengl-driver/lib", "/home/kubernetes/bin/nvidia/lib64"),
)
_LIBRARY = re.compile(r"(?P<name>libcuda|libnvidia-ml)\.so\.(?P<version>\d{2,4}\.\d[\d.]{0,12})", re.ASCII)
_TOOLKIT = re.compile(r"cuda-(?P<version>\d{1,2}\.\d{1,2})", re.ASCII)
_DEFAULT = "/usr/local/cuda"
_DEBIAN = "/usr/lib/cuda"
_LOADER = "/etc/ld.so.conf.d"
_JSON_LIMIT = 1 << 20  # bytes
_TEXT_LIMIT = 1 << 16  # bytes
_CDI_LIMIT = 4 << 20  # bytes; of a server with 16 GPUs and MIG some 200 KB
_FILES = 64  # of one directory
_CDI_RUNTIME = "/var/run/cdi"
_KIND = re.compile(r"[\"']?kind[\"']?\s{0,8}:\s{0,8}[\"']?nvidia\.com/")
_HOST_PATH = re.compile(r"[\"']?hostPath[\"']?\s{0,8}:\s{0,8}[\"']?(?P<path>/[^\s\"',]{1,400})")
_FIRMWARE = "/lib/firmware"
_PACKINGS = ("", ".zst", ".xz")
NAMED_FIRMWARE = 1024  # files that one module names; amdgpu some 700


def read_libraries(root: Root) -> tuple[DriverLibrary, ...]:
    """libcuda and libnvidia-ml that new programs load, each by its first directory; () without the driver's libraries."""
    found: dict[str, DriverLibrary] = {}
    for directory in _DIRECTORIES:
        for name in ("libcuda", "libnvidia-ml"):
            where = f"{directory}/{name}.so.1"
            match = _LIBRARY.fullmatch(root.end_of_links(where).rpartition("/")[2])
            if match is not None:
                found.setdefault(name, DriverLibrary(name=name, version=match["version"], path=where))
    return tuple(found[name] for name in sorted(found))


def read_toolkits(root: Root) -> tuple[CudaToolkit, ...]:
    """CUDA toolkits of /usr/local and of Debian's package, by version and path."""
    names = root.listdir("/usr/local")
    paths = [f"/usr/local/{name}" for name in names if _TOOLKIT.fullmatch(name)]
    default = root.resolve(_DEFAULT) if "cuda" in names else None
    if default is not None and default == _DEFAULT:
        paths.append(_DEFAULT)
    if root.exists(f"{_DEBIAN}/version.txt") or root.exists(f"{_DEBIAN}/version.json"):
        paths.append(_DEBIAN)
    loader = _loader_directories(root) if paths else ()
    toolkits = (_read_toolkit(root, path, default, loader) for path in paths[:_FILES])
    return tuple(sorted(toolkits, key=lambda toolkit: (version_key(toolkit.version.value or ""), toolkit.path)))


def _read_toolkit(root: Root, path: str, default: str | None, loader: Iterable[str]) -> CudaToolkit:
    libraries = [directory for directory in loader if directory == path or directory.startswith(f"{path}/")]
    is_default = default in (path, root.resolve(path))
    if is_default:
        libraries += [directory for directory in loader if directory.startswith(f"{_DEFAULT}/")]
    compat = [match for name in root.listdir(f"{path}/compat") if (match := _LIBRARY.fullmatch(name)) is not None]
    return CudaToolkit(
        path=path,
        version=_read_version(root, path),
        is_default=is_default,
        in_loader_path=bool(libraries),
        compat=max((match["version"] for match in compat), key=version_key, default=""),
    )


def _read_version(root: Root, path: str) -> Reading[str]:
    """version.json of CUDA 11 and newer, version.txt of older ones and of Debian's, else the name of the directory."""
    where = f"{path}/version.json"
    text = root.read(where, limit=_JSON_LIMIT)
    if text.value is not None:
        try:
            return known(str(json.loads(text.value)["cuda"]["version"])[:40], where)
        except (ValueError, KeyError, TypeError, RecursionError):
            return missing(Unknown.MALFORMED, where, text.text)
    old = root.read(f"{path}/version.txt", limit=_TEXT_LIMIT)
    found = re.search(r"CUDA Version (\d{1,2}\.\d[\d.]{0,12})", old.value or "")
    if found is not None:
        return known(found[1], old.source, found[0])
    named = _TOOLKIT.fullmatch(path.rpartition("/")[2])
    return known(named["version"], path, path) if named is not None else missing(text.unknown or Unknown.ABSENT, where)


def _loader_directories(root: Root) -> tuple[str, ...]:
    """Directories that files of /etc/ld.so.conf.d add to the path of the dynamic loader."""
    found: list[str] = []
    for name in root.listdir(_LOADER)[:_FILES]:
        if name.endswith(".conf") and "cuda" in name:
            lines = (root.read(f"{_LOADER}/{name}", limit=_TEXT_LIMIT).value or "").splitlines()
            found += [line.strip() for line in lines if line.startswith("/")]
    return tuple(found)


def read_cdi(root: Root) -> Reading[tuple[CdiSpecification, ...]]:
    """CDI files that describe NVIDIA's devices, with what they name and the host lacks.

    An empty value: the directories hold none, or are not there. Where one of them, or a file, cannot be read, its reason.
    """
    found: list[CdiSpecification] = []
    for directory in (CDI_DIRECTORY, _CDI_RUNTIME):
        names = root.names(directory)
        if names.value is None and names.unknown is not Unknown.ABSENT:
            return missing(names.unknown or Unknown.ABSENT, directory, names.text)
        for name in [name for name in names.value or () if name.endswith((".json", ".yaml", ".yml"))][:_FILES]:
            reading = root.read(f"{directory}/{name}", limit=_CDI_LIMIT)
            if reading.value is None:
                return missing(reading.unknown or Unknown.ABSENT, reading.source, reading.text)
            if _KIND.search(reading.value) is not None:
                found.append(_parse_cdi(root, reading.value, reading.source))
    return known(tuple(found), CDI_DIRECTORY, f"{len(found)} files")


def _parse_cdi(root: Root, text: str, where: str) -> CdiSpecification:
    paths = sorted({match["path"] for match in _HOST_PATH.finditer(text)})
    libraries = [path for path in paths if _LIBRARY.fullmatch(path.rpartition("/")[2])][:_FILES]
    return CdiSpecification(
        path=where,
        # One byte of a library tells that it is there, also in a recording, which says ABSENT only of what was asked for.
        missing=tuple(path for path in libraries if root.read_bytes(path, 1).unknown is Unknown.ABSENT),
        versions=tuple(sorted({path.partition(".so.")[2] for path in libraries}, key=version_key)),
    )


def shorten_cdi(text: str) -> str:
    """A CDI file with only what `read_cdi` reads: whether it is NVIDIA's, and the libraries that it names."""
    if _KIND.search(text) is None:
        return ""
    paths = sorted({match["path"] for match in _HOST_PATH.finditer(text)})
    libraries = [path for path in paths if _LIBRARY.fullmatch(path.rpartition("/")[2])]
    return "kind: nvidia.com/gpu\n" + "".join(f"- hostPath: {path}\n" for path in libraries)


def find_missing_firmware(root: Root, release: str, names: Iterable[str]) -> tuple[str, ...] | None:
    """Of the files that a module names, those that no firmware directory of a kernel has, packed or not.

    None where the directories cannot be looked into. Names with wildcards are left out.
    """
    if root.names(_FIRMWARE).value is None:
        return None
    own = root.read("/sys/module/firmware_class/parameters/path").value
    directories = [directory for directory in (own, f"{_FIRMWARE}/updates/{release}", f"{_FIRMWARE}/updates") if directory]
    directories += [f"{_FIRMWARE}/{release}", _FIRMWARE]
    listings: dict[str, frozenset[str]] = {}

    def has(directory: str, name: str) -> bool:
        parent, _, file = f"{directory}/{name}".rpartition("/")
        if parent not in listings:
            listings[parent] = frozenset(root.listdir(parent))
        return any(file + packing in listings[parent] for packing in _PACKINGS)

    plain = [name for name in names if "*" not in name and "?" not in name]
    return tuple(name for name in plain[:NAMED_FIRMWARE] if not any(has(directory, name) for directory in directories))
