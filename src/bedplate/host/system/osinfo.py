"""The system around the kernel: distribution, init, what it runs in, and who else sets things here.

Detection follows systemd's virt.c and confidential-virt.c where it can be done by reading alone. Sources: os-release(5),
Documentation/virt/coco/tdx-guest.rst and sev-guest.rst, the Container Interface of systemd, apt.conf(5),
Container Device Interface specification (/etc/cdi, /var/run/cdi).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.errors import ReadError
from bedplate.host.kernel.processes import Process
from bedplate.host.root.root import Root
from bedplate.host.system.front_record import read_front_record
from bedplate.host.system.upgrades import read_driver_held, read_unattended
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import Mount, OsFacts

# DMI text: what systemd's table says, most telling field first.
_DMI = ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version", "chassis_asset_tag")
_VENDORS = (
    ("KubeVirt", "kvm"),
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("Firecracker", "kvm"),
    ("Google Compute Engine", "google"),
    ("Google", "google"),
    ("Amazon EC2", "amazon"),
    ("QEMU", "qemu"),
    ("Bochs", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "hyperv"),
    ("Apple Virtualization", "apple"),
    ("7783-7084-3265-9085-8269-3286-77", "hyperv"),  # asset tag of Azure
)
DMI_STARTS = tuple(start for start, _ in _VENDORS)
_CLOCKS = {"kvm-clock": "kvm", "hyperv_clocksource": "hyperv", "xen": "xen"}
_MISC = "/sys/devices/virtual/misc"

# Programs that set kernel knobs by themselves, by the first 15 characters of their names.
CO_OWNERS = {
    "tuned": "tuned",
    "tuned-ppd": "tuned-ppd",
    "power-profiles-": "power-profiles-daemon",
    "irqbalance": "irqbalance",
    "bpftune": "bpftune",
    "kubelet": "kubelet",
    "thermald": "thermald",
    "auto-cpufreq": "auto-cpufreq",
    "numad": "numad",
    "ksmtuned": "ksmtuned",
    "uresourced": "uresourced",
    "earlyoom": "earlyoom",
    "systemd-oomd": "systemd-oomd",
    "ananicy": "ananicy",
    "ananicy-cpp": "ananicy-cpp",
    "nvidia-powerd": "nvidia-powerd",
}

_RUNTIMES = (
    ("containerd", ("/run/containerd/containerd.sock", "/usr/bin/containerd")),
    ("docker", ("/run/docker.sock", "/usr/bin/dockerd")),
    ("podman", ("/usr/bin/podman",)),
    ("cri-o", ("/run/crio/crio.sock", "/usr/bin/crio")),
    ("lxc", ("/usr/bin/lxc-start",)),
    ("apptainer", ("/usr/bin/apptainer",)),
    ("nvidia-container-toolkit", ("/usr/bin/nvidia-ctk", "/usr/bin/nvidia-container-runtime")),
    ("kubelet", ("/usr/bin/kubelet", "/var/lib/kubelet/config.yaml")),
)


def read_os(root: Root, processes: Sequence[Process], mounts: Sequence[Mount], flags: Sequence[str]) -> OsFacts:
    """Facts of the system; flags are those of /proc/cpuinfo."""
    release = parse_os_release(root.read("/etc/os-release").value or root.read("/usr/lib/os-release").value or "")
    virtualisation = read_virtualisation(root, flags)
    unattended = read_unattended(root)
    names = {process.comm for process in processes}
    return OsFacts(
        id=release.get("ID", ""),
        version=release.get("VERSION_ID", ""),
        pretty_name=release.get("PRETTY_NAME", ""),
        init=root.read("/proc/1/comm"),
        systemd=root.exists("/run/systemd/system"),
        virtualisation=virtualisation,
        container=read_container(root, mounts),
        tee=read_tee(root, flags, virtualisation),
        unattended_upgrades=unattended,
        driver_packages_held=read_driver_held(root),
        co_owners=tuple(sorted({name for comm, name in CO_OWNERS.items() if comm in names})),
        cdi_files=tuple(
            f"{directory}/{name}"
            for directory in ("/etc/cdi", "/var/run/cdi")
            for name in root.listdir(directory)
            if name.endswith((".json", ".yaml", ".yml"))
        ),
        runtimes=tuple(name for name, files in _RUNTIMES if any(root.exists(file) for file in files)),
        front_openings=_read_front_openings(root),
    )


def _read_front_openings(root: Root) -> tuple[str, ...]:
    """What `bedplate serve prepare` has recorded; () for a file that is none of its."""
    try:
        openings = read_front_record(root).get("openings")
    except ReadError:
        return ()
    rows = openings[:8] if isinstance(openings, list) else ()
    return tuple(text for text in rows if isinstance(text, str) and len(text) < 200 and text.isprintable())


def parse_os_release(text: str) -> dict[str, str]:
    """'ID="ubuntu"' -> {"ID": "ubuntu"}; the file is shell assignments without expansions."""
    values: dict[str, str] = {}
    for line in text.splitlines()[:256]:
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            value = value.strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = re.sub(r'\\([\\"$`])', r"\1", value[1:-1])
            values[name] = value
    return values


def read_virtualisation(root: Root, flags: Sequence[str]) -> Reading[str]:
    """What the machine runs in. The CPU flag `hypervisor` decides on x86, since clouds sell bare metal with the same DMI."""
    kind = root.read("/sys/hypervisor/type")
    if kind.value == "xen":
        dom0 = "control_d" in (root.read("/proc/xen/capabilities").value or "")
        return known("none" if dom0 else "xen", kind.source, kind.text)
    is_x86 = "fpu" in flags
    if is_x86 and "hypervisor" not in flags:
        return known("none", "/proc/cpuinfo", "x86 without the flag hypervisor")
    denied: Reading[str] | None = None
    read_any = False
    for name in _DMI:
        reading = root.read(f"/sys/class/dmi/id/{name}")
        text = reading.value or ""
        read_any = read_any or bool(text)
        denied = reading if reading.unknown is Unknown.DENIED else denied
        if text.endswith(".metal"):
            return known("none", reading.source, text)
        if name == "sys_vendor" and text == "Microsoft Corporation" and is_x86:
            return known("hyperv", reading.source, text)
        for start, value in _VENDORS:
            if text.startswith(start):
                return known(value, reading.source, text)
    clock = root.read("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    for word in (clock.value or "").split():
        if word in _CLOCKS:
            return known(_CLOCKS[word], clock.source, clock.text)
    compatible = root.read("/proc/device-tree/hypervisor/compatible")
    if compatible.value is not None:
        return known("kvm" if "kvm" in compatible.value else "other", compatible.source, compatible.text)
    if is_x86:
        return known("other", "/proc/cpuinfo", "x86 with the flag hypervisor, of which nothing says whose")
    if read_any:  # an ARM server whose firmware names no hypervisor
        return known("none", "/sys/class/dmi/id", "names no hypervisor")
    if root.read("/proc/device-tree/model").value is not None:
        return known("none", "/proc/device-tree", "has no hypervisor")
    return denied or missing(root.read("/proc/cpuinfo").unknown or Unknown.HIDDEN, "/sys/class/dmi/id")


def read_container(root: Root, mounts: Sequence[Mount]) -> Reading[str]:
    """Which container this process is in.

    A machine whose root file system was made from an image keeps /.dockerenv; where process 2 is kthreadd and the root is
    no overlay it is a machine all the same.
    """
    is_host = root.read("/proc/2/comm").value == "kthreadd"
    on_overlay = any(mount.point == "/" and mount.kind in ("overlay", "fuse-overlayfs", "aufs") for mount in mounts)
    for where in ("/run/host/container-manager", "/run/systemd/container"):
        named = root.read(where)
        if named.value:
            return known(named.value.split("\n", 1)[0][:40], where)
    groups = root.read("/proc/self/cgroup")
    inside = not is_host or on_overlay
    if inside and (root.exists("/var/run/secrets/kubernetes.io") or "kubepods" in (groups.value or "")):
        return known("kubernetes", "/var/run/secrets/kubernetes.io")
    for where, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if root.exists(where) and inside:
            return known(name, where)
    environment = root.read_bytes("/proc/1/environ", 65536)
    found = re.search(rb"(?:^|\0)container=([A-Za-z0-9_-]{1,40})", environment.value or b"")
    if found is not None:
        return known(found[1].decode(), "/proc/1/environ", found[0].decode().strip("\0"))
    for word, name in (("docker", "docker"), ("libpod", "podman"), ("/lxc", "lxc"), ("containerd", "containerd")):
        if inside and word in (groups.value or ""):
            return known(name, "/proc/self/cgroup", groups.text)
    if is_host:
        return known("none", "/proc/2/comm", "kthreadd")
    if on_overlay:
        return known("other", "/proc/self/mountinfo", "the root is an overlay and kernel threads are hidden")
    unknown = root.read("/proc/2/comm").unknown or Unknown.HIDDEN
    return missing(Unknown.HIDDEN if unknown is Unknown.ABSENT else unknown, "/proc/2/comm")


def read_tee(root: Root, flags: Sequence[str], virtualisation: Reading[str]) -> Reading[str]:
    """The trusted execution environment that this machine runs in, not what its CPU could give to others."""
    if "tdx_guest" in flags or root.exists(f"{_MISC}/tdx_guest"):
        return known("tdx", "/proc/cpuinfo" if "tdx_guest" in flags else f"{_MISC}/tdx_guest")
    if root.exists(f"{_MISC}/sev-guest"):
        return known("sev-snp", f"{_MISC}/sev-guest")
    if virtualisation.value is None:
        return missing(virtualisation.unknown or Unknown.ABSENT, virtualisation.source)
    if virtualisation.value != "none" and ("sev" in flags or "sev_es" in flags):
        return known("sev", "/proc/cpuinfo", "a guest with the flag sev")
    return known("none", _MISC, "neither tdx_guest nor sev-guest")
