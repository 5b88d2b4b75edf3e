"""Words that checks share: which accelerators compute, which processes are one engine, what a platform hides."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.system import CgroupFacts, EngineProcess
from bedplate.model.units import GIB
from bedplate.plan.engine_arguments import argument

NVIDIA, MELLANOX = 0x10DE, 0x15B3
# Classes of the PCI Code and ID Assignment Specification, upper 16 bits.
DISPLAY, CONTROLLER_3D, DISPLAY_OTHER = 0x0300, 0x0302, 0x0380
BRIDGE_OTHER = 0x0680  # what an NVSwitch says that it is
NVME = 0x0108
FIRST_TURING = 0x1E00
"""PCI device number from which on NVIDIA's display adapters compute as their data centre cards do."""
# Graphics cards of AMD and Intel that are of a display class and compute, by their names in the register of PCI numbers; the
# graphics of a processor have other names.
_COMPUTING_DISPLAY = re.compile(r"\bNavi [234]\d\b|\[Radeon (?:RX|PRO|AI)\b|\bBattlemage\b|\bDG2\b|\[Arc\b")
# A display adapter with less than this shows a desktop; the models that fit into it fit into the caches of a CPU.
_LEAST_MEMORY = 4 * GIB
# Drivers that keep a device for a virtual machine: it is not this host's to use.
GIVEN_AWAY = ("vfio-pci", "pci-stub", "xen-pciback", "nvgrace_gpu_vfio_pci")
# PCI vendors whose devices hypervisors make: virtio and QEMU (Red Hat), Bochs, VMware, Xen, Hyper-V, Parallels, VirtualBox.
_HYPERVISORS = (0x1AF4, 0x1B36, 0x1234, 0x15AD, 0x5853, 0x1414, 0x1AB8, 0x80EE)
_CONTAINER_PATH = re.compile(r"docker|kubepods|libpod|containerd|crio|/lxc|lxc\.payload|machine-[^/]{0,255}\.scope|/payload")
_CPU_WORDS = (
    *(("--device", "cpu"), ("--device", "none"), ("-ngl", "0"), ("--gpu-layers", "0"), ("--n-gpu-layers", "0")),
    *(("-dev", "none"), ("--n_gpu_layers", "0")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The processes of one engine in one cgroup: a server and its workers."""

    engine: str
    path: str
    processes: tuple[EngineProcess, ...]
    """By process number."""

    @property
    def cgroup(self) -> CgroupFacts:
        """The control group that all its processes share, as the first of them shows it."""
        return self.processes[0].cgroup

    @property
    def where(self) -> tuple[str, ...]:
        """Its processes as findings name them: "pid 4711", in the order of their numbers."""
        return tuple(f"pid {process.pid}" for process in self.processes)

    @property
    def name(self) -> str:
        """ "vllm (pid 4711)", "vllm (pid 4711 and 8 more)"."""
        more = f" and {len(self.processes) - 1} more" if len(self.processes) > 1 else ""
        return f"{self.engine} (pid {self.processes[0].pid}{more})"

    @property
    def devices(self) -> tuple[str, ...]:
        """Accelerator device files that its processes hold open, each once; some may be missing without `devices_known`."""
        return tuple(sorted({device for process in self.processes for device in process.devices}))

    @property
    def devices_known(self) -> bool:
        """Whether the open files of every process could be read; where not, "uses no GPU" must not be concluded."""
        return all(process.devices_known for process in self.processes)

    @property
    def run_s(self) -> float:
        """CPU seconds of all its threads since they started (schedstat): a few say that it has not served yet."""
        return sum(thread.run_s for process in self.processes for thread in process.threads)


def deployments(facts: HostFacts) -> tuple[Deployment, ...]:
    """Engines that run, by their first process."""
    groups: dict[tuple[str, str], list[EngineProcess]] = {}
    for process in sorted(facts.engines, key=lambda process: process.pid):
        groups.setdefault((process.engine, process.cgroup.path), []).append(process)
    return tuple(Deployment(engine=engine, path=path, processes=tuple(those)) for (engine, path), those in groups.items())


def accelerator_files(deployment: Deployment) -> tuple[str, ...]:
    """Device files of single accelerators that it holds open; /dev/kfd, which is one for all of AMD's, is none of them."""
    return tuple(
        device for device in deployment.devices if re.fullmatch(r"/dev/(nvidia|dri/renderD|accel/accel)\d{1,4}", device)
    )


def wants_cpu(deployment: Deployment) -> bool:
    """Whether its command line says that no accelerator is to be used."""
    return any(argument(process, name) == value for process in deployment.processes for name, value in _CPU_WORDS)


def by_address(facts: HostFacts) -> dict[str, PciDevice]:
    """The whole PCI tree as a lookup: "0000:19:00.0" gives a function, whose `parent` leads up to its host bridge."""
    return {device.address: device for device in facts.pci}


def device_of(facts: HostFacts, accelerator: Accelerator) -> PciDevice | None:
    """The PCI function that an accelerator is; None where it is not on PCI, or its address was not recorded."""
    return by_address(facts).get(accelerator.address or "")


def is_nvswitch(device: PciDevice) -> bool:
    """The management function of an NVSwitch; what it switches does not cross PCI Express."""
    return device.vendor == NVIDIA and device.class_code >> 8 == BRIDGE_OTHER


def is_given_away(device: PciDevice | None) -> bool:
    """Whether a stub driver (vfio-pci, ...) keeps it for a virtual machine: this kernel cannot use it. False for None."""
    return device is not None and device.driver.value in GIVEN_AWAY


def computes(accelerator: Accelerator, device: PciDevice | None) -> bool | None:
    """Whether it is there to compute, not to show a desktop; None when that cannot be told."""
    if accelerator.memory_bytes.value is not None and accelerator.memory_bytes.value >= _LEAST_MEMORY:
        return True
    if device is None:
        return True if accelerator.address is None else None
    code = device.class_code >> 8
    if code == CONTROLLER_3D or code >> 8 == 0x12:
        return True
    if accelerator.memory_bytes.value is not None:
        return False
    if accelerator.vendor == "nvidia":
        return True if device.device >= FIRST_TURING else None
    return _COMPUTING_DISPLAY.search(device.name) is not None


def attribute_source(device: PciDevice, name: str) -> str:
    """What told an attribute of a device: its file, or the listing that the whole device was read from."""
    return (
        f"/sys/bus/pci/devices/{device.address}/{name}" if device.driver.source.startswith("/sys/") else device.driver.source
    )


def accelerators(facts: HostFacts) -> tuple[Accelerator, ...]:
    """Those that compute and that are this host's to use."""
    devices = by_address(facts)
    return tuple(
        accelerator
        for accelerator in facts.accelerators
        if computes(accelerator, devices.get(accelerator.address or ""))
        and not is_given_away(devices.get(accelerator.address or ""))
    )


def name_of(accelerator: Accelerator) -> str:
    """What stands for it in `where`: its address, or vendor and number without one."""
    return accelerator.address or f"{accelerator.vendor} {accelerator.index}"


def is_virtual(facts: HostFacts) -> bool | None:
    """Whether a hypervisor stands between the kernel and the machine; None when not known."""
    told = facts.os.virtualisation.value
    if told is not None:
        return told != "none"
    # Of a text nothing else may be known: CPUID has a bit for hypervisors, and their devices have vendors of their own.
    if "hypervisor" in facts.cpu.flags or any(device.vendor in _HYPERVISORS for device in facts.pci):
        return True
    return None


def is_container(facts: HostFacts) -> bool | None:
    """Whether the reader itself runs in a container, not the engines; None when that is not known."""
    told = facts.os.container.value
    return None if told is None else told != "none"


def is_confidential(facts: HostFacts) -> bool:
    """Whether isolation is what this machine is for."""
    return facts.os.tee.value not in (None, "none") or has_confidential_accelerator(facts)


def has_confidential_accelerator(facts: HostFacts) -> bool:
    """Whether an accelerator says that it is in confidential mode; one that does not say counts as not."""
    return any(accelerator.confidential.value is True for accelerator in facts.accelerators)


def in_container(facts: HostFacts, deployment: Deployment) -> bool | None:
    """Whether an engine sees other mounts than the reader: it is in a container, the reader outside; None: unknown."""
    here = is_container(facts)
    if here is None:
        return None
    return not here and _CONTAINER_PATH.search(deployment.path) is not None


def processes_seen(facts: HostFacts) -> bool:
    """Whether the reader could have found engines; a recording without /proc says nothing of them."""
    return bool(facts.engines) or facts.os.init.unknown is not Unknown.NOT_RECORDED


def has_module(facts: HostFacts, name: str) -> bool | None:
    """Whether a module is loaded; None when no list of modules could be read."""
    if not facts.kernel.modules:
        return None
    return any(module == name for module, _ in facts.kernel.modules)


def has_parameter(facts: HostFacts, name: str) -> str | None:
    """A parameter of the kernel command line as it stands there, "isolcpus=2-7"; the last one, None without any."""
    found = [word for word in facts.kernel.cmdline if word == name or word.startswith(name + "=")]
    return found[-1] if found else None


DRAIN_FOR_REBOOT = "# The reboot interrupts every engine of this host: drain them first."
"""What stands before each `reboot` of a fix."""


def command_line_fix(facts: HostFacts, word: str, *, take_out: bool = False) -> tuple[str, ...]:
    """How a word of the kernel command line is put in or taken out, in the way of the distribution."""
    if facts.os.id in ("fedora", "rhel", "rocky", "almalinux", "centos"):
        return (f"grubby --update-kernel=ALL --{'remove-args' if take_out else 'args'}='{word}'", DRAIN_FOR_REBOOT, "reboot")
    what = f"take {word} out" if take_out else f"put {word} in"
    if facts.os.id in ("debian", "ubuntu"):
        return (f"# In GRUB_CMDLINE_LINUX of /etc/default/grub {what}.", "update-grub", DRAIN_FOR_REBOOT, "reboot")
    return (f"# In the boot loader's kernel command line {what}.", DRAIN_FOR_REBOOT, "reboot")
