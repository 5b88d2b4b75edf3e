"""Python environments that hold a part of the stack: found by a bounded search and by the units of services, read without
starting Python.

Versions are in the names of *.dist-info directories (PyPA, Recording installed projects); of PyTorch torch/version.py is
read, too, since a wheel that was copied over another leaves the older metadata. Sources: PEP 405 (pyvenv.cfg), PEP 376, the
core metadata specifications.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bedplate.host.kernel.mounts import read_mount_rows, read_mounts
from bedplate.host.root.root import Root
from bedplate.host.stack.code import SeenCode, read_code
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import DeviceCode, PythonEnvironment, PythonPackage, PythonRequirement, TorchBuild

# Where people and guides put environments; a search of the whole disk would take minutes.
_TOPS = ("/opt", "/srv", "/root", "/home", "/usr/local", "/data", "/var/lib")
_DEPTH = 3  # directories below a top
_LOOKED_AT = 3000  # directories of one search
_NAMES = 400  # entries of a directory that are looked into; one with more holds data, not environments
_ENVIRONMENTS = 128
# Of one environment; one with an engine has some twenty packages of the stack.
_PACKAGES_MOST = 256
_LEFTOVERS_MOST = 64
_METADATA_MOST = 32  # files that are read for their bounds
_HIDDEN = (".venv", ".virtualenvs", ".conda", ".local", ".pyenv", ".env")
_SKIPPED = frozenset(
    (
        *("lost+found", "proc", "sys", "dev", "node_modules", "site-packages", "dist-packages", "share", "include", "man"),
        *(
            "src",
            "docker",
            "containers",
            "containerd",
            "dpkg",
            "apt",
            "dkms",
            "kubelet",
            "snapd",
            "flatpak",
            "pkgs",
            "models",
        ),
        *("hub", "bin", "sbin", "lib64", "cuda", "etc", "games"),
    )
)
# Endings of files: a name with one is not looked into, "vllm-0.19" is.
_FILE = re.compile(r".{0,200}\.[A-Za-z]{1,12}[0-9]?")
# File systems of the network: a server that does not answer would stop the search. --venv names environments on them.
_NETWORK = re.compile(r"nfs4?|autofs|cifs|smb3|smbfs|afs|ceph|glusterfs|lustre|beegfs|gpfs|wekafs|9p|fuse\..{0,40}")
_UNITS = "/etc/systemd/system"
_UNIT_LIMIT = 1 << 16  # bytes
_UNITS_MOST = 256
_IN_A_UNIT = re.compile(r"^Exec\w{1,20}=[-@:+!]{0,4}(?P<path>/[^\s\"']{1,300})/bin/[\w.+-]{1,60}(?=\s|$)", re.MULTILINE)
_SEES_THE_SYSTEM = re.compile(r"^include-system-site-packages {0,4}= {0,4}true *$", re.MULTILINE | re.IGNORECASE)
_HOME = re.compile(r"^home {0,4}= {0,4}(?P<prefix>/[^\n]{0,300}?)/bin/? *$", re.MULTILINE)
_PYTHON = re.compile(r"python3(?:\.\d{1,2})?")
_DISTRIBUTION = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.]{0,80})-(?P<version>[0-9][\w.+!]{0,60})(?:-py[\d.]{1,6})?\.(?:dist|egg)-info"
)
_LEFTOVER = re.compile(r"~[\w.+!-]{1,160}")
# Distributions that have a part in the stack; nvidia-* are CUDA's libraries.
_OF_THE_STACK = re.compile(
    r"torch(?:vision|audio|ao)?|triton|pytorch-triton(?:-rocm)?|vllm(?:-cpu)?|sglang|sgl-kernel|transformers|xformers|flash-attn"
    r"|flashinfer-python|tensorrt(?:-llm)?|llama-cpp-python|lmdeploy|ktransformers|bitsandbytes|deepspeed|onnxruntime(?:-gpu)?"
    r"|nvidia-(?:cuda-runtime|cuda-nvrtc|cublas|cudnn|nccl)(?:-cu\d\d)?|amdsmi|intel-extension-for-pytorch"
)
_BINDS_TORCH = re.compile(r"torch(?:vision|audio|ao)|vllm(?:-cpu)?|sglang|sgl-kernel|xformers|tensorrt-llm|lmdeploy")
_METADATA_LIMIT = 256 << 10  # bytes; vLLM's has some 20 KB, its description behind the fields
_NEEDS_TORCH = re.compile(
    r"^Requires-Dist: torch {0,2}\(?(?P<bounds>[<>=!~][^;()\n]{0,80})\)?(?P<marker> {0,4};[^\n]{0,200})?$", re.MULTILINE
)
_VERSION_FILE = re.compile(
    r"^(?P<name>__version__|cuda|hip)(?: {0,4}:[^=\n]{0,60})? {0,4}= {0,4}(?:['\"](?P<value>[^'\"\n]{1,80})['\"]|None)",
    re.MULTILINE,
)
# Files with GPU code, below site-packages; the first ones of a glob are enough.
_CODE = (
    *("torch/lib/libtorch_cuda.so", "torch/lib/libtorch_hip.so", "vllm/_C.abi3.so", "vllm/_moe_C.abi3.so"),
    *("vllm/_rocm_C.abi3.so", "sgl_kernel/common_ops.abi3.so", "llama_cpp/lib/libggml-cuda.so"),
)
# Back ends of llama.cpp outside any Python.
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/opt/llama.cpp/lib")
_BACKENDS = ("ggml/libggml-cuda.so", "ggml/libggml-hip.so", "libggml-cuda.so", "libggml-hip.so")


def find_environments(root: Root) -> tuple[str, ...]:
    """Paths of virtual and conda environments, sorted: those of services, and those in the usual places.

    One to which several paths lead stands once, under the path without links where that was found, too.
    """
    found: dict[str, None] = {}
    for path in _in_units(root):
        found.setdefault(path)
    closed = frozenset(
        mount.point for mount in read_mounts(read_mount_rows(root)) if _NETWORK.fullmatch(mount.kind) is not None
    )
    left = _LOOKED_AT
    for top in _TOPS:
        for path, cost in _search(root, top, left, closed):
            left -= cost
            if path:
                found.setdefault(path)
    return tuple(sorted(_each_once(root, found))[:_ENVIRONMENTS])


def _each_once(root: Root, paths: Iterable[str]) -> list[str]:
    """Of paths that lead to one directory the one without links, else the first."""
    chosen: dict[str, str] = {}
    for path in paths:
        real = root.resolve(path) or path
        if path == real:
            chosen[real] = path
        else:
            chosen.setdefault(real, path)
    return list(chosen.values())


def find_denied(root: Root) -> tuple[str, ...]:
    """Of the directories where the search begins, those that this user may not list."""
    return tuple(top for top in _TOPS if root.names(top).unknown is Unknown.DENIED)


def is_searchable(root: Root) -> bool:
    """Whether one of the directories where environments are can be listed; a recording of /proc and /sys alone has none."""
    return any(root.names(top).value is not None for top in (*_TOPS, "/usr/lib"))


def _in_units(root: Root) -> Iterator[str]:
    """Environments whose programs a unit of the administrator starts, so that the next boot starts them too."""
    for name in [name for name in root.listdir(_UNITS) if name.endswith(".service")][:_UNITS_MOST]:
        text = root.read(f"{_UNITS}/{name}", limit=_UNIT_LIMIT).value or ""
        for match in _IN_A_UNIT.finditer(text):
            if is_environment(root, match["path"]):
                yield match["path"]


def _search(root: Root, top: str, most: int, closed: frozenset[str]) -> Iterator[tuple[str, int]]:
    """(path or "", what it cost) for each directory that was looked at, no more than `most`, without those in `closed`."""
    waiting = [(top, 0)]
    looked = 0
    while waiting and looked < most:
        where, depth = waiting.pop(0)
        names = root.names(where).value if where not in closed else None
        if names is None:
            continue
        looked += 1
        if "pyvenv.cfg" in names:
            yield where, 1
            continue
        if "conda-meta" in names or where.endswith("/.conda"):
            yield where if "conda-meta" in names else "", 1
            if "envs" in names:  # conda's own directory of environments, which is as deep as conda itself allows
                waiting.append((f"{where}/envs", _DEPTH - 1))
            continue
        yield "", 1
        if depth < _DEPTH and len(names) <= _NAMES:
            waiting += [(f"{where}/{name}", depth + 1) for name in names if _may_hold(name, where)]


def _may_hold(name: str, where: str) -> bool:
    if name.startswith("."):
        return name in _HIDDEN
    if name in _SKIPPED or _FILE.fullmatch(name) is not None:
        return False
    return not (name == "lib" and where in ("/usr/local", "/var"))


def is_environment(root: Root, path: str) -> bool:
    """Whether a directory is a virtual environment (PEP 405) or a conda environment."""
    return root.exists(f"{path}/pyvenv.cfg") or root.exists(f"{path}/conda-meta")


def read_environments(root: Root, paths: Iterable[str]) -> tuple[PythonEnvironment, ...]:
    """What the environments, and the directories of the system's own Python, hold of the stack; others are left out."""
    seen: SeenCode = {}
    found = [_read_environment(root, path, seen) for path in _each_once(root, paths)]
    found += [_read_site(root, where, [where], seen, is_virtual=False) for where in _system_directories(root)]
    return tuple(
        sorted(
            (environment for environment in found if environment.packages or environment.leftovers or environment.torch),
            key=lambda environment: environment.path,
        )
    )


