"""What tools and frameworks said when they failed, and what an environment report shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.system import FailureKind, ToolFailure
from bedplate.model.wording import plural, render_cpus
from bedplate.plan.rules.observation import Observation, seen, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import accelerators, device_of, is_virtual, name_of

_HABANA = "1da3"
_CUDA = "CUDA"  # the source of what CUDA itself says; all else is said by nvidia-smi
_SESSION = "Python session"  # the source of an answer that somebody asked PyTorch for
_ERRORS_MOST = 4  # of one kind that are shown; the rest is counted
_LINKED = ("NVLink", "XGMI")
# Variables that take a path or a device away. Sources: NCCL User Guide, Environment Variables; CUDA C++ Programming Guide.
_COSTLY = (
    ("NCCL_P2P_DISABLE", ("1",), "NCCL does not use peer-to-peer, neither NVLink nor PCI Express"),
    ("NCCL_SHM_DISABLE", ("1",), "NCCL does not use shared memory"),
    ("NCCL_IB_DISABLE", ("1",), "NCCL does not use RDMA"),
    ("NCCL_P2P_LEVEL", ("LOC", "0"), "NCCL does not use peer-to-peer"),
    ("CUDA_LAUNCH_BLOCKING", ("1",), "each kernel launch waits for its end"),
    ("CUDA_VISIBLE_DEVICES", ("", "-1"), "CUDA shows no GPU to programs"),
    ("HIP_VISIBLE_DEVICES", ("", "-1"), "ROCm shows no GPU to programs"),
    ("RCCL_P2P_DISABLE", ("1",), "RCCL does not use peer-to-peer"),
)


def check_tool_failures(facts: HostFacts) -> Iterator[Result]:
    """Each error that nvidia-smi or CUDA printed; lost devices and versions are told by other checks.

    That nvidia-smi finds no device and that CUDA finds none have causes of their own: a container may have the one alone.
    """
    groups: dict[tuple[FailureKind, bool], list[ToolFailure]] = {}
    for failure in facts.failures:
        groups.setdefault((failure.kind, failure.source == _CUDA), []).append(failure)
    for (kind, is_of_cuda), failures in groups.items():
        evidence = _failure_evidence(failures)
        if kind is FailureKind.NO_DEVICES and not is_of_cuda:
            yield Observation(
                id="driver.lists-no-device",
                severity=Severity.CRITICAL,
                because="the NVIDIA driver answers and finds no device",
                where=("machine",),
                evidence=evidence,
                fix=(
                    "lspci -nnk -d 10de:",
                    "dmesg | grep -i NVRM",
                    "# NVRM names the reason: the other flavour of modules, a newer driver, or a device without an answer.",
                    "# In a container: start it with --gpus all, or with the devices of a CDI specification.",
                ),
                confidence=Confidence.CERTAIN,
            )
        elif kind is FailureKind.NO_DEVICES:
            yield _no_cuda(evidence, "CUDA finds no GPU")
        elif kind is FailureKind.NO_DRIVER:
            yield Observation(
                id="driver.unreachable",
                severity=Severity.CRITICAL,
                because="nvidia-smi cannot reach the NVIDIA driver: its module is not loaded",
                where=("machine",),
                evidence=evidence,
                fix=(
                    "# After a kernel update the module is often missing for the kernel that runs:",
                    "dkms status",
                    "modprobe nvidia || dmesg | grep -iE 'nvidia|NVRM|lockdown|module verification'",
                ),
            )
        elif kind is FailureKind.NO_LIBRARY:
            yield Observation(
                id="driver.no-library",
                severity=Severity.CRITICAL,
                because="nvidia-smi does not find the driver's library libnvidia-ml.so",
                where=("machine",),
                evidence=evidence,
                fix=(
                    "ldconfig -p | grep libnvidia-ml",
                    "# On the host: install the driver's user-space package in the version of the loaded module.",
                    "# In a container: the NVIDIA runtime puts it there; start it with --gpus all.",
                ),
            )
        elif kind in (FailureKind.DIAGNOSTIC_FAILED, FailureKind.DIAGNOSTIC_WARNED):
            yield _diagnosed(kind, evidence)
        elif kind is FailureKind.CONTAINER:
            yield _lost_in_container(evidence)
        elif kind is FailureKind.FABRIC:
            yield Observation(
                id="fabric.not-ready",
                severity=Severity.CRITICAL,
                because="CUDA reports that the system is not yet initialized (error 802): the NVSwitch fabric is not set up",
                where=("machine",),
                evidence=evidence,
                fix=(
                    "systemctl status nvidia-fabricmanager",
                    "# The package nvidia-fabricmanager must be of the driver's version, to the last digit.",
                    "systemctl enable --now nvidia-fabricmanager",
                ),
                undo=("systemctl disable --now nvidia-fabricmanager",),
                confidence=Confidence.LIKELY,
            )


def _failure_evidence(failures: Sequence[ToolFailure]) -> tuple[Evidence, ...]:
    """The first errors of a kind, and the number of the others: a log can repeat one for days."""
    said = list(dict.fromkeys(Evidence(fact=failure.text, source=failure.source) for failure in failures))
    more = len(said) - _ERRORS_MOST
    rest = (Evidence(fact=f"{plural(more, 'more error')} of this kind", source=said[0].source),) if more > 0 else ()
    return (*said[:_ERRORS_MOST], *rest)


def _lost_in_container(evidence: tuple[Evidence, ...]) -> Observation:
    return Observation(
        id="driver.lost-in-container",
        severity=Severity.CRITICAL,
        because="NVML cannot be initialised: a container has lost its devices, or may not use them",
        where=("machine",),
        evidence=evidence,
        fix=(
            "# `systemctl daemon-reload` on the host takes the devices of running containers away. Restart the container.",
            "# So that it does not happen again, give devices to containers by a CDI specification:",
            "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        ),
        undo=("rm /etc/cdi/nvidia.yaml",),
        confidence=Confidence.LIKELY,
    )


def _diagnosed(kind: FailureKind, evidence: tuple[Evidence, ...]) -> Observation:
    has_failed = kind is FailureKind.DIAGNOSTIC_FAILED
    return Observation(
        id="accel.diagnostic-failed",
        severity=Severity.HIGH if has_failed else Severity.MEDIUM,
        because=f"NVIDIA's diagnostic reports {'a failure' if has_failed else 'a warning'}: {evidence[0].fact}",
        where=("machine",),
        evidence=evidence,
        fix=(
            "# Stop the programs that use the GPU: a test on a GPU at work fails for that alone. Then test it again:",
            "dcgmi diag -r 2",
            "# The kernel's log names the code, if there is one:",
            "dmesg | grep -E 'NVRM|Xid|AER'",
        ),
        confidence=Confidence.LIKELY,
    )


def check_cuda(facts: HostFacts) -> Iterator[Result]:
    """A framework that finds no accelerator although the report lists some, or NVIDIA's tool was there to look for them."""
    told = facts.frameworks.cuda_available
    listed = accelerators(facts)
    versions = dict(facts.frameworks.versions)
    version = versions.get("torch", "")
    torch = f"PyTorch {version}{' (a build for the CPU alone)' if version.endswith('+cpu') else ''}".rstrip()
    looked = [failure for failure in facts.failures if failure.kind is FailureKind.NO_DEVICES and failure.source != _CUDA]
    asked = looked or told.source == _SESSION
    if told.value is False and not listed and asked:
        yield _no_cuda(
            (seen("CUDA available", told),), f"CUDA is not available to {torch}: an engine runs on the CPU or does not start"
        )
    if told.value is False and listed:
        yield _no_cuda(
            (
                seen("CUDA available", told),
                *(Evidence(fact=gpu.name or gpu.vendor, source=gpu.memory_bytes.source) for gpu in listed[:2]),
            ),
            f"CUDA is not available to {torch}, though {plural(len(listed), 'GPU is', 'GPUs are')} listed: "
            "an engine runs on the CPU or does not start",
        )


