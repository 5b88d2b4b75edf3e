"""The stack that is installed on a machine: packages, sources, modules, libraries, toolkits and Python environments.

Read by host/stack. What takes long to read (module files, Python environments, the code inside binaries) is there only where
`deep` says so: doctor leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from bedplate.model.facts.reading import Reading, Unknown, missing

DPKG_STATUS = "/var/lib/dpkg/status"
DKMS_TREE = "/var/lib/dkms"
APT_SOURCES = "/etc/apt/sources.list.d"
CDI_DIRECTORY = "/etc/cdi"


@dataclass(frozen=True, slots=True, kw_only=True)
class DpkgPackage:
    """One package of dpkg's status file that is part of the stack, or that dpkg has not finished; dpkg(1)."""

    name: str
    architecture: str
    version: str
    """As dpkg has it, with epoch and revision: "550.163.01-2"; "" where it has none."""
    want: str
    """install, hold, deinstall, purge or unknown."""
    state: str
    """installed, half-installed, unpacked, half-configured, triggers-awaited, triggers-pending, config-files."""
    needs_reinstall: bool = False
    """Whether dpkg says reinstreq: only a new installation repairs it."""

    @property
    def is_installed(self) -> bool:
        """Whether its files are there, configured or not."""
        return self.state not in ("config-files", "not-installed", "half-installed")

    @property
    def upstream(self) -> str:
        """The version without epoch and revision: "550.163.01"."""
        rest = self.version.rpartition(":")[2]
        return rest.rpartition("-")[0] or rest


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSourceEntry:
    """One place that apt takes packages from: a line of a .list file, or a URI and a suite of a .sources file's stanza."""

    file: str
    uri: str
    suite: str
    enabled: bool = True
    directory: bool | None = None
    """Whether the directory of a file: URI is there; None for other kinds of URI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AptPin:
    """One stanza of apt_preferences(5)."""

    file: str
    package: str
    """The patterns of its Package field: "linux-image-* nvidia-*", "*"."""
    kind: str
    """version, release or origin."""
    value: str
    """What follows the kind: "n=trixie-backports", '"archive.example"', "6.12.*"."""
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AptRelease:
    """The head of a Release file in /var/lib/apt/lists that apt has fetched of a source."""

    origin: str
    label: str
    suite: str
    codename: str


class DkmsState(StrEnum):
    """How far dkms got with a module for one kernel."""

    BUILT = "built"
    INSTALLED = "installed"
    FAILED = "failed"
    """A log of a build is there, and no module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DkmsBuild:
    """What dkms has of one version of a module for one kernel."""

    module: str
    """As dkms calls it: "nvidia-current"."""
    version: str
    release: str
    """Of the kernel; "" where a build failed and its log names none."""
    state: DkmsState
    source: str
    """Directory or file that says so."""
    error: str = ""
    """The first line of the log that names an error, shortened; "" where the build did not fail, or none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DkmsModule:
    """A module that dkms builds: each version of it that was added, and what was built of them."""

    name: str
    versions: tuple[str, ...]
    """By version, the newest last."""
    builds: tuple[DkmsBuild, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFile:
    """A GPU's kernel module on disk, as its .modinfo section describes it; modinfo(8)."""

    path: str
    release: str
    """The kernel in whose directory it is."""
    name: str
    """nvidia, amdgpu, xe or i915."""
    version: Reading[str]
    """ABSENT where the module has none, as those of the kernel's own tree."""
    vermagic: Reading[str]
    """The kernel that it was built for, without the flags: "6.12.118+deb13-amd64"."""
    firmware: tuple[str, ...]
    """Files that it names, relative to the firmware directories; sorted."""
    firmware_missing: tuple[str, ...] | None
    """Those that no firmware directory has; None where a directory could not be looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLibrary:
    """A library of NVIDIA's driver that new programs load, by the name of its file: "libcuda.so.550.163.01"."""

    name: str
    """libcuda or libnvidia-ml."""
    version: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaToolkit:
    """A CUDA toolkit in a directory of its own."""

    path: str
    version: Reading[str]
    is_default: bool
    """Whether /usr/local/cuda leads to it."""
    in_loader_path: bool
    """Whether a file of /etc/ld.so.conf.d names a directory in it."""
    compat: str
    """Version of the forward-compatibility library in it, "580.65.06"; "" without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiSpecification:
    """A file of the Container Device Interface that describes NVIDIA's devices."""

    path: str
    missing: tuple[str, ...]
    """Libraries on the host that it names and that are not there."""
    versions: tuple[str, ...]
    """Driver versions in the names of the libraries that it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonRequirement:
    """A bound that an installed package puts on PyTorch: its METADATA's Requires-Dist."""

    package: str
    bounds: str
    """ "==2.10.0"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonPackage:
    """One installed distribution of a Python environment that is part of the stack."""

    name: str
    """Normalised: lower case, "-" for "_" and "."."""
    version: str
    path: str
    """Its .dist-info or .egg-info."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchBuild:
    """What torch/version.py says of the files that are imported, whatever the metadata beside them says."""

    path: str
    version: str
    """With its local part: "2.10.0+cu128"."""
    cuda: str
    """Version of CUDA that it was built for; "" for a build without."""
    hip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """The GPU code in one binary: fatbin and offload bundles."""

    path: str
    architectures: tuple[str, ...]
    """ "sm_80", "gfx942": machine code; sorted."""
    intermediate: tuple[str, ...]
    """ "sm_90": PTX, which the driver compiles for this architecture and newer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonEnvironment:
    """One place that a Python imports from: a virtual environment, a conda environment, or a directory of the system."""

    path: str
    is_virtual: bool
    interpreter: Reading[str]
    """Where the environment's bin/python leads; ABSENT where it leads nowhere, or the environment has none."""
    packages: tuple[PythonPackage, ...]
    leftovers: tuple[str, ...]
    """Directories that pip renamed before it ended early: "~orch-2.6.0.dist-info"."""
    torch: TorchBuild | None
    requirements: tuple[PythonRequirement, ...]
    """Bounds of its packages on torch."""
    code: tuple[DeviceCode, ...]
    dangling: tuple[str, ...] = ()
    """Links of its bin directory that lead nowhere, the interpreter's among them."""

    def version_of(self, name: str) -> str | None:
        """Version of the distribution of that name as its metadata says; None where it is not installed."""
        return next((package.version for package in self.packages if package.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledStack:
    """What is installed of the stack; the default is a machine of which nothing was read."""

    deep: bool = False
    """Whether module files, Python environments and binaries were looked for, and could be."""
    packages: Reading[tuple[DpkgPackage, ...]] = field(default_factory=partial(missing, Unknown.NOT_RECORDED, DPKG_STATUS))
    """By name and architecture."""
    interrupted: tuple[str, ...] = ()
    """Files of /var/lib/dpkg/updates: dpkg was stopped before it wrote its status."""
    sources: Reading[tuple[AptSourceEntry, ...]] = field(default_factory=partial(missing, Unknown.NOT_RECORDED, APT_SOURCES))
    """Every one, enabled or not; a value only where all files of sources could be read."""
    pins: tuple[AptPin, ...] = ()
    releases: tuple[AptRelease, ...] = ()
    dkms: Reading[tuple[DkmsModule, ...]] = field(default_factory=partial(missing, Unknown.NOT_RECORDED, DKMS_TREE))
    boot_files: tuple[str, ...] = ()
    """Names in /boot that begin with vmlinuz-, initrd.img- or initramfs-."""
    headers: tuple[str, ...] = ()
    """Releases whose headers are there to build modules with."""
    libraries: tuple[DriverLibrary, ...] = ()
    toolkits: tuple[CudaToolkit, ...] = ()
    cdi: Reading[tuple[CdiSpecification, ...]] = field(default_factory=partial(missing, Unknown.NOT_RECORDED, CDI_DIRECTORY))
    """Files of NVIDIA's devices; a value only where all files of the directories could be read."""
    module_files: tuple[ModuleFile, ...] = ()
    """Of the kernel that boots next; of the running one those that it lacks; () where `deep` is false."""
    environments: tuple[PythonEnvironment, ...] = ()
    """() where `deep` is false."""
    code: tuple[DeviceCode, ...] = ()
    """Of libraries that are in no Python environment, such as the back ends of llama.cpp; () where `deep` is false."""
    denied: tuple[str, ...] = ()
    """Directories of the search for environments that this user may not look into."""
