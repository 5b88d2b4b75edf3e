"""The kernel that runs, those that are installed, and the one that boots next.

Sources: proc(5), Documentation/admin-guide/tainted-kernels.rst, kernel_lockdown(7), modules.dep(5), the Boot Loader
Specification, Documentation/ABI/testing/sysfs-devices-system-cpu (vulnerabilities), sysfs-devices-system-clocksource.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection

from bedplate.host.kernel.attributes import read_int
from bedplate.host.kernel.nextkernel import read_next_release
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import KernelFacts
from bedplate.model.versions import version_key

# Options that findings need; those of the knobs' rows come beside them.
CONFIG_OPTIONS = (
    *("CONFIG_PSI", "CONFIG_PSI_DEFAULT_DISABLED", "CONFIG_SCHED_AUTOGROUP", "CONFIG_SCHED_CLASS_EXT", "CONFIG_SCHEDSTATS"),
    *("CONFIG_NUMA", "CONFIG_NUMA_BALANCING", "CONFIG_TRANSPARENT_HUGEPAGE", "CONFIG_HUGETLBFS", "CONFIG_LRU_GEN"),
    *("CONFIG_HZ", "CONFIG_NO_HZ_FULL", "CONFIG_PREEMPT_DYNAMIC", "CONFIG_CPUSETS", "CONFIG_CFS_BANDWIDTH"),
    *("CONFIG_BLK_CGROUP_IOCOST", "CONFIG_MODULE_SIG_FORCE", "CONFIG_IOMMU_DEFAULT_PASSTHROUGH", "CONFIG_PCI_P2PDMA"),
)
GPU_MODULES = ("nvidia", "amdgpu", "xe", "i915", "nouveau")
# modules.dep: "updates/dkms/nvidia.ko.xz: kernel/drivers/video/..."; modules.builtin has no colon.
# Debian's packages name the file of NVIDIA's module after its branch: nvidia-current.ko, nvidia-tesla-535.ko, with -open.
GPU_MODULE_LINE = re.compile(
    rf"^(?P<path>\S*/)?(?P<name>{'|'.join(GPU_MODULES)})(?P<branch>-(?:current|tesla(?:-\d{{3}})?|legacy-\d{{3}}xx))?"
    r"(?P<open>-open)?(?P<packing>\.ko(?:\.\w+)?)(?::.*)?$",
    re.MULTILINE,
)

RELEASE = re.compile(r"[0-9][\w.+~-]{0,127}")
"""A release of the kernel as directories are named: "6.12.48+deb13-amd64"; nothing that leads elsewhere."""
_MODULE = re.compile(r"[\w-]{1,64}")
NVIDIA_VERSION = re.compile(r"Kernel Module(?: for \w{1,20})? {1,4}(\d{2,4}\.\d[\d.]{0,12})", re.ASCII)
"""In /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.48.01  Release Build"."""
_LISTED = 4096  # modules; a distribution's kernel loads some 200
_CONFIG_LIMIT = 2 << 20  # bytes; Debian's is 280 KB


def read_kernel(root: Root, *, config_options: Collection[str] = CONFIG_OPTIONS) -> KernelFacts:
    """Facts of the kernel. In a container they are the host's, except what is installed."""
    release = _read_release(root)
    installed = read_installed(root)
    return KernelFacts(
        release=release,
        cmdline=parse_cmdline(root.read("/proc/cmdline").value or ""),
        taint=read_int(root, "/proc/sys/kernel/tainted"),
        lockdown=read_choice(root, "/sys/kernel/security/lockdown"),
        modules=_read_modules(root),
        next_release=read_next_release(root, installed),
        installed=installed,
        gpu_modules=tuple((version, read_gpu_modules(root, version)) for version in installed),
        nvidia_flavour=read_nvidia_flavour(root),
        nvidia_version=read_nvidia_version(root),
        config=_read_config(root, release.value, config_options),
        vulnerabilities=_read_vulnerabilities(root),
        clocksource=root.read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clocksources=tuple(
            (root.read("/sys/devices/system/clocksource/clocksource0/available_clocksource").value or "").split()
        ),
    )


def read_choice(root: Root, where: str) -> Reading[str]:
    """The chosen word of a file that lists all: "none [integrity] confidentiality" -> "integrity"."""
    reading = root.read(where)
    if reading.value is None:
        return reading
    found = re.search(r"\[([^\]\s]{1,80})\]", reading.value)
    if found is None:
        return missing(Unknown.MALFORMED, where, reading.text)
    return known(found[1], where, reading.text)