def _no_cuda(evidence: tuple[Evidence, ...], because: str) -> Observation:
    return Observation(
        id="accel.cuda-unavailable",
        severity=Severity.CRITICAL,
        because=because,
        where=("machine",),
        evidence=evidence,
        fix=(
            "python3 -c 'import torch; print(torch.version.cuda, torch.version.hip); torch.cuda.init()'",
            "# A build without CUDA or ROCm: install the right one. A build for a newer CUDA than the driver has: update",
            "# the driver, or take an older build. Error 802: the fabric manager. In a container: start it with --gpus all.",
        ),
        undo=("# Install the previous version again.",),
    )


def check_variables(facts: HostFacts) -> Iterator[Result]:
    """Variables of the environment that take a path or a device away."""
    environment = dict(facts.frameworks.environment)
    for name, values, costs in _COSTLY:
        if name in environment and environment[name].strip("\"'") in values:
            yield Observation(
                id="engine.variable-set",
                severity=Severity.INFO,
                because=f"{name}={environment[name]} is set: {costs}",
                where=("machine",),
                evidence=(Evidence(fact=f"{name}={environment[name]}", source=facts.frameworks.source),),
                fix=("# If nobody knows why it is set, take it out of the engine's environment:", f"unset {name}"),
                undo=(f"export {name}={environment[name]}",),
            )


