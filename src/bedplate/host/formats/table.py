"""The table of all formats that people paste: a row says how a format is recognised and which function reads it.

To add one: a file with its parser, and a row here. The page docs/reference/pasted-formats.md is made of the rows. The order
decides between formats that could begin with the same line.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.host.accel import find_accelerators
from bedplate.host.formats import (
    amd_smi,
    amd_table,
    cgroup_files,
    dcgm,
    docker_info,
    engine_log,
    environment,
    free,
    hl_smi,
    ibstat,
    kernel_lists,
    lsblk_text,
    lscpu,
    numactl,
    python_session,
    rocm_text,
    smi_csv,
    smi_table,
    systemctl_show,
    tool_failures,
    topo_matrix,
    xpu_smi,
)
from bedplate.host.formats.hwlocxml import parse_hwloc
from bedplate.host.formats.lsblk import parse_lsblk
from bedplate.host.formats.lspci import parse_lspci
from bedplate.host.formats.nccl import parse_nccl
from bedplate.host.formats.nvidia_smi import (
    parse_nvidia_smi,
    parse_nvidia_smi_machine,
    parse_nvidia_smi_pci,
    parse_smi_list,
    parse_smi_version,
)
from bedplate.host.formats.rocm_smi import parse_rocm_smi, parse_rocm_smi_pci
from bedplate.host.formats.section import Section, TextFormat
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known

KERNEL_LOG = "/kernel.log"
"""Where a kernel log that was pasted stands in the tree of files, for the reader of kernel logs."""
FILE = "file"
"""Id of a section that a prompt says to be a file of the machine: `$ cat /proc/cmdline`."""

_HYPERVISORS = {0x1AF4: "virtual machine", 0x1B36: "qemu", 0x15AD: "vmware", 0x1414: "hyperv"}
"""PCI vendors whose devices only a hypervisor shows: virtio, QEMU, VMware, Hyper-V."""
_LSPCI_BEGINS = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] \S")
_LSPCI_CONTINUES = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] \S|[ \t]{1,40}\S")
_LOG_BEGINS = re.compile(r"={0,200} ?NVSMI LOG ?={1,200}|GPU [0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]\s{0,8}$")
_LOG_CONTINUES = re.compile(r"={0,200} ?NVSMI LOG|GPU [0-9A-Fa-f]{4,8}:|[A-Z][\w ()/.-]{2,50} {1,50}: | {4,40}\S")
_VERSION_BEGINS = re.compile(r"NVIDIA-SMI version {0,10}: |NVML version {0,10}: ")
_VERSION_CONTINUES = re.compile(r"(?:NVIDIA-SMI|NVML|DRIVER|CUDA) [Vv]ersion {0,10}: ")
_LIST_BEGINS = re.compile(r"GPU \d{1,3}: .{1,80} \(UUID: ")
_LIST_CONTINUES = re.compile(r"GPU \d{1,3}: |\s{1,24}Link \d|\s{1,24}MIG ")
_NOTHING_MORE = kernel_lists.NOTHING_MORE
_KERNEL_BEGINS = re.compile(
    r"\[ {0,12}\d{1,10}\.\d{1,9}(?: <[ \d.]{1,24}>)?\]|\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] "
    r"|(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?"
    r"|(?:[A-Z][a-z]{2} )?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S{0,16}) \S{1,80} kernel: "
    r"|kern {0,4}:(?:emerg|alert|crit|err|warn|notice|info|debug) {0,4}: |\d{1,3},\d{1,20},\d{1,20},[-c]\S{0,40};"
    r"|<\d{1,3}>|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{1,9}\S{0,8} |NVRM: "
    r"|\[(?: {0,8}\+\d|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d\])"
)
_KERNEL_CONTINUES = re.compile(
    r"\[ {0,8}[\d+<]|\[[A-Z][a-z]{2} |(?:[A-Z][a-z]{2} )?\d{4}-\d\d-\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|[a-z0-9]{2,8} {0,4}:[a-z]{3,6} {0,4}:"
    r"|\d{1,3},\d{1,20},|<\d|NVRM: |\s{1,80}\S|-- "
)
_CMDLINE = re.compile(r"(?:BOOT_IMAGE=|initrd=|root=(?:UUID|/dev/|PARTUUID|LABEL))\S{1,400} \S")
_MEMINFO = re.compile(r"MemTotal: {1,20}\d{1,20} kB")
_MEMINFO_CONTINUES = re.compile(r"[A-Z][A-Za-z0-9_()]{1,40}: {1,20}\d{1,20}(?: kB)?\s{0,4}$")
_NVIDIA = re.compile(r"NVRM version: NVIDIA UNIX ")
_NVIDIA_CONTINUES = re.compile(r"GCC version:")
_RELEASE = re.compile(r"(?:PRETTY_NAME|NAME|VERSION_ID)=\"[A-Za-z0-9]")
_RELEASE_CONTINUES = re.compile(r"[A-Z][A-Z_]{1,40}=")
_CPUINFO = re.compile(r"processor\s{1,4}: \d")
_CPUINFO_CONTINUES = re.compile(r"[A-Za-z][\w /-]{1,30}\s{0,8}:")
_LINUX = re.compile(r"Linux version \d{1,3}\.\d")
_IS_LSBLK = re.compile(r'"blockdevices"\s{0,8}:')
_IS_ROCM = re.compile(r'"card\d{1,3}"\s{0,8}:')
_IS_AMD = re.compile(r'"gpu"\s{0,8}:\s{0,8}\d|"gpu_data"\s{0,8}:')
_IS_SMI_XML = re.compile(r"<nvidia_smi_log[\s>/]")
_IS_NCCL = re.compile(r"<system[\s>/]")
_IS_HWLOC = re.compile(r"<topology[\s>/]")


def _lspci(section: Section) -> HostFacts:
    pci = parse_lspci(section.text)
    facts = empty_facts(section.file)
    hypervisor = next((device for device in pci if device.vendor in _HYPERVISORS), None)
    if hypervisor is not None:
        virtual = known(_HYPERVISORS[hypervisor.vendor], f"lspci {hypervisor.address}", hypervisor.name)
        facts = replace(facts, os=replace(facts.os, virtualisation=virtual))
    return replace(facts, pci=pci, accelerators=find_accelerators(pci))


def _nvidia_smi_log(section: Section) -> HostFacts:
    attached, virtual = parse_nvidia_smi_machine(section.text)
    facts = empty_facts(section.file)
    return replace(
        facts,
        pci=parse_nvidia_smi_pci(section.text),
        accelerators=parse_nvidia_smi(section.text),
        attached=attached,
        os=facts.os if virtual.value is None else replace(facts.os, virtualisation=virtual),
    )


def _nvidia_smi_list(section: Section) -> HostFacts:
    return replace(empty_facts(section.file), accelerators=parse_smi_list(section.text))


def _nvidia_smi_version(section: Section) -> HostFacts:
    return replace(empty_facts(section.file), nvidia_library=known(parse_smi_version(section.text), "nvidia-smi --version"))


def _rocm_smi(section: Section) -> HostFacts:
    return replace(
        empty_facts(section.file), pci=parse_rocm_smi_pci(section.text), accelerators=parse_rocm_smi(section.text)
    )


def _lsblk(section: Section) -> HostFacts:
    return replace(empty_facts(section.file), blocks=parse_lsblk(section.text))


def _nccl(section: Section) -> HostFacts:
    told = parse_nccl(section.text)
    facts = empty_facts(section.file)
    return replace(
        facts,
        cpu=replace(facts.cpu, architecture=told.architecture),
        numa=told.numa,
        pci=told.pci,
        accelerators=told.accelerators,
        network=told.network,
    )


def _hwloc(section: Section) -> HostFacts:
    told = parse_hwloc(section.text)
    facts = empty_facts(section.file)
    name = known(told.model_name, "hwloc XML") if told.model_name else facts.cpu.model_name
    total = sum(node.mem_bytes or 0 for node in told.numa.nodes)
    return replace(
        facts,
        cpu=replace(facts.cpu, model_name=name, architecture=told.architecture, cpus=told.cpus, caches=told.caches),
        numa=told.numa,
        memory=replace(facts.memory, total_bytes=total),
        pci=told.pci,
        accelerators=told.accelerators,
        network=told.network,
    )


def _of_the_tree(section: Section) -> HostFacts:
    """Of a file of the machine: it is read where files of machines are, from the tree that it is put into."""
    return empty_facts(section.file)


DOCUMENTS: tuple[TextFormat, ...] = (
    TextFormat(
        id="dcgm-json",
        title="dcgmi diag -j",
        command="dcgmi diag -r 1 -j",
        tells="tests that failed or warned, with the reason",
        begins=dcgm.IS_DCGM,
        continues=None,
        parse=dcgm.parse_dcgm_json,
    ),
    TextFormat(
        id="lsblk-json",
        title="lsblk --json",
        command="lsblk --json --bytes",
        tells="disks, what is made of them, mount points",
        begins=_IS_LSBLK,
        continues=None,
        parse=_lsblk,
    ),
    TextFormat(
        id="rocm-smi-json",
        title="rocm-smi --json",
        command="rocm-smi --showallinfo --json",
        tells="AMD accelerators: place, memory, power, clocks, links",
        begins=_IS_ROCM,
        continues=None,
        parse=_rocm_smi,
    ),
    TextFormat(
        id="amd-smi-json",
        title="amd-smi static --json",
        command="amd-smi static --json",
        tells="AMD accelerators: name, place, memory, partitions, NUMA node",
        begins=_IS_AMD,
        continues=None,
        parse=amd_smi.parse_amd_smi_json,
    ),
    TextFormat(
        id="nvidia-smi-xml",
        title="nvidia-smi -q -x",
        command="nvidia-smi -q -x",
        tells="NVIDIA accelerators and their states",
        begins=_IS_SMI_XML,
        continues=None,
        parse=_nvidia_smi_log,
    ),
    TextFormat(
        id="nccl-xml",
        title="topology file of NCCL or RCCL",
        command="NCCL_TOPO_DUMP_FILE=topo.xml",
        tells="NUMA nodes, PCI tree, accelerators and their links, network cards",
        begins=_IS_NCCL,
        continues=None,
        parse=_nccl,
        bus=True,
    ),
    TextFormat(
        id="hwloc-xml",
        title="hwloc XML",
        command="lstopo machine.xml",
        tells="processors, caches, NUMA nodes, PCI tree",
        begins=_IS_HWLOC,
        continues=None,
        parse=_hwloc,
        bus=True,
    ),
)
"""Documents, whose end is found by their brackets or tags; `begins` is looked for in their first part."""

LINES: tuple[TextFormat, ...] = (
    TextFormat(
        id="lspci",
        title="lspci",
        command="lspci -vvv",
        tells="PCI devices, tree, links, ACS, drivers, sizes of BARs, errors of links",
        begins=_LSPCI_BEGINS,
        continues=_LSPCI_CONTINUES,
        parse=_lspci,
        bus=True,
    ),
    TextFormat(
        id="nvidia-smi-q",
        title="nvidia-smi -q",
        command="nvidia-smi -q",
        tells="NVIDIA accelerators: place, memory, link, power, clocks, ECC, remapped rows, MIG, fabric",
        begins=_LOG_BEGINS,
        continues=_LOG_CONTINUES,
        parse=_nvidia_smi_log,
    ),
    TextFormat(
        id="nvidia-smi-version",
        title="nvidia-smi --version",
        command="nvidia-smi --version",
        tells="version of the user-space library",
        begins=_VERSION_BEGINS,
        continues=_VERSION_CONTINUES,
        parse=_nvidia_smi_version,
    ),
    TextFormat(
        id="nvidia-smi",
        title="table of nvidia-smi",
        command="nvidia-smi",
        tells="NVIDIA accelerators: place, memory, power limit, persistence, MIG, ECC, values that are errors",
        begins=smi_table.BEGINS,
        continues=smi_table.CONTINUES,
        parse=smi_table.parse_smi_table,
        restarts=True,
        rows=smi_table.ROWS,
    ),
    TextFormat(
        id="nvidia-smi-list",
        title="nvidia-smi -L, nvlink -s",
        command="nvidia-smi nvlink -s",
        tells="names and UUIDs, NVLinks that are up",
        begins=_LIST_BEGINS,
        continues=_LIST_CONTINUES,
        parse=_nvidia_smi_list,
    ),
    TextFormat(
        id="nvidia-smi-topo",
        title="nvidia-smi topo -m",
        command="nvidia-smi topo -m",
        tells="how accelerators and network cards meet, their NUMA nodes",
        begins=topo_matrix.BEGINS,
        continues=topo_matrix.CONTINUES,
        parse=topo_matrix.parse_topo_matrix,
        restarts=True,
    ),
    TextFormat(
        id="nvidia-smi-csv",
        title="nvidia-smi --query-gpu",
        command="nvidia-smi --query-gpu=index,name,pci.bus_id,memory.total --format=csv",
        tells="the columns that were asked for",
        begins=smi_csv.BEGINS,
        continues=smi_csv.CONTINUES,
        parse=smi_csv.parse_smi_csv,
        restarts=True,
    ),
    TextFormat(
        id="nvidia-failure",
        title="error message of nvidia-smi or CUDA",
        command="nvidia-smi",
        tells="why the tool does not answer",
        begins=tool_failures.BEGINS,
        continues=tool_failures.CONTINUES,
        parse=tool_failures.parse_tool_failures,
    ),
    TextFormat(
        id="dcgm",
        title="dcgmi diag, health, discovery",
        command="dcgmi diag -r 1",
        tells="tests and watches that failed or warned, with the reason; GPUs and their places",
        begins=dcgm.BEGINS,
        continues=dcgm.CONTINUES,
        parse=dcgm.parse_dcgm,
    ),
    TextFormat(
        id="engine-log",
        title="log of vLLM, llama.cpp, Ollama, SGLang or PyTorch",
        command="journalctl -u vllm",
        tells="whether accelerators were found, KV cache, memory, layers on the CPU, slower paths",
        begins=engine_log.BEGINS,
        continues=engine_log.CONTINUES,
        parse=engine_log.parse_engine_log,
    ),
    TextFormat(
        id="rocm-smi",
        title="table of rocm-smi",
        command="rocm-smi",
        tells="AMD accelerators: model, partitions, power limit",
        begins=amd_smi.TABLE_BEGINS,
        continues=amd_smi.TABLE_CONTINUES,
        parse=amd_smi.parse_rocm_table,
    ),
    TextFormat(
        id="rocm-smi-text",
        title="rocm-smi --showallinfo",
        command="rocm-smi --showallinfo",
        tells="AMD accelerators: model, place, memory, power",
        begins=rocm_text.BEGINS,
        continues=rocm_text.CONTINUES,
        parse=rocm_text.parse_rocm_text,
    ),
    TextFormat(
        id="amd-smi-table",
        title="table of amd-smi",
        command="amd-smi",
        tells="AMD accelerators: name, place, memory, partitions, uncorrectable errors; bare metal or virtual machine",
        begins=amd_table.BEGINS,
        continues=amd_table.CONTINUES,
        parse=amd_table.parse_amd_table,
        restarts=True,
    ),
    TextFormat(
        id="amd-smi",
        title="amd-smi static",
        command="amd-smi static",
        tells="AMD accelerators: name, place, memory, partitions, NUMA node",
        begins=amd_smi.TEXT_BEGINS,
        continues=amd_smi.TEXT_CONTINUES,
        parse=amd_smi.parse_amd_smi_text,
    ),
    TextFormat(
        id="hl-smi",
        title="table of hl-smi",
        command="hl-smi",
        tells="Gaudi accelerators: place, memory, versions",
        begins=hl_smi.BEGINS,
        continues=hl_smi.CONTINUES,
        parse=hl_smi.parse_hl_smi,
        restarts=True,
    ),
    TextFormat(
        id="xpu-smi",
        title="xpu-smi discovery",
        command="xpu-smi discovery",
        tells="Intel accelerators: name, place, state",
        begins=xpu_smi.BEGINS,
        continues=xpu_smi.CONTINUES,
        parse=xpu_smi.parse_xpu_smi,
        restarts=True,
    ),
    TextFormat(
        id="lscpu",
        title="lscpu",
        command="lscpu",
        tells="processors, threads, NUMA nodes, hypervisor",
        begins=lscpu.BEGINS,
        continues=lscpu.CONTINUES,
        parse=lscpu.parse_lscpu,
    ),
    TextFormat(
        id="environment",
        title="environment report of PyTorch, vLLM or SGLang",
        command="python3 -m torch.utils.collect_env",
        tells="versions, accelerators, whether CUDA is available, variables of NCCL and engines",
        begins=environment.BEGINS,
        continues=environment.CONTINUES,
        parse=environment.parse_environment,
    ),
    TextFormat(
        id="python-session",
        title="Python session with torch.cuda.is_available()",
        command="python3 -c 'import torch; print(torch.cuda.is_available())'",
        tells="whether PyTorch can use an accelerator; its version",
        begins=python_session.BEGINS,
        continues=python_session.CONTINUES,
        parse=python_session.parse_python_session,
    ),
    TextFormat(
        id="numactl",
        title="numactl -H",
        command="numactl -H",
        tells="NUMA nodes: processors, memory, distances",
        begins=numactl.BEGINS,
        continues=numactl.CONTINUES,
        parse=numactl.parse_numactl,
    ),
    TextFormat(
        id="free",
        title="free",
        command="free -h",
        tells="memory and swap",
        begins=free.BEGINS,
        continues=free.CONTINUES,
        parse=free.parse_free,
        restarts=True,
    ),
    TextFormat(
        id="lsblk",
        title="table of lsblk",
        command="lsblk",
        tells="disks, what is made of them, mount points",
        begins=lsblk_text.BEGINS,
        continues=lsblk_text.CONTINUES,
        parse=lsblk_text.parse_lsblk_text,
        restarts=True,
    ),
    TextFormat(
        id="ibstat",
        title="ibstat, ibstatus",
        command="ibstat",
        tells="RDMA devices: state, rate",
        begins=ibstat.BEGINS,
        continues=ibstat.CONTINUES,
        parse=ibstat.parse_ibstat,
    ),
    TextFormat(
        id="cpu-stat",
        title="cpu.stat of a cgroup",
        command="cat /sys/fs/cgroup/PATH/cpu.stat",
        tells="how often a CPU quota stopped the group",
        begins=cgroup_files.BEGINS,
        continues=cgroup_files.CONTINUES,
        parse=cgroup_files.parse_cpu_stat,
    ),
    TextFormat(
        id="systemctl-show",
        title="systemctl show",
        command="systemctl show vllm.service",
        tells="CPU quota, memory limit, processors and limits of a unit",
        begins=systemctl_show.BEGINS,
        continues=systemctl_show.CONTINUES,
        parse=systemctl_show.parse_systemctl_show,
    ),
    TextFormat(
        id="docker-info",
        title="docker info",
        command="docker info",
        tells="kernel, distribution, memory, container runtimes",
        begins=docker_info.BEGINS,
        continues=docker_info.CONTINUES,
        parse=docker_info.parse_docker_info,
    ),
    TextFormat(
        id="uname",
        title="uname -a",
        command="uname -a",
        tells="kernel release, architecture",
        begins=kernel_lists.UNAME_BEGINS,
        continues=_NOTHING_MORE,
        parse=kernel_lists.parse_uname,
        restarts=True,
    ),
    TextFormat(
        id="lsmod",
        title="lsmod",
        command="lsmod",
        tells="modules that are loaded",
        begins=kernel_lists.LSMOD_BEGINS,
        continues=kernel_lists.LSMOD_CONTINUES,
        parse=kernel_lists.parse_lsmod,
        restarts=True,
    ),
    TextFormat(
        id="proc-cmdline",
        title="/proc/cmdline",
        command="cat /proc/cmdline",
        tells="kernel command line",
        begins=_CMDLINE,
        continues=_NOTHING_MORE,
        parse=_of_the_tree,
        path="/proc/cmdline",
    ),
    TextFormat(
        id="proc-meminfo",
        title="/proc/meminfo",
        command="cat /proc/meminfo",
        tells="memory, swap, huge pages",
        begins=_MEMINFO,
        continues=_MEMINFO_CONTINUES,
        parse=_of_the_tree,
        path="/proc/meminfo",
    ),
    TextFormat(
        id="proc-nvidia",
        title="/proc/driver/nvidia/version",
        command="cat /proc/driver/nvidia/version",
        tells="version and flavour of NVIDIA's kernel modules",
        begins=_NVIDIA,
        continues=_NVIDIA_CONTINUES,
        parse=_of_the_tree,
        path="/proc/driver/nvidia/version",
    ),
    TextFormat(
        id="proc-cpuinfo",
        title="/proc/cpuinfo",
        command="cat /proc/cpuinfo",
        tells="model and flags of the processor",
        begins=_CPUINFO,
        continues=_CPUINFO_CONTINUES,
        parse=_of_the_tree,
        path="/proc/cpuinfo",
    ),
    TextFormat(
        id="proc-version",
        title="/proc/version",
        command="cat /proc/version",
        tells="kernel release",
        begins=_LINUX,
        continues=_NOTHING_MORE,
        parse=_of_the_tree,
        path="/proc/version",
    ),
    TextFormat(
        id="os-release",
        title="/etc/os-release",
        command="cat /etc/os-release",
        tells="distribution",
        begins=_RELEASE,
        continues=_RELEASE_CONTINUES,
        parse=_of_the_tree,
        path="/etc/os-release",
    ),
    TextFormat(
        id="kernel-log",
        title="kernel log",
        command="dmesg",
        tells="errors of accelerators, links, memory and disks",
        begins=_KERNEL_BEGINS,
        continues=_KERNEL_CONTINUES,
        parse=_of_the_tree,
        path=KERNEL_LOG,
    ),
    TextFormat(
        id=FILE,
        title="any file of /proc or /sys",
        command="cat /sys/kernel/mm/transparent_hugepage/enabled",
        tells="the value, as on a live machine; the prompt with the command must stand before it",
        begins=_NOTHING_MORE,
        continues=_NOTHING_MORE,
        parse=_of_the_tree,
    ),
)
"""Formats whose lines are recognised one by one."""

FORMATS: tuple[TextFormat, ...] = (*LINES, *DOCUMENTS)
BY_ID: dict[str, TextFormat] = {row.id: row for row in FORMATS}
