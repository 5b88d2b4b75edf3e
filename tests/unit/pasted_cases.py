"""Texts as operators paste them, what is read of them, and what is found."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_kernel_messages, read_rows_for
from bedplate.catalog.knobs import read_knobs
from bedplate.flows.audit import name_devices
from bedplate.flows.machine import read_facts_of
from bedplate.model.audit import Audit
from bedplate.model.facts.finding import Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.plan.audit import audit

PASTED = Path(__file__).parents[1] / "pasted"

TEXTS = sorted(
    path
    for path in PASTED.rglob("*")
    if path.is_file() and path.suffix not in (".gz", ".py", ".pyc") and "__pycache__" not in path.parts
)

MIB, GIB = 1 << 20, 1 << 30

KNOBS, ROWS, MESSAGES = read_knobs(), read_findings(), read_kernel_messages()

TODAY = "2027-01-05"


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PASTED)) for path in paths]


@cache
def facts_of(name: str) -> HostFacts:
    return name_devices(read_facts_of(PASTED / name, KNOBS, kernel_rows=MESSAGES.rows))


def judge(facts: HostFacts) -> Audit:
    kernel_rows = read_rows_for(facts.kernel_log.events)
    return audit(facts, KNOBS, ROWS, (), today=TODAY, kernel_rows=kernel_rows, kernel_steps=MESSAGES.steps)


@cache
def findings_of(name: str) -> tuple[Finding, ...]:
    return judge(facts_of(name)).findings


def by_id(name: str) -> dict[str, Finding]:
    return {finding.id: finding for finding in findings_of(name)}


def keys(findings: tuple[Finding, ...]) -> set[tuple[str, tuple[str, ...]]]:
    return {(finding.id, finding.where) for finding in findings}


def read_bytes(data: bytes, tmp_path: Path, name: str = "text") -> HostFacts:
    path = tmp_path / name
    path.write_bytes(data)
    return name_devices(read_facts_of(path, KNOBS, kernel_rows=MESSAGES.rows))


CRITICAL, HIGH, MEDIUM, LOW, INFO = Severity

EXPECTED: dict[str, dict[str, tuple[Severity, tuple[str, ...]]]] = {
    "amd-text/rocm-smi.txt": {"accel.partitioned": (INFO, ("amd 0", "amd 1"))},
    "amd-text/amd-smi.json": {"accel.partitioned": (INFO, ("0000:05:00.0", "0000:05:00.1"))},
    "collect-env/env.txt": {
        "accel.cuda-unavailable": (CRITICAL, ("machine",)),
        "numa.gpus-apart": (INFO, ("nvidia 0", "nvidia 1")),
        "engine.variable-set": (INFO, ("machine",)),
    },
    "display-class-gpu/lspci.txt": {
        "link.narrow": (HIGH, ("0000:21:00.0",)),
        "pci.bar-small": (LOW, ("0000:21:00.0",)),
    },
    "gpu-lost-values/smi-q.txt": {"accel.lost": (CRITICAL, ("0000:5e:00.0",))},
    "lspci-signs/lspci.txt": {
        "accel.lost": (CRITICAL, ("0000:18:00.0",)),
        "driver.not-bound": (CRITICAL, ("0000:2a:00.0",)),
        "pci.link-errors": (MEDIUM, ("0000:2a:00.0",)),
    },
    "mig-not-shown/smi-q.txt": {"accel.mig-divided": (INFO, ("0000:5e:00.0",))},
    "narrow-in-a-vm/smi.xml": {},
    "nccl-dump-names/topo.xml": {},
    "nvidia-smi-failed/fail.txt": {"driver.version-mismatch": (CRITICAL, ("machine",))},
    "nvidia-smi-table/table.txt": {
        "accel.lost": (CRITICAL, ("0000:43:00.0",)),
        "accel.ecc-uncorrected": (HIGH, ("0000:43:00.0",)),
        "accel.persistence-off": (MEDIUM, ("0000:1b:00.0", "0000:43:00.0")),
    },
    "other-vendors/hl-smi.txt": {"driver.releases-differ": (MEDIUM, ("machine",))},
    "other-vendors/xpu.txt": {"accel.survivability": (CRITICAL, ("intel 0",))},
    "plain-host-tools/numactl.txt": {"numa.no-memory": (MEDIUM, ("node 1",))},
    "plain-host-tools/ibstat.txt": {"net.rdma-down": (MEDIUM, ("mlx5_1",))},
    "plain-host-tools/cpu.stat": {"quota.throttled": (HIGH, ("machine",))},
    "plain-host-tools/lsblk.txt": {},
    **{
        f"prompt-and-fence/{name}": {"link.narrow": (HIGH, ("0000:5e:00.0",))}
        for name in ("ansi.txt", "crlf.txt", "fence.md", "prompt.txt", "quote.txt")
    },
    "row-remap/smi-q.txt": {
        "accel.rows-pending": (HIGH, ("0000:5e:00.0",)),
        "accel.recovery-asked": (HIGH, ("0000:5e:00.0",)),
        "accel.mig-pending": (LOW, ("0000:5e:00.0",)),
        "power.heat-before": (MEDIUM, ("0000:5e:00.0",)),
    },
    "kernel-log/dmesg.txt": {
        "kernel.xid-79": (CRITICAL, ("0000:43:00.0",)),
        "kernel.xid-94": (HIGH, ("0000:1b:00.0",)),
        "kernel.oom-cgroup": (HIGH, ("machine",)),
    },
    "kernel-log-driver/dmesg.txt": {"driver.wrong-flavour": (CRITICAL, ("0000:c1:00.0",))},
    "several-outputs/capture.txt": {
        "kernel.xid-79": (CRITICAL, ("0000:5e:00.0",)),
        "cores.isolated": (HIGH, ("machine",)),
        "pci.bar-small": (LOW, ("0000:5e:00.0",)),
    },
    "topo-m/topo.txt": {"accel.nvlink-missing": (HIGH, ("nvidia 2",))},
    "unread-shown-as-read/lspci.txt": {"driver.not-bound": (CRITICAL, ("0000:5e:00.0",))},
}

# -- logs of engines

VLLM = """\
INFO 01-05 01:02:03 [__init__.py:216] Automatically detected platform cuda.
(EngineCore_DP0 pid=4711) WARNING 01-05 01:02:09 [car.py:143] Custom allreduce is disabled because of PCIe-only GPUs.
(EngineCore_DP0 pid=4711) INFO 01-05 01:02:30 [kv_cache_utils.py:1087] GPU KV cache size: 24,576 tokens
(EngineCore_DP0 pid=4711) INFO 01-05 01:02:30 [kv_cache.py:91] Maximum concurrency for 8,192 tokens per request: 0.19x
(EngineCore_DP0 pid=4711) WARNING 01-05 01:02:31 [vllm.py:391] Cudagraph is disabled under eager mode
"""