def parse_cmdline(text: str) -> tuple[str, ...]:
    """Parameters of a kernel command line; blanks inside double quotes do not part them."""
    return tuple(re.findall(r'(?:[^\s"]|"[^"]*"?)+', text))


def read_installed(root: Root) -> tuple[str, ...]:
    """Releases in /lib/modules that hold modules, by version; what a removed kernel left behind is not one."""
    return tuple(
        sorted(
            (
                name
                for name in root.listdir("/lib/modules")
                if RELEASE.fullmatch(name)
                and (root.exists(f"/lib/modules/{name}/modules.dep") or root.exists(f"/lib/modules/{name}/kernel"))
            ),
            key=version_key,
        )
    )


def read_gpu_modules(root: Root, release: str) -> tuple[str, ...]:
    """GPU modules that modprobe would find for a release, sorted; "nvidia-open" where the module's directory says so."""
    found: set[str] = set()
    for table in ("modules.dep", "modules.builtin"):
        for match in GPU_MODULE_LINE.finditer(root.read(f"/lib/modules/{release}/{table}").value or ""):
            is_open = match["name"] == "nvidia" and (match["open"] is not None or "open" in (match["path"] or ""))
            found.add("nvidia-open" if is_open else match["name"])
    return tuple(sorted(found))


def read_nvidia_flavour(root: Root) -> Reading[str]:
    """open or proprietary, as the loaded module says of itself."""
    where = "/proc/driver/nvidia/version"
    reading = root.read(where)
    if reading.value is None:
        return reading
    first = reading.value.split("\n", 1)[0]
    if "Open Kernel Module" in first:
        return known("open", where, first)
    if "Kernel Module" in first:
        return known("proprietary", where, first)
    return missing(Unknown.MALFORMED, where, reading.text)


def read_nvidia_version(root: Root) -> Reading[str]:
    """Version of the NVIDIA module that is loaded, as it says of itself: "590.48.01"."""
    reading = root.read("/proc/driver/nvidia/version")
    if reading.value is None:
        return reading
    found = NVIDIA_VERSION.search(reading.value)
    return missing(Unknown.MALFORMED, reading.source, reading.text) if found is None else known(found[1], reading.source)


def parse_config(text: str, options: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Of a kernel configuration, the named options: "CONFIG_HZ=250" -> ("CONFIG_HZ", "250"); one that is off is "n"."""
    wanted, found = set(options), dict[str, str]()
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            if name in wanted:
                found[name] = value.strip('"')
    return tuple((name, found.get(name, "n")) for name in sorted(wanted))


def _read_release(root: Root) -> Reading[str]:
    reading = root.read("/proc/sys/kernel/osrelease")
    if reading.value is not None:
        return reading
    version = root.read("/proc/version")
    words = (version.value or "").split()
    return known(words[2], "/proc/version") if words[:2] == ["Linux", "version"] and len(words) > 2 else reading


def _read_modules(root: Root) -> tuple[tuple[str, str], ...]:
    lines = (root.read("/proc/modules").value or "").splitlines()
    names = sorted({name for line in lines if _MODULE.fullmatch(name := line.split(" ", 1)[0])})
    return tuple((name, root.read(f"/sys/module/{name}/version").value or "") for name in names[:_LISTED])


def _read_config(root: Root, release: str | None, options: Collection[str]) -> tuple[tuple[str, str], ...]:
    """() when the configuration cannot be read: an option that is not said is not an option that is off."""
    named = release is not None and RELEASE.fullmatch(release)
    for where in (f"/boot/config-{release}", f"/lib/modules/{release}/config") if named else ():
        text = root.read(where, limit=_CONFIG_LIMIT).value
        if text is not None:
            return parse_config(text, options)
    packed = root.read_bytes("/proc/config.gz", _CONFIG_LIMIT).value
    if packed is None:
        return ()
    machine = zlib.decompressobj(wbits=31)
    try:
        plain = machine.decompress(packed, _CONFIG_LIMIT)
    except zlib.error:
        return ()
    if not machine.eof:  # cut off: options that it does not hold may be on
        return ()
    return parse_config(plain.decode("ascii", errors="replace"), options)


def _read_vulnerabilities(root: Root) -> tuple[tuple[str, str], ...]:
    where = "/sys/devices/system/cpu/vulnerabilities"
    read = ((name, root.read(f"{where}/{name}").value) for name in root.listdir(where))
    return tuple((name, value) for name, value in read if value is not None)