def read_library_code(root: Root) -> tuple[DeviceCode, ...]:
    """GPU code in the back ends of llama.cpp that are installed outside any Python."""
    found = []
    for directory in _LIBRARIES:
        for name in _BACKENDS:
            code = read_code(root, f"{directory}/{name}")
            if code is not None:
                found.append(code)
    return tuple(found)


def _system_directories(root: Root) -> list[str]:
    """dist-packages of Debian's Python, and those that pip fills as root."""
    found = ["/usr/lib/python3/dist-packages"]
    for top in ("/usr/local/lib", "/usr/lib"):
        for name in root.listdir(top):
            if _PYTHON.fullmatch(name):
                found += [f"{top}/{name}/{kind}" for kind in ("dist-packages", "site-packages")]
    return [where for where in dict.fromkeys(found) if root.names(where).value is not None]


def _read_environment(root: Root, path: str, seen: SeenCode) -> PythonEnvironment:
    sites = [f"{path}/lib/{name}/site-packages" for name in root.listdir(f"{path}/lib") if _PYTHON.fullmatch(name)]
    if not is_environment(root, path):  # a directory on PYTHONPATH, as `pip install --target` makes it
        return _read_site(root, path, sites or [path], seen, is_virtual=False)
    return _read_site(root, path, sites, seen, is_virtual=True, inherited=_inherited(root, path))


