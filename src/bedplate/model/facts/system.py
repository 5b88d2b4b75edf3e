"""The kernel, the system around it, cgroups and limits of this process, and the engines that run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.facts.number_lists import CpuList, NodeList
from bedplate.model.facts.reading import NOT_ASKED, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFacts:
    """The kernel that runs, those that are installed, and which of them have a driver for the accelerators."""

    release: Reading[str]
    cmdline: tuple[str, ...]
    taint: Reading[int]
    lockdown: Reading[str]
    """none, integrity or confidentiality."""
    modules: tuple[tuple[str, str], ...]
    """(name, version or ""), sorted; () when /proc/modules is not readable."""
    next_release: Reading[str]
    """What the next boot starts, where that can be told: /boot symlinks, loader entries, else the newest of /lib/modules."""
    installed: tuple[str, ...]
    """Releases in /lib/modules, sorted by version."""
    gpu_modules: tuple[tuple[str, tuple[str, ...]], ...]
    """(release, GPU modules found for it: nvidia, nvidia-open, amdgpu, xe, i915, nouveau), one row an installed release."""
    nvidia_flavour: Reading[str]
    """open or proprietary, of the loaded module (/proc/driver/nvidia/version); ABSENT without one."""
    config: tuple[tuple[str, str], ...]
    """("CONFIG_PSI", "y") of /boot/config-RELEASE or /proc/config.gz, only the options that the catalog asks about."""
    vulnerabilities: tuple[tuple[str, str], ...]
    clocksource: Reading[str]
    clocksources: tuple[str, ...]
    modules_source: str = "/proc/modules"
    """What listed `modules`."""
    nvidia_version: Reading[str] = NOT_ASKED
    """Version of the NVIDIA module that is loaded; ABSENT without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsFacts:
    """The distribution, what it runs in (virtual machine, container, confidential guest), and who else sets its knobs."""

    id: str
    """ID of os-release; "" when there is none."""
    version: str
    pretty_name: str
    init: Reading[str]
    """Name of process 1."""
    systemd: bool
    virtualisation: Reading[str]
    """kvm, qemu, vmware, hyperv, xen, amazon, google, ..., or "none" on bare metal."""
    container: Reading[str]
    """docker, podman, lxc, kubernetes, systemd-nspawn, or "none"."""
    tee: Reading[str]
    """tdx, sev-snp, sev, or "none"."""
    unattended_upgrades: Reading[bool]
    driver_packages_held: Reading[bool]
    """Whether unattended upgrades leave the GPU driver alone (blacklist or hold)."""
    co_owners: tuple[str, ...]
    """Programs that also set kernel knobs here and run now: tuned, power-profiles-daemon, irqbalance, bpftune, kubelet."""
    cdi_files: tuple[str, ...]
    runtimes: tuple[str, ...]
    """Container runtimes whose binary or socket is there."""
    front_openings: tuple[str, ...] = ()
    """Ways in which bedplate's own front end is open to others than holders of keys, as sentences; () where none runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFacts:
    """Memory, swap and huge pages of the whole machine, from /proc/meminfo and /sys/kernel/mm."""

    total_bytes: int
    available_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    thp: Reading[str]
    thp_defrag: Reading[str]
    zswap: Reading[bool]
    zram: bool
    huge_pages: tuple[tuple[int, int, int], ...]
    """(size in bytes, total, free) of the whole machine."""
    shm_bytes: Reading[int]
    """Size of the tmpfs on /dev/shm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFacts:
    """The cgroup of one process: this one, or an engine's."""

    version: int
    """2, 1, or 0 when no hierarchy is mounted."""
    path: str
    cpus: Reading[CpuList]
    mems: Reading[NodeList]
    quota_cpus: Reading[float]
    """CPUs' worth of time by the narrowest quota of the chain; ABSENT without a quota."""
    throttled_periods: Reading[int]
    periods: Reading[int]
    throttled_s: Reading[float]
    memory_max_bytes: Reading[int]
    """The narrowest limit of the chain; ABSENT without one."""
    memory_current_bytes: Reading[int]
    swap_max_bytes: Reading[int]
    cpu_weight: Reading[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread of an engine: where it may run, and the seconds since its start that it ran or waited for a CPU."""

    tid: int
    name: str
    allowed: CpuList
    """CPUs of Cpus_allowed_list."""
    run_s: float
    wait_s: float
    """Runnable and not running: field 2 of schedstat."""
    policy: str
    """other, batch, idle, fifo, rr, deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProcess:
    """One process that is known by its command line to be an inference engine, and what the kernel reports of it."""

    engine: str
    """vllm, sglang, llama.cpp, triton, ollama, tgi, tensorrt-llm, ..."""
    pid: int
    argv: tuple[str, ...]
    """Secrets (--api-key ...) replaced."""
    threads: tuple[Thread, ...]
    cgroup: CgroupFacts
    rss_bytes: int
    swap_bytes: int
    numa_bytes: tuple[tuple[int, int], ...]
    """(node, bytes resident there); () when numa_maps is not readable."""
    limits: tuple[tuple[str, int | None], ...]
    """(nofile|memlock|nproc, soft limit; None is unlimited)."""
    oom_score_adj: int
    devices: tuple[str, ...]
    """Accelerator device files that it holds open (/dev/nvidia0, /dev/kfd, /dev/dri/renderD128); () also when denied."""
    devices_known: bool
    """False when its open files could not be read: "uses no GPU" must not be concluded."""
    model_paths: tuple[str, ...]
    """Model files or directories that its command line names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount point of /proc/self/mountinfo; `kind` is the type of the file system, "ext4"."""

    point: str
    source: str
    kind: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Stalls on one resource (PSI): percent of the last minute in which some task, or all of them, waited for it.

    `full_avg60` is None where the kernel has no such line; irq has a full line only, and 0 for some.
    Source: Documentation/accounting/psi.rst.
    """

    resource: str
    """cpu, memory, io, irq."""
    some_avg60: float
    full_avg60: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frameworks:
    """What an environment report (collect_env of PyTorch and vLLM, check_env of SGLang) says of the Python side."""

    cuda_available: Reading[bool] = NOT_ASKED
    """Whether PyTorch finds an accelerator that it can use; ROCm builds call it CUDA too."""
    versions: tuple[tuple[str, str], ...] = ()
    """(name, version): ("torch", "2.9.1+cu130"), ("vllm", "0.11.0"), by name."""
    environment: tuple[tuple[str, str], ...] = ()
    """(variable, value) of variables that steer accelerators, NCCL and engines, by name; secrets are hidden."""
    source: str = ""
    """What said so; "" when nothing did."""


NO_FRAMEWORKS = Frameworks()
"""Of a machine of which no environment report was read."""


class FailureKind(StrEnum):
    """What a vendor's tool or a framework says when it does not answer."""

    NO_DEVICES = "no-devices"
    NO_DRIVER = "no-driver"
    NO_LIBRARY = "no-library"
    VERSION_MISMATCH = "version-mismatch"
    CONTAINER = "container"
    """NVML answers "Unknown Error" to its first call: a container has lost its devices."""
    DEVICE_LOST = "device-lost"
    DIAGNOSTIC_FAILED = "diagnostic-failed"
    """A test of NVIDIA's diagnostic, or a watch of its health monitor, failed."""
    DIAGNOSTIC_WARNED = "diagnostic-warned"
    FABRIC = "fabric"
    """CUDA error 802, system not yet initialized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailure:
    """An error that a vendor's tool printed instead of an answer."""

    kind: FailureKind
    text: str
    """As it was printed, shortened."""
    source: str
    """The tool: "nvidia-smi"."""
    address: str | None = None
    """PCI address of the device that it is about; None where it is about all of them, or names none."""
    version: str = ""
    """Of the library, where the text says it: "591.12"."""


class EngineNoteKind(StrEnum):
    """What an engine's log says of how it runs."""

    NO_DEVICE = "no-device"
    """It found no accelerator, or was built without support for one."""
    PARTLY_OFFLOADED = "partly-offloaded"
    """Some layers stay on the CPU."""
    KV_CACHE_SMALL = "kv-cache-small"
    """The KV cache holds less than one request of the longest length."""
    EAGER = "eager"
    """CUDA graphs are off."""
    NO_CUSTOM_ALLREDUCE = "no-custom-allreduce"
    """The engine's own all-reduce is off, NCCL's is used."""
    MEMORY_TAKEN = "memory-taken"
    """Another process held the accelerator's memory when it started."""
    MEMORY_HELD = "memory-held"
    """A model that was unloaded still held the accelerator's memory."""
    WEIGHT_ONLY = "weight-only"
    """The accelerator does not compute in the format of the weights: they are unpacked to a larger one."""
    NO_PREFIX_CACHE = "no-prefix-cache"
    """The cache of prefixes is off for this kind of model."""
    PROMPT_AGAIN = "prompt-again"
    """A whole prompt was read again, though its beginning was known."""
    KV_CACHE_FULL = "kv-cache-full"
    """Requests were taken back from the middle of their answer."""
    CONTEXT_OVER = "context-over"
    """The context is longer than the model was trained for."""
    NO_FLASH_ATTENTION = "no-flash-attention"
    """The accelerator has no kernel for the model's attention, or one layer is on another device."""
    NOT_LOCKED = "not-locked"
    """The weights could not be locked in memory."""
    OFFLOADED = "offloaded"
    """Weights are in the host's memory or on its disk, and are copied for each step."""
    COLLECTIVE_TIMEOUT = "collective-timeout"
    """A collective operation did not end on a rank."""
    NO_ASYNC_SCHEDULING = "no-async-scheduling"
    """The next step is planned only when the last one is done."""
    TOOLCHAIN = "toolchain"
    """The engine's code was compiled by a newer CUDA than the driver knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNote:
    """A line of an engine's log that says how it runs."""

    kind: EngineNoteKind
    engine: str
    """vllm, llama.cpp, ollama, sglang, pytorch or transformers."""
    text: str
    """The line without time and place, shortened."""
    source: str = ""
    """The file or journal of a running engine, or its counter; "" for a line of a text that was given."""