def check_apart(facts: HostFacts) -> Iterator[Result]:
    """Accelerators of one host on different NUMA nodes that meet over the link between the sockets only."""
    nodes: dict[int, list[Accelerator]] = {}
    for gpu in accelerators(facts):
        device = device_of(facts, gpu)
        node = device.numa_node.value if device is not None and device.numa_node.value is not None else gpu.numa_node.value
        if node is not None and gpu.peers:
            nodes.setdefault(node, []).append(gpu)
    far = [gpu for those in nodes.values() for gpu in those]
    if len(nodes) < 2 or any(how in _LINKED for gpu in far for _, how in gpu.peers):
        return
    yield Observation(
        id="numa.gpus-apart",
        severity=Severity.INFO,
        because=f"{plural(len(far), 'GPU')} are on NUMA nodes {render_cpus(nodes)}, and no NVLink joins them",
        where=tuple(name_of(gpu) for gpu in far),
        evidence=tuple(
            Evidence(
                fact=f"GPU {gpu.index} to {some(f'GPU {other}: {how}' for other, how in gpu.peers)}",
                source=gpu.numa_node.source,
            )
            for gpu in far[:2]
        ),
        fix=(
            "# Tensor parallelism over them crosses the link between the sockets. Prefer one engine a node, or pipeline",
            "# parallelism between the nodes.",
        ),
    )


def check_releases(facts: HostFacts) -> Iterator[Result]:
    """Gaudi software and driver of different releases."""
    for accelerator in facts.accelerators:
        driver, software = accelerator.driver_version, accelerator.library_version
        if accelerator.vendor != _HABANA or driver.value is None or software.value is None:
            continue
        if driver.value.split(".")[:2] != software.value.split(".")[:2]:
            yield Observation(
                id="driver.releases-differ",
                severity=Severity.MEDIUM,
                because=f"software {software.value} and driver {driver.value.partition('-')[0]} are of different releases",
                where=("machine",),
                evidence=(seen("driver", driver), seen("software", software)),
                fix=("# Install driver, firmware and software of one release, with the engines drained; then reboot.",),
                undo=("# Install the previous packages again.",),
                confidence=Confidence.LIKELY,
            )
            return


def check_rdma_ports(facts: HostFacts) -> Iterator[Result]:
    """RDMA ports that are not up."""
    for interface in facts.network:
        state = interface.port_state
        if state.value is not None and state.value != "Active":
            yield Observation(
                id="net.rdma-down",
                severity=Severity.MEDIUM,
                because=f"the RDMA port of {interface.name} is {state.value.lower()}",
                where=(interface.name,),
                evidence=(seen("port state", state),),
                fix=(
                    f"ibstat {interface.name}",
                    "# Disabled: somebody switched the port off. Polling: the other end is off or not connected."
                    if is_virtual(facts)
                    else "# Disabled: somebody switched the port off. Polling: no cable, or the other end is off.",
                    "# Initializing: the subnet manager does not run.",
                ),
                confidence=Confidence.LIKELY,
            )


def check_node_memory(facts: HostFacts) -> Iterator[Result]:
    """NUMA nodes that have processors and no memory."""
    if len(facts.numa.nodes) < 2:
        return
    for node in facts.numa.nodes:
        if node.cpus and node.mem_bytes == 0:
            yield Observation(
                id="numa.no-memory",
                severity=Severity.MEDIUM,
                because=f"node {node.node} has {plural(len(node.cpus), 'CPU')} and no memory: all of its memory is remote",
                where=(f"node {node.node}",),
                evidence=(Evidence(fact=f"node {node.node}: 0 bytes", source=facts.numa.source),),
                fix=("# Give each virtual NUMA node memory of its own in the hypervisor, or ask the provider for it.",)
                if is_virtual(facts)
                else (
                    "dmidecode --type memory | grep -E 'Locator|Size'",
                    "# DIMMs of this socket are missing, failed or disabled in the firmware. Distribute them evenly.",
                ),
                confidence=Confidence.LIKELY,
            )


def check_own_quota(facts: HostFacts) -> Iterator[Result]:
    """A quota that stopped the control group of which only cpu.stat was given."""
    periods, throttled, quota = facts.cgroup.periods, facts.cgroup.throttled_periods, facts.cgroup.quota_cpus
    if not facts.texts or facts.engines:
        return
    if not periods.value or not throttled.value:
        if quota.value is not None:
            yield Observation(
                id="quota.set",
                severity=Severity.LOW,
                because=f"{facts.cgroup.path or 'the group'} has a quota of {quota.value:g} CPUs",
                where=("machine",),
                evidence=(seen("quota in CPUs", quota),),
                fix=("# A weight instead of the quota: CPUQuota= CPUWeight=1900",),
                undo=(f"# CPUQuota={quota.value * 100:.0f}%",),
                confidence=Confidence.POSSIBLE,
            )
        return
    share = throttled.value / periods.value
    yield Observation(
        id="quota.throttled",
        severity=Severity.HIGH if share >= 0.01 else Severity.MEDIUM,
        because=f"a CPU quota has stopped the group in {share:.0%} of the periods",
        where=("machine",),
        evidence=(Evidence(fact=f"throttled in {throttled.value} of {periods.value} periods", source=throttled.source),),
        fix=(
            "# A weight instead of the quota: docker --cpu-shares without --cpus, Kubernetes requests without a CPU limit.",
            "# As a service of systemd: CPUQuota= CPUWeight=1900",
        ),
        undo=("# The same limit again.",),
    )