def _inherited(root: Root, path: str) -> list[str]:
    """Directories of the Python below a virtual environment that shows its packages, too; PEP 405."""
    text = root.read(f"{path}/pyvenv.cfg", limit=_UNIT_LIMIT).value or ""
    home = _HOME.search(text)
    if home is None or _SEES_THE_SYSTEM.search(text) is None:
        return []
    versions = [name for name in root.listdir(f"{path}/lib") if _PYTHON.fullmatch(name)]
    if home["prefix"] in ("/usr", "/usr/local"):
        return [where for where in _system_directories(root) if where.split("/")[-2] in ("python3", *versions)]
    return [f"{home['prefix']}/lib/{name}/site-packages" for name in versions]


def _read_site(
    root: Root, path: str, sites: list[str], seen: SeenCode, *, is_virtual: bool, inherited: Sequence[str] = ()
) -> PythonEnvironment:
    """What the directories hold; of the inherited ones, which come after them, what they do not have themselves."""
    packages: list[PythonPackage] = []
    leftovers: list[str] = []
    torch: TorchBuild | None = None
    code: list[DeviceCode] = []
    for site in [*sites, *inherited]:
        names = root.listdir(site)
        hidden = {package.name for package in packages} if site in inherited else set()
        for name in names:
            match = _DISTRIBUTION.fullmatch(name)
            if match is not None:
                normal = normalise(match["name"])
                if _OF_THE_STACK.fullmatch(normal) and normal not in hidden:
                    packages.append(PythonPackage(name=normal, version=match["version"], path=f"{site}/{name}"))
            elif name.startswith("~") and site in sites and _LEFTOVER.fullmatch(name):
                leftovers.append(f"{site}/{name}")
        tops = set(names)
        if "torch" in tops:
            torch = torch or _read_torch(root, f"{site}/torch/version.py")
        for file in _CODE:
            is_own = site in sites or all(_below_site(other.path) != file for other in code)
            if is_own and file.partition("/")[0] in tops and (found := read_code(root, f"{site}/{file}", seen)) is not None:
                code.append(found)
    packages.sort(key=lambda package: (package.name, package.version))
    binding = [package for package in packages if _BINDS_TORCH.fullmatch(package.name)]
    return PythonEnvironment(
        path=path,
        is_virtual=is_virtual,
        interpreter=_read_interpreter(root, path) if is_virtual else missing(Unknown.HIDDEN, path, "the system's own"),
        packages=tuple(packages[:_PACKAGES_MOST]),
        leftovers=tuple(leftovers[:_LEFTOVERS_MOST]),
        torch=torch,
        requirements=tuple(
            requirement for package in binding[:_METADATA_MOST] for requirement in _read_requirements(root, package)
        ),
        code=tuple(code),
        dangling=_find_dangling(root, path) if is_virtual else (),
    )


def _below_site(path: str) -> str:
    """ ".../site-packages/vllm/_C.abi3.so" -> "vllm/_C.abi3.so"."""
    return path.rpartition("-packages/")[2]


def _read_interpreter(root: Root, path: str) -> Reading[str]:
    """Where bin/python leads in the end."""
    where = f"{path}/bin/python3" if root.readlink(f"{path}/bin/python") is None else f"{path}/bin/python"
    opened = root.open_ranges(where)  # not whether it can be resolved: a directory on the way may be closed to this user
    if opened.value is None:
        leads = root.readlink(where) is not None
        return missing(opened.unknown or Unknown.ABSENT, where, root.end_of_links(where) if leads else "")
    with opened.value:
        return known(root.resolve(where) or where, where)


def _find_dangling(root: Root, path: str) -> tuple[str, ...]:
    """Links of bin/ that lead nowhere; one whose end this user may not see is not among them."""
    links = [f"{path}/bin/{name}" for name in root.listdir(f"{path}/bin")[:_NAMES]]
    return tuple(link for link in links if root.readlink(link) is not None and _is_gone(root, link))


def _is_gone(root: Root, link: str) -> bool:
    opened = root.open_ranges(link)
    if opened.value is None:
        return opened.unknown is Unknown.ABSENT
    with opened.value:
        return False


def _read_torch(root: Root, where: str) -> TorchBuild | None:
    text = root.read(where, limit=_UNIT_LIMIT).value
    return parse_torch_version(text, where) if text is not None else None


def parse_torch_version(text: str, where: str) -> TorchBuild | None:
    """version.py of PyTorch; None where it names no version."""
    values = {match["name"]: match["value"] or "" for match in _VERSION_FILE.finditer(text)}
    if not values.get("__version__"):
        return None
    return TorchBuild(path=where, version=values["__version__"], cuda=values.get("cuda", ""), hip=values.get("hip", ""))


def _read_requirements(root: Root, package: PythonPackage) -> Iterator[PythonRequirement]:
    raw = root.read_bytes(f"{package.path}/METADATA", _METADATA_LIMIT).value or b""
    text = raw.decode("utf-8", errors="replace").partition("\n\n")[0]
    for bounds in parse_torch_bounds(text):
        yield PythonRequirement(package=package.name, bounds=bounds)


def parse_torch_bounds(text: str) -> tuple[str, ...]:
    """Bounds that the metadata of a distribution puts on torch whatever the machine is: ("==2.10.0",).

    One with a marker, such as `; extra == "x"`, is left out: whether it holds is not known here.
    """
    return tuple(
        match["bounds"].strip().replace(" ", "") for match in _NEEDS_TORCH.finditer(text) if match["marker"] is None
    )


def normalise(name: str) -> str:
    """ "Flash_Attn" -> "flash-attn"; PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
