"""Texts as operators paste them: what is read of each, what is found, and that nothing around a text changes the answer.

The inputs are in tests/pasted, a directory for each kind. Each is also read behind a prompt, in a fence, quoted, coloured,
indented, with other blanks and line ends, cut off at any line, and joined with another one.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.unit.facts_factory import absent, make_engine, make_facts, make_kernel, make_memory, make_pci, with_gpus
from tests.unit.json_schema import problems_of

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_kernel_messages, read_rows_for
from bedplate.catalog.knobs import read_knobs
from bedplate.cli.main import main
from bedplate.errors import ReadError
from bedplate.flows.audit import name_devices, read_report
from bedplate.flows.machine import read_facts_of
from bedplate.host.formats.foreign import KERNEL_LOG_MOST, ForeignFacts, read_text_files
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.audit import Audit
from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import PciKind
from bedplate.model.facts.reading import Reading, Unknown, known
from bedplate.plan.audit import audit
from bedplate.report.audit.document import SCHEMA_PAGE
from bedplate.report.audit.page import render_page, verdict
from bedplate.report.audit.sarif import make_sarif

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


def test_every_input_has_an_answer() -> None:
    assert set(names(TEXTS)) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_findings_are_those_that_an_expert_names(name: str) -> None:
    assert {finding.id: (finding.severity, finding.where) for finding in findings_of(name)} == EXPECTED[name]


@pytest.mark.parametrize("name", ["kernel-log/dmesg.txt", "kernel-log-driver/dmesg.txt"])
def test_a_kernel_log_is_recognised_and_handed_on(name: str) -> None:
    path = PASTED / name
    told = read_text_files([(path.name, path.read_bytes())], "log")
    assert told is not None
    (text,) = told.facts.texts
    assert (text.format, text.first_line) == ("kernel-log", 1)
    assert told.files.read("/kernel.log").value == path.read_text().rstrip("\n")


# -- facts


def test_amd_partitions() -> None:
    for name in ("amd-text/rocm-smi.txt", "amd-text/amd-smi.json"):
        first, second = facts_of(name).accelerators
        assert (first.name, first.compute_partition.value, first.memory_partition.value) == (
            "AMD Instinct MI300X",
            "CPX",
            "NPS4",
        )
        assert (second.index, second.compute_partition.value) == (1, "CPX")
    device = facts_of("amd-text/amd-smi.json").pci[0]
    assert (device.pci_id, device.link.max_speed_gts, device.link.max_width, device.numa_node.value) == (
        *("1002:74a1", 32.0, 16),
        0,
    )
    assert [gpu.memory_bytes.value for gpu in facts_of("amd-text/amd-smi.json").accelerators] == [24574 * MIB] * 2
    assert "8 devices" in by_id("amd-text/amd-smi.json")["accel.partitioned"].title


def test_a_warning_before_the_json_of_rocm_smi_hides_nothing(tmp_path: Path) -> None:
    text = b'WARNING: AMD GPU device(s) is/are in a low-power state.\n\n{"card0": {"PCI Bus": "0000:83:00.0"}}\n'
    facts = read_bytes(text, tmp_path)
    assert [gpu.address for gpu in facts.accelerators] == ["0000:83:00.0"]
    assert [(text.first_line, text.format) for text in facts.texts] == [(1, ""), (3, "rocm-smi-json")]


def test_the_environment_report() -> None:
    facts = facts_of("collect-env/env.txt")
    assert [(gpu.index, gpu.name, gpu.numa_node.value) for gpu in facts.accelerators] == [
        (0, "NVIDIA L40S", 0),
        (1, "NVIDIA L40S", 1),
    ]
    assert {gpu.driver_version.value for gpu in facts.accelerators} == {"591.10.07"}
    assert [gpu.peers for gpu in facts.accelerators] == [((1, "SYS"),), ((0, "SYS"),)]
    assert (facts.cpu.model_name.value, len(facts.cpu.online), facts.cpu.cores) == (
        "AMD EPYC 9254 24-Core Processor",
        48,
        24,
    )
    assert [node.cpus for node in facts.numa.nodes] == [
        (*range(12), *range(24, 36)),
        (*range(12, 24), *range(36, 48)),
    ]
    assert facts.os.id == "debian"
    assert dict(facts.frameworks.versions) == {"torch": "2.9.9+cu130", "vllm": "0.99.1"}
    assert facts.frameworks.environment == (("NCCL_P2P_DISABLE", "1"),)


def test_no_secret_of_an_environment_is_kept(tmp_path: Path) -> None:
    text = (PASTED / "collect-env/env.txt").read_bytes()
    facts = read_bytes(text + b"VLLM_API_KEY=canary-4711\nHF_TOKEN=canary-4712\nMY_NAME=canary-4713\n", tmp_path)
    assert "canary" not in repr(facts)
    assert dict(facts.frameworks.environment)["VLLM_API_KEY"] == "***"


def test_older_reports_have_no_headings(tmp_path: Path) -> None:
    text = b"PyTorch version: 2.3.1\nIs debug build: False\nIs CUDA available: True\nGPU 0: NVIDIA A100-SXM4-80GB\n"
    facts = read_bytes(text + b"Nvidia driver version: 550.54.15\n", tmp_path)
    assert [(gpu.name, gpu.driver_version.value) for gpu in facts.accelerators] == [("NVIDIA A100-SXM4-80GB", "550.54.15")]
    assert facts.frameworks.cuda_available.value is True


def test_the_report_of_sglang(tmp_path: Path) -> None:
    text = (
        b"Python: 3.12.3 (main)\nCUDA available: True\nGPU 0,1: NVIDIA H100 80GB HBM3\nGPU 0,1 Compute Capability: 9.0\n"
        b"CUDA Driver Version: 570.124.06\nPyTorch: 2.9.1+cu129\nsglang: 0.5.7\nulimit soft: 1048576\n"
    )
    facts = read_bytes(text, tmp_path)
    assert [(gpu.index, gpu.name) for gpu in facts.accelerators] == [
        (0, "NVIDIA H100 80GB HBM3"),
        (1, "NVIDIA H100 80GB HBM3"),
    ]
    assert dict(facts.frameworks.versions) == {"sglang": "0.5.7", "torch": "2.9.1+cu129"}
    assert [text.format for text in facts.texts] == ["environment"] or facts.texts[-1].format == "environment"


@pytest.mark.parametrize(
    ("header", "computes"),
    [
        ("01:00.0 VGA compatible controller [0300]: Matrox Electronics Systems Ltd. G200eW3 [102b:0536] (rev 04)", False),
        ("01:00.0 VGA compatible controller [0300]: ASPEED Technology, Inc. ASPEED Graphics Family [1a03:2000]", False),
        (
            "01:00.0 VGA compatible controller [0300]: Intel Corporation Raptor Lake-S GT1 [UHD Graphics 770] [8086:a780]",
            False,
        ),
        ("01:00.0 VGA compatible controller [0300]: AMD [AMD/ATI] Raphael [1002:164e] (rev c1)", False),
        ("01:00.0 VGA compatible controller [0300]: AMD [AMD/ATI] Navi 31 [Radeon RX 7900 XTX] [1002:744c]", True),
        ("01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GB202GL [RTX PRO 6000] [10de:2bb1] (rev a1)", True),
    ],
)
def test_display_adapters_that_compute(header: str, computes: bool, tmp_path: Path) -> None:
    body = (PASTED / "display-class-gpu/lspci.txt").read_text().split("\n", 1)[1]
    facts = read_bytes(f"{header}\n{body}".encode(), tmp_path)
    assert ("link.narrow" in {finding.id for finding in judge(facts).findings}) is computes


def test_a_lost_gpu() -> None:
    (gpu,) = facts_of("gpu-lost-values/smi-q.txt").accelerators
    assert (gpu.failure.value, gpu.fabric_state.value, gpu.fabric_state.unknown) == ("GPU is lost", None, Unknown.MALFORMED)
    fix = "\n".join(by_id("gpu-lost-values/smi-q.txt")["accel.lost"].fix)
    assert "Drain" in fix and "power the machine off" in fix and "Xid" in fix


def test_an_error_is_no_name(tmp_path: Path) -> None:
    text = (PASTED / "gpu-lost-values/smi-q.txt").read_text().replace("NVIDIA H100 80GB HBM3", "Unknown Error")
    (gpu,) = read_bytes(text.encode(), tmp_path).accelerators
    assert gpu.name == ""


def test_fewer_gpus_than_are_attached(tmp_path: Path) -> None:
    text = (
        (PASTED / "row-remap/smi-q.txt")
        .read_text()
        .replace("Attached GPUs                                          : 1", "Attached GPUs : 8")
    )
    findings = {finding.id: finding for finding in judge(read_bytes(text.encode(), tmp_path)).findings}
    assert "counts 8 GPUs, and 1 are described" in findings["accel.fewer-listed"].title


def test_lspci_signs() -> None:
    lost, unbound = facts_of("lspci-signs/lspci.txt").pci
    assert (lost.answers.value, unbound.answers.value) == (False, None)
    assert (unbound.driver.value, unbound.modules) == (None, ("nvidia",))
    assert unbound.link_errors == ("RxErr", "BadTLP", "BadDLLP", "Timeout")


def test_a_card_without_a_driver_is_told_only_where_others_have_one(tmp_path: Path) -> None:
    text = (PASTED / "lspci-signs/lspci.txt").read_text().replace("\tKernel driver in use: nvidia\n", "")
    assert "driver.not-bound" not in {finding.id for finding in judge(read_bytes(text.encode(), tmp_path)).findings}


def test_a_card_that_is_given_away(tmp_path: Path) -> None:
    text = (PASTED / "prompt-and-fence/prompt.txt").read_text().replace("in use: nvidia", "in use: vfio-pci")
    findings = {finding.id: finding.severity for finding in judge(read_bytes(text.encode(), tmp_path)).findings}
    assert findings["driver.given-away"] is INFO
    assert "link.narrow" not in findings


def test_mig_instances() -> None:
    (gpu,) = facts_of("mig-not-shown/smi-q.txt").accelerators
    assert (gpu.mig.value, gpu.mig_bytes.value) == (True, (40448 * MIB, 9856 * MIB))
    title = by_id("mig-not-shown/smi-q.txt")["accel.mig-divided"].title
    assert "2 instances of 39.5 GiB and 9.6 GiB" in title and "30.5 GiB belong to no instance" in title


def test_mig_without_an_instance(tmp_path: Path) -> None:
    lines = (PASTED / "mig-not-shown/smi-q.txt").read_text().splitlines(keepends=True)
    begin, end = (
        next(n for n, line in enumerate(lines) if words in line) for words in ("MIG Device", "    FB Memory Usage")
    )
    end = max(n for n, line in enumerate(lines) if line.startswith("    FB Memory Usage"))
    whole = "".join(lines[:begin] + lines[end:])
    findings = {finding.id: finding.severity for finding in judge(read_bytes(whole.encode(), tmp_path)).findings}
    assert findings["accel.mig-empty"] is CRITICAL
    cut = "".join(lines[:begin])  # the instances may have stood behind the cut
    assert "accel.mig-empty" not in {finding.id for finding in judge(read_bytes(cut.encode(), tmp_path)).findings}


def test_mig_of_the_table(tmp_path: Path) -> None:
    text = (PASTED / "nvidia-smi-table/table.txt").read_text()
    instances = (
        "+-----------------------------------------------------------------------------------------+\n"
        "| MIG devices:                                                                            |\n"
        "+------------------+----------------------------------+-----------+-----------------------+\n"
        "| GPU  GI  CI  MIG |                     Memory-Usage |        Vol|        Shared         |\n"
        "|      ID  ID  Dev |                       BAR1-Usage | SM     Unc| CE ENC  DEC  OFA  JPG |\n"
        "|==================+==================================+===========+=======================|\n"
        "|  0    1   0   0  |              37MiB /  40192MiB   | 60      0 |  3   0    3    0    3 |\n"
        "|                  |                 0MiB /  65535MiB |           |                       |\n"
        "+------------------+----------------------------------+-----------+-----------------------+\n"
    )
    first, second = read_bytes((text + instances).encode(), tmp_path).accelerators
    assert (first.mig_bytes.value, second.mig_bytes.value) == ((40192 * MIB,), None)
    empty = read_bytes((text + "|  No MIG devices found                                      |\n").encode(), tmp_path)
    assert "accel.mig-empty" in {finding.id for finding in judge(empty).findings}


def test_a_virtual_machine_is_not_told_to_reseat_cards() -> None:
    facts = facts_of("narrow-in-a-vm/smi.xml")
    assert facts.os.virtualisation.value == "virtual machine"
    (device,) = facts.pci
    assert (device.link.width, device.link.max_width, device.link.max_speed_gts) == (8, 16, 16.0)


def test_where_it_is_judged_the_evidence_knows_the_generation(tmp_path: Path) -> None:
    text = (PASTED / "narrow-in-a-vm/smi.xml").read_text().replace("Pass-Through", "None")
    (finding,) = judge(read_bytes(text.encode(), tmp_path)).findings
    assert finding.id == "link.narrow"
    assert "the device can 16 GT/s x16" in [evidence.fact for evidence in finding.evidence]
    assert "rented" in finding.fix[0]


def test_names_of_an_nccl_file() -> None:
    facts = facts_of("nccl-dump-names/topo.xml")
    (gpu,) = facts.accelerators
    assert (gpu.name, gpu.address, gpu.nvlinks_active.value) == ("NVIDIA H100 SXM5 80GB", "0000:19:00.0", 18)
    assert {device.address: device.kind for device in facts.pci}["0000:16:00.0"] is PciKind.SWITCH_UPSTREAM
    (nic,) = facts.network
    assert (nic.name, nic.speed_mbps.value) == ("cxi0", 200_000)


def test_a_failure_of_nvidia_smi() -> None:
    finding = by_id("nvidia-smi-failed/fail.txt")["driver.version-mismatch"]
    assert "module is 591.10.07, the library is 591.12" in finding.title


def test_what_the_fix_of_a_mismatch_stops_it_starts_again() -> None:
    fix = by_id("nvidia-smi-failed/fail.txt")["driver.version-mismatch"].fix
    stops = [line.removeprefix("systemctl stop ") for line in fix if line.startswith("systemctl stop ")]
    starts = [line.removeprefix("systemctl start ") for line in fix if line.startswith("systemctl start ")]
    assert stops == starts == ["nvidia-persistenced nvidia-fabricmanager"]
    reload = next(number for number, line in enumerate(fix) if line.startswith("modprobe -r nvidia_drm"))
    assert fix.index(f"systemctl stop {stops[0]}") < reload < fix.index(f"systemctl start {starts[0]}")
    assert any("nvidia_peermem" in line for line in fix[:reload])
    assert any("nvlsm" in line for line in fix)


def test_the_fix_of_a_mismatch_on_a_host_is_its_own() -> None:
    """The peer-memory module is unloaded first where it is loaded; no fabric manager where there is no fabric."""
    facts = with_gpus(make_facts(), 2, library_version=known("591.12", "/usr/lib/libnvidia-ml.so.1"))
    with_peer = dataclasses.replace(
        facts,
        kernel=dataclasses.replace(facts.kernel, modules=tuple(sorted((*facts.kernel.modules, ("nvidia_peermem", ""))))),
    )
    (finding,) = [finding for finding in judge(with_peer).findings if finding.id == "driver.version-mismatch"]
    assert finding.fix[2] == "modprobe -r nvidia_peermem"
    assert "systemctl start nvidia-persistenced" in finding.fix
    assert not any("fabricmanager" in line for line in finding.fix)
    switch = make_pci("0000:07:00.0", class_code=0x068000, device=0x22A3, name="NVSwitch")
    (finding,) = [
        finding
        for finding in judge(dataclasses.replace(facts, pci=(switch, *facts.pci))).findings
        if finding.id == "driver.version-mismatch"
    ]
    assert "systemctl start nvidia-persistenced nvidia-fabricmanager" in finding.fix


@pytest.mark.parametrize(
    ("text", "id", "where"),
    [
        ("No devices were found", "driver.lists-no-device", "machine"),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure it runs.",
            "driver.unreachable",
            "machine",
        ),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", "driver.no-library", "machine"),
        ("Failed to initialize NVML: Unknown Error", "driver.lost-in-container", "machine"),
        ("Failed to initialize NVML: Driver/library version mismatch", "driver.version-mismatch", "machine"),
        (
            "Unable to determine the device handle for GPU0000:43:00.0: Unknown Error",
            "accel.lost",
            "0000:43:00.0",
        ),
        (
            "Unable to determine the device handle for GPU 0000:43:00.0: GPU is lost.  Reboot the system to recover it",
            "accel.lost",
            "0000:43:00.0",
        ),
        ("RuntimeError: No CUDA GPUs are available", "accel.cuda-unavailable", "machine"),
        ("cudaGetDeviceCount returned 802: system not yet initialized", "fabric.not-ready", "machine"),
    ],
)
def test_every_failure_has_its_own_finding(text: str, id: str, where: str, tmp_path: Path) -> None:
    (finding,) = judge(read_bytes(f"$ nvidia-smi\n{text}\n".encode(), tmp_path)).findings
    assert (finding.id, finding.where, finding.severity) == (id, (where,), CRITICAL)


@pytest.mark.parametrize("order", [1, -1])
def test_a_driver_without_devices_and_cuda_without_one_are_two_findings(order: int, tmp_path: Path) -> None:
    parts = ("$ nvidia-smi\nNo devices were found\n", "$ python3 run.py\nRuntimeError: No CUDA GPUs are available\n")
    found = judge(read_bytes("".join(parts[::order]).encode(), tmp_path)).findings
    assert sorted(finding.id for finding in found) == ["accel.cuda-unavailable", "driver.lists-no-device"]
    assert len({finding.fix for finding in found}) == 2
    assert all(len(finding.evidence) == 1 for finding in found)


def test_pytorch_without_cuda_beside_a_driver_without_devices_is_reported(tmp_path: Path) -> None:
    report = "$ python3 -m torch.utils.collect_env\nPyTorch version: 2.10.0+cpu\nIs CUDA available: False\n"
    text = f"$ nvidia-smi\nNo devices were found\n{report}"
    found = {finding.id: finding for finding in judge(read_bytes(text.encode(), tmp_path)).findings}
    assert sorted(found) == ["accel.cuda-unavailable", "driver.lists-no-device"]
    assert "PyTorch 2.10.0+cpu" in found["accel.cuda-unavailable"].title
    assert judge(read_bytes(report.encode(), tmp_path)).findings == (), "a machine without accelerators lacks none"


def test_the_table_of_nvidia_smi() -> None:
    first, second = facts_of("nvidia-smi-table/table.txt").accelerators
    assert [(gpu.name, gpu.address, gpu.memory_bytes.value) for gpu in (first, second)] == [
        ("NVIDIA H100 80GB HBM3", "0000:1b:00.0", 81559 * MIB),
        ("NVIDIA H100 80GB HBM3", "0000:43:00.0", 81559 * MIB),
    ]
    assert [gpu.driver_version.value for gpu in (first, second)] == ["591.10.07"] * 2
    assert [(gpu.mig.value, gpu.power_limit_w.value, gpu.persistence.value) for gpu in (first, second)] == [
        (True, 500.0, False),
        (False, 700.0, False),
    ]
    assert (first.temperature_c.value, first.failure.value, second.failure.value) == (41.0, None, "ERR!")
    assert (second.temperature_c.value, second.power_draw_w.value, second.utilization_pct.unknown) == (
        None,
        None,
        Unknown.MALFORMED,
    )


OLD_TABLE = """\
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 525.105.17   Driver Version: 525.105.17   CUDA Version: 12.0     |
|-------------------------------+----------------------+----------------------+
| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |
|                               |                      |               MIG M. |
|===============================+======================+======================|
|   0  Tesla V100-SXM2...  On   | 00000000:3B:00.0 Off |                    0 |
| N/A   35C    P0    42W / 300W |      0MiB / 16384MiB |      0%      Default |
|                               |                      |                  N/A |
+-------------------------------+----------------------+----------------------+
|   1  NVIDIA GB10         On   | 0000000F:01:00.0 Off |                  N/A |
| N/A   35C    P0    12W / N/A  | Not Supported        |      3%      Default |
|                               |                      |                  N/A |
+-------------------------------+----------------------+----------------------+
"""


def test_an_older_table_and_unified_memory(tmp_path: Path) -> None:
    first, second = read_bytes(OLD_TABLE.encode(), tmp_path).accelerators
    assert (first.name, first.address, first.memory_bytes.value) == ("Tesla V100-SXM2...", "0000:3b:00.0", 16384 * MIB)
    assert (first.power_draw_w.value, first.power_limit_w.value, first.persistence.value, first.mig.unknown) == (
        *(42.0, 300.0, True),
        Unknown.ABSENT,
    )
    assert (second.name, second.address, second.memory_bytes.unknown) == ("NVIDIA GB10", "000f:01:00.0", Unknown.ABSENT)
    assert second.failure.value is None


def test_other_vendors() -> None:
    (gaudi,) = facts_of("other-vendors/hl-smi.txt").accelerators
    assert (gaudi.name, gaudi.address, gaudi.memory_bytes.value) == (
        "Habana HL-325L (Gaudi 3)",
        "0000:33:00.0",
        131072 * MIB,
    )
    (xpu,) = facts_of("other-vendors/xpu.txt").accelerators
    assert (xpu.vendor, xpu.failure.value) == ("intel", "survivability mode")


def test_plain_host_tools() -> None:
    nodes = facts_of("plain-host-tools/numactl.txt").numa.nodes
    assert [(node.cpus, node.mem_bytes, node.distances) for node in nodes] == [
        ((0, 1, 2, 3), 64000 * MIB, (10, 32)),
        ((4, 5, 6, 7), 0, (32, 10)),
    ]
    ports = facts_of("plain-host-tools/ibstat.txt").network
    assert [(port.name, port.port_state.value, port.speed_mbps.value) for port in ports] == [
        ("mlx5_0", "Active", 400_000),
        ("mlx5_1", "Down", None),
    ]
    disks = {disk.name: disk for disk in facts_of("plain-host-tools/lsblk.txt").blocks}
    assert {name: (disk.rotational.value, disk.transport, disk.mounts) for name, disk in disks.items()} == {
        "nvme0n1": (None, "nvme", ("/",)),
        "sda": (True, "other", ("/models",)),
    }
    finding = by_id("plain-host-tools/cpu.stat")["quota.throttled"]
    assert [(evidence.fact, evidence.source) for evidence in finding.evidence] == [
        ("throttled in 8000 of 10000 periods", "cpu.stat")
    ]


@pytest.mark.parametrize(
    ("command", "text", "total_bytes"),
    [
        ("free", "Mem:       131072000    1    1    1    1   100000\n", 131072000 << 10),
        ("free -m", "Mem:       128000    1    1    1    1   100000\n", 128000 << 20),
        ("free -g", "Mem:       125    1    1    1    1   100\n", 125 << 30),
        ("free -h", "Mem:       1.0Ti    1Gi    1Gi    1Mi    1Gi   100Gi\n", 1 << 40),
        ("", "Mem:       131072000    1    1    1    1   100000\n", 131072000 << 10),
        ("", "Mem:       128000    1    1    1    1   100000\n", 128000 << 20),
    ],
)
def test_free(command: str, text: str, total_bytes: int, tmp_path: Path) -> None:
    prompt = f"a@b:~$ {command}\n" if command else ""
    head = "              total        used        free      shared  buff/cache   available\n"
    assert read_bytes(f"{prompt}{head}{text}".encode(), tmp_path).memory.total_bytes == total_bytes


def test_free_without_a_unit_is_not_guessed(tmp_path: Path) -> None:
    head = "              total        used        free      shared  buff/cache   available\n"
    with pytest.raises(ReadError, match="unit"):
        read_bytes(f"{head}Mem:       4000000    1    1    1    1   100000\n".encode(), tmp_path)


def test_several_outputs_are_one_machine() -> None:
    facts = facts_of("several-outputs/capture.txt")
    (gpu,) = facts.accelerators
    assert (gpu.name, gpu.address, gpu.memory_bytes.value) == ("NVIDIA L40S", "0000:5e:00.0", 46068 * MIB)
    (device,) = facts.pci
    assert (device.pci_id, device.numa_node.value, device.bars_bytes) == ("10de:26b9", 0, (256 * MIB,))
    assert facts.kernel.cmdline[-1] == "isolcpus=4-63"
    assert {text.format for text in facts.texts} == {"proc-cmdline", "nvidia-smi-q", "lspci", "kernel-log"}


def test_the_matrix_of_links() -> None:
    facts = facts_of("topo-m/topo.txt")
    assert [gpu.nvlinks_active.value for gpu in facts.accelerators] == [18, 18, 0, 18]
    assert facts.accelerators[0].peers == ((1, "NVLink"), (2, "NODE"), (3, "NVLink"))
    assert facts.accelerators[0].near_rdma == (("mlx5_0", "PIX"),)
    assert [gpu.numa_node.value for gpu in facts.accelerators] == [0, 0, 0, 1]
    assert [(node.node, node.cpus) for node in facts.numa.nodes] == [
        (0, (*range(16), *range(64, 80))),
        (1, (*range(16, 32), *range(80, 96))),
    ]
    assert [nic.rdma for nic in facts.network] == [("mlx5_0",)]


def test_a_pair_with_a_bridge_says_nothing_of_the_other_cards(tmp_path: Path) -> None:
    text = (
        "\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\n"
        "GPU0\t X \tNV4\tSYS\tSYS\t0-7\t0\nGPU1\tNV4\t X \tSYS\tSYS\t0-7\t0\n"
        "GPU2\tSYS\tSYS\t X \tPHB\t8-15\t1\nGPU3\tSYS\tSYS\tPHB\t X \t8-15\t1\n"
    )
    facts = read_bytes(text.expandtabs(8).encode(), tmp_path)
    assert [gpu.nvlinks_active.value for gpu in facts.accelerators] == [4, 4, None, None]
    assert not judge(facts).findings


def test_only_what_was_read_is_evidence() -> None:
    finding = by_id("unread-shown-as-read/lspci.txt")["driver.not-bound"]
    assert [evidence.source for evidence in finding.evidence] == ["lspci 0000:5e:00.0"]


# -- inputs that hold no machine


def archive(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_an_unrelated_archive_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = PASTED / "unrelated-archive/holiday.tar.gz"
    for threshold in ("medium", "info", "never"):
        assert main(["doctor", "--from", str(path), "--fail-on", threshold]) == 2
    printed = capsys.readouterr()
    assert "is not a recording of a machine" in printed.err and "No findings" not in printed.out


def test_a_machine_two_directories_down_is_read(tmp_path: Path) -> None:
    path = PASTED / "unrelated-archive/deep.tar.gz"
    facts = read_facts_of(path, KNOBS)
    assert (len(facts.cpu.online), facts.memory.total_bytes) == (1, GIB)
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            if member.isfile() and (content := tar.extractfile(member)) is not None:
                (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / member.name).write_bytes(content.read())
    assert read_facts_of(tmp_path, KNOBS).memory.total_bytes == GIB


@pytest.mark.parametrize(
    "files",
    [
        {"photos/proc/readme.txt": b"a holiday"},
        {"proc/readme.txt": b"a holiday"},
        {"sys/a": b"", "etc/b": b"c"},
    ],
)
def test_a_tree_of_nothing_is_no_machine(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive(files))
    with pytest.raises(ReadError, match="holds nothing of a machine"):
        read_facts_of(path, KNOBS)


def test_two_machines_in_one_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive({f"{name}/proc/meminfo": b"MemTotal: 4 kB\nMemAvailable: 4 kB\n" for name in ("a", "b")}))
    with pytest.raises(ReadError, match="holds 2 machines"):
        read_facts_of(path, KNOBS)


def test_an_unknown_text_names_the_formats_nearest_first(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("rocm profiler output of an amd card: partitions and clocks\n")
    with pytest.raises(ReadError) as raised:
        read_facts_of(path, KNOBS)
    hint = raised.value.hint or ""
    assert "no part of the text" in str(raised.value)
    assert hint.index("rocm-smi") < 120 and "pasted-formats.md" in hint


def test_a_directory_and_an_archive_of_texts_are_one_machine(tmp_path: Path) -> None:
    capture = {
        "host/smi.txt": (PASTED / "nvidia-smi-table/table.txt").read_bytes(),
        "host/lspci.txt.gz": gzip.compress(
            b"1b:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)\n\tNUMA node: 1\n"
        ),
        "host/picture.png": b"\x89PNG\0\0",
        "host/notes.txt": b"a sentence\n",
    }
    path = tmp_path / "capture.tar.gz"
    path.write_bytes(archive(capture))
    directory = tmp_path / "capture"
    for name, content in capture.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    for where in (path, directory):
        facts = read_facts_of(where, KNOBS)
        assert [gpu.address for gpu in facts.accelerators] == ["0000:1b:00.0", "0000:43:00.0"]
        assert {device.address: device.numa_node.value for device in facts.pci}["0000:1b:00.0"] == 1
        assert {text.file.rpartition("/")[2] for text in facts.texts if not text.format} == {"notes.txt"}


# -- what stands around a text


def coloured(text: str) -> str:
    return "\n".join(f"\x1b[1;32m{line[: len(line) // 2]}\x1b[0m{line[len(line) // 2 :]}\x1b[K" for line in text.split("\n"))


AROUND: dict[str, Callable[[str], str]] = {
    "prompt": lambda text: f"ops@node7:/srv/models (main)$ sudo some-program --all\n{text}\nops@node7:/srv/models$ \n",
    "root prompt": lambda text: f"[root@node7 ~]# x\n{text}",
    "virtual environment": lambda text: f"(venv) ops@node7:~$ x\n{text}",
    "fence": lambda text: f"It says:\n\n```text\n{text}\n```\n\nAny idea?\n",
    "tilde fence": lambda text: f"~~~\n{text}\n~~~\n",
    "details": lambda text: f"<details>\n<summary>output</summary>\n\n```\n{text}\n```\n\n</details>\n",
    "preformatted": lambda text: f"<p>It says:</p>\n<pre><code>{text}\n</code></pre>\n",
    "quote": lambda text: "".join(f"> {line}\n" for line in text.split("\n")),
    "quoted twice": lambda text: "".join(f"> > {line}\n" for line in text.split("\n")),
    "indented": lambda text: "".join(f"    {line}\n" for line in text.split("\n")),
    "coloured": coloured,
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "no-break blanks": lambda text: text.replace("  ", " \xa0"),
    "zero-width blanks": lambda text: text.replace("\n", "\u200b\n"),
    "sentence": lambda text: f"Hello, this is what I get:\n\n{text}\n",
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", names(TEXTS))
def test_what_stands_around_a_text_changes_nothing(name: str, around: str, tmp_path: Path) -> None:
    plain = facts_of(name)
    facts = read_bytes(AROUND[around]((PASTED / name).read_text()).encode(), tmp_path)
    assert keys(judge(facts).findings) == keys(findings_of(name))
    assert [(gpu.index, gpu.name, gpu.address) for gpu in facts.accelerators] == [
        (gpu.index, gpu.name, gpu.address) for gpu in plain.accelerators
    ]
    assert {text.format for text in facts.texts} - {""} == {text.format for text in plain.texts} - {""}


def test_text_of_powershell_is_read(tmp_path: Path) -> None:
    facts = read_bytes((PASTED / "nvidia-smi-table/table.txt").read_text().encode("utf-16"), tmp_path)
    assert len(facts.accelerators) == 2


def cut_off(data: bytes) -> ForeignFacts | None:
    try:
        return read_text_files([("text", data)], "text")
    except ReadError:
        return None


MAY_COME_OF_A_CUT = {"accel.fewer-listed"}


@pytest.mark.parametrize("name", names(TEXTS))
def test_a_text_that_is_cut_off_makes_no_other_finding(name: str) -> None:
    lines = (PASTED / name).read_bytes().splitlines(keepends=True)
    whole = {finding.id for finding in findings_of(name)}
    some = False
    for count in range(len(lines)):
        told = cut_off(b"".join(lines[:count]))
        cut_off(b"".join(lines[:count])[:-3])  # within a line: a value may be the half of one, and nothing fails
        if told is not None:
            some = True
            found = {finding.id for finding in judge(name_devices(told.facts)).findings}
            assert found - MAY_COME_OF_A_CUT <= whole, (count, found - whole)
    assert some or len(lines) < 3


@pytest.mark.parametrize("name", names(TEXTS))
def test_two_texts_in_one_file_are_both_read(name: str, tmp_path: Path) -> None:
    other = "plain-host-tools/ibstat.txt" if "numactl" in name else "plain-host-tools/numactl.txt"
    for first, second in ((name, other), (other, name)):
        text = (PASTED / first).read_text().rstrip("\n") + "\n" + (PASTED / second).read_text()
        facts = read_bytes(text.encode(), tmp_path)
        assert {text.format for text in facts_of(name).texts} | {text.format for text in facts_of(other).texts} <= {
            text.format for text in facts.texts
        }
        expected = {finding.id for finding in (*findings_of(name), *findings_of(other))}
        assert {finding.id for finding in judge(facts).findings} >= expected


def test_what_was_not_understood_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text"
    noise = "".join(f"some words of a person, line {number}\n" for number in range(1, 33))
    path.write_text((PASTED / "plain-host-tools/numactl.txt").read_text() + "\n" + noise)
    main(["doctor", "--from", str(path)])
    printed = " ".join(capsys.readouterr().out.split())
    assert "not read: lines 13 to 44" in printed
    assert "read: numactl (lines 1 to 11)" in printed


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Of the function itself: another test may have loaded the module a second time.
    monkeypatch.setitem(read_facts_of.__globals__, "STANDARD_INPUT", PASTED / "topo-m/topo.txt")
    facts = read_facts_of(Path("-"), KNOBS)
    assert (facts.origin, len(facts.accelerators)) == ("standard input", 4)


def test_parts_that_contradict_each_other_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = (PASTED / "nvidia-smi-table/table.txt").read_text()
    heading = "index, name, pci.bus_id, power.limit [W], temperature.gpu\n"
    query = heading + "0, NVIDIA H100 80GB HBM3, 00000000:1B:00.0, 650.00 W, 60\n"
    facts = read_bytes(f"{table}$ x\n{query}".encode(), tmp_path)
    (conflict,) = facts.conflicts
    assert conflict.fact == "0000:1b:00.0 power limit"
    assert [value for value, _ in conflict.values] == ["500.0", "650.0"]
    assert facts.accelerators[0].power_limit_w.value == 650.0
    assert len(facts.accelerators) == 2
    main(["doctor", "--from", str(tmp_path / "text")])
    assert "contradiction: 0000:1b:00.0 power limit: 500.0 (nvidia-smi: Pwr:Cap), 650.0" in " ".join(
        capsys.readouterr().out.split()
    )


def test_one_text_has_one_line_of_what_was_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", "--from", str(PASTED / "topo-m/topo.txt")]
    main(arguments)
    short = capsys.readouterr().out
    main([*arguments, "--verbose"])
    long = capsys.readouterr().out
    assert short.count("not judged") == 1 and "--verbose lists them" in short
    assert long.count("not judged") > 2


# -- no evidence names a source that was not read


def sources_in(value: Any) -> Iterator[tuple[str, bool]]:
    """(source, whether it was read) of every reading, and of the other fields that name one."""
    if isinstance(value, Reading):
        yield value.source, value.unknown is not Unknown.NOT_RECORDED
    elif isinstance(value, tuple):
        for item in value:
            yield from sources_in(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name == "source":
                yield getattr(value, field.name), True
            yield from sources_in(getattr(value, field.name))


def unread_sources(facts: HostFacts, findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """(finding, source) of evidence that nothing in the facts was read from."""
    read = {source for source, was_read in sources_in(facts) if was_read and source}
    read |= {device.address for device in facts.pci} | {
        gpu.address or f"{gpu.vendor} {gpu.index}" for gpu in facts.accelerators
    }
    read |= {f"{facts.kernel_log.source} line {event.line}" for event in facts.kernel_log.events}
    if facts.kernel.modules:
        read.add(facts.kernel.modules_source)
    if facts.kernel.cmdline:
        read.add("/proc/cmdline")
    if facts.cpu.isolated:
        read.add("/sys/devices/system/cpu/isolated")
    return [
        (finding.id, evidence.source)
        for finding in findings
        for evidence in finding.evidence
        if evidence.source not in read and not any(source.startswith(evidence.source + ":") for source in read)
    ]


@pytest.mark.parametrize("name", names(TEXTS))
def test_no_evidence_names_a_source_that_was_not_read(name: str) -> None:
    assert unread_sources(facts_of(name), findings_of(name)) == []


UNREAD = {
    "kernel": ("/proc/modules", "/sys/module/nvidia", "/lib/modules", "/boot", "/proc/cmdline", "/proc/driver"),
    "pci": ("/sys/bus/pci", "lspci"),
    "cpu": ("/sys/devices/system/cpu", "/proc/cpuinfo"),
    "numa": ("/sys/devices/system/node",),
    "memory": ("/proc/meminfo", "/sys/kernel/mm", "/proc/mounts"),
    "os": ("/etc", "/proc/1/", "/sys/class/dmi"),
    "cgroup": ("/sys/fs/cgroup/user.slice",),
    "mounts": ("/proc/self/mountinfo",),
    "blocks": ("/sys/block",),
    "accelerators": ("nvml:",),
    "network": ("/sys/class/net",),
}


def test_facts_that_were_not_read_are_no_evidence() -> None:
    """A machine on which much is wrong, with each part of its facts left out in turn, and all parts but one."""
    sick = with_gpus(
        make_facts(), 2, persistence=known(False, "nvml:PersistenceMode(0)"), library_version=known("591.1", "/usr/lib/a")
    )
    sick = dataclasses.replace(
        sick,
        kernel=dataclasses.replace(
            make_kernel(next_release=known("6.13.0", "/boot/vmlinuz"), cmdline=("isolcpus=2-7",)),
            modules=sick.kernel.modules,
            installed=("6.13.0",),
            gpu_modules=(("6.13.0", ()),),
            nvidia_flavour=known("proprietary", "/proc/driver/nvidia/version"),
        ),
        pci=tuple(
            dataclasses.replace(device, driver=absent(f"/sys/bus/pci/devices/{device.address}/driver"), device=0x2901)
            if device.vendor == 0x10DE
            else device
            for device in sick.pci
        ),
        memory=make_memory(),
        engines=(make_engine(devices=(), oom_score_adj=500, swap_bytes=GIB),),
    )
    empty = empty_facts("left out")
    findings = 0
    for left_out in [frozenset(), *(frozenset({name}) for name in UNREAD), *(frozenset(UNREAD) - {name} for name in UNREAD)]:
        facts = dataclasses.replace(sick, **{name: getattr(empty, name) for name in left_out})
        for finding in judge(facts).findings:
            findings += 1
            for evidence in finding.evidence:
                wrong = [name for name in left_out if evidence.source.startswith(UNREAD[name])]
                assert not wrong, f"{finding.id}: {evidence.fact} ({evidence.source}), and {wrong} was not read"
    assert findings > 40


def test_the_report_says_what_was_read() -> None:
    report = read_report(PASTED / "several-outputs/capture.txt")
    assert {text.format for text in report.facts.texts} >= {"lspci", "kernel-log"}


# -- logs of engines

VLLM = """\
INFO 01-05 01:02:03 [__init__.py:216] Automatically detected platform cuda.
(EngineCore_DP0 pid=4711) WARNING 01-05 01:02:09 [car.py:143] Custom allreduce is disabled because of PCIe-only GPUs.
(EngineCore_DP0 pid=4711) INFO 01-05 01:02:30 [kv_cache_utils.py:1087] GPU KV cache size: 24,576 tokens
(EngineCore_DP0 pid=4711) INFO 01-05 01:02:30 [kv_cache.py:91] Maximum concurrency for 8,192 tokens per request: 0.19x
(EngineCore_DP0 pid=4711) WARNING 01-05 01:02:31 [vllm.py:391] Cudagraph is disabled under eager mode
"""
LLAMA = """\
ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA L40S, compute capability 8.9, VMM: yes
build: 6500 (abcdef12) with cc for x86_64-linux-gnu
load_tensors: offloading 10 repeating layers to GPU
load_tensors: offloaded 10/33 layers to GPU
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (VLLM, {"engine.no-custom-allreduce": INFO, "engine.kv-small": MEDIUM, "engine.eager": LOW}),
        (
            VLLM.replace("0.19x", "4.19x").replace("platform cuda", "platform cpu").replace("eager mode", "x"),
            {"engine.no-custom-allreduce": INFO, "engine.no-device": CRITICAL},
        ),
        (LLAMA, {"engine.partly-offloaded": MEDIUM}),
        (LLAMA.replace("offloaded 10/33", "offloaded 33/33"), {}),
        ("warning: no usable GPU found, --gpu-layers option will be ignored\n", {"engine.no-device": CRITICAL}),
    ],
)
def test_logs_of_engines(text: str, found: dict[str, Severity], tmp_path: Path) -> None:
    facts = read_bytes(text.encode(), tmp_path)
    assert {finding.id: finding.severity for finding in judge(facts).findings} == found
    assert not [text for text in facts.texts if not text.format]


def test_devices_of_a_llama_log(tmp_path: Path) -> None:
    assert [gpu.name for gpu in read_bytes(LLAMA.encode(), tmp_path).accelerators] == ["NVIDIA L40S"]


def test_systemctl_show(tmp_path: Path) -> None:
    text = (
        "$ systemctl show vllm.service\nType=exec\nRestart=always\nControlGroup=/system.slice/vllm.service\n"
        "CPUQuotaPerSecUSec=4s\n"
        "MemoryMax=infinity\nMemoryCurrent=8589934592\nEffectiveCPUs=0-3 8\nLimitNOFILESoft=1024\n"
    )
    facts = read_bytes(text.encode(), tmp_path)
    group = facts.cgroup
    assert (group.path, group.quota_cpus.value, group.memory_max_bytes.unknown, group.memory_current_bytes.value) == (
        *("/system.slice/vllm.service", 4.0, Unknown.ABSENT),
        8 * GIB,
    )
    assert (group.cpus.value, facts.limits) == ((0, 1, 2, 3, 8), (("nofile", 1024),))
    assert {finding.id: finding.severity for finding in judge(facts).findings} == {"quota.set": LOW}


def test_a_bug_report_of_nvidia(tmp_path: Path) -> None:
    """Its sections stand one after the other, with a rule, a file's name or a command before each."""
    rule = "____________________________________________\n"
    text = (
        f"nvidia-bug-report.sh Version: 1\n{rule}\n*** /proc/cmdline\n*** ls: -r--r--r-- 1 root root 0 /proc/cmdline\n"
        f"BOOT_IMAGE=/vmlinuz ro isolcpus=4-63\n{rule}\n/usr/bin/lspci -vvv\n\n"
        + (PASTED / "unread-shown-as-read/lspci.txt").read_text()
        + f"{rule}\n/usr/bin/nvidia-smi --query\n"
        + (PASTED / "row-remap/smi-q.txt").read_text()
        + f"{rule}\nScanning kernel log files for NVIDIA kernel messages:\n"
        + (PASTED / "kernel-log/dmesg.txt").read_text()
    )
    path = tmp_path / "nvidia-bug-report.log.gz"
    path.write_bytes(gzip.compress(text.encode()))
    facts = read_facts_of(path, KNOBS)
    assert {text.format for text in facts.texts} == {"", "proc-cmdline", "lspci", "nvidia-smi-q", "kernel-log"}
    (gpu,) = facts.accelerators
    assert (gpu.address, gpu.name, gpu.rows_pending.value) == ("0000:5e:00.0", "NVIDIA H100 80GB HBM3", True)
    assert facts.kernel.cmdline[-1] == "isolcpus=4-63"


def test_titles_of_rocm_smi(tmp_path: Path) -> None:
    text = (
        "============================ ROCm System Management Interface ============================\n"
        "====================================== Product Info ======================================\n"
        "GPU[0]\t\t: Card Series: \t\tAMD Instinct MI300X\nGPU[0]\t\t: Card Model: \t\t0x74a1\n"
        "GPU[0]\t\t: PCI Bus: 0000:05:00.0\nGPU[1]\t\t: Card Series: \t\tAMD Instinct MI300X\n"
        "GPU[1]\t\t: PCI Bus: 0000:26:00.0\n"
        "================================== End of ROCm SMI Log ===================================\n"
    )
    facts = read_bytes(text.encode(), tmp_path)
    assert [(gpu.index, gpu.name, gpu.address) for gpu in facts.accelerators] == [
        (0, "AMD Instinct MI300X", "0000:05:00.0"),
        (1, "AMD Instinct MI300X", "0000:26:00.0"),
    ]
    assert facts.pci[0].pci_id == "1002:74a1"


def test_the_text_of_amd_smi(tmp_path: Path) -> None:
    text = (
        "GPU: 0\n    ASIC:\n        MARKET_NAME: AMD Instinct MI300X\n        DEVICE_ID: 0x74a1\n"
        "    BUS:\n        BDF: 0000:05:00.0\n"
        "    VRAM:\n        SIZE: 196592 MB\n"
        "    PARTITION:\n        COMPUTE_PARTITION: SPX\n        MEMORY_PARTITION: NPS1\n"
        "    NUMA:\n        NODE: 1\n"
    )
    facts = read_bytes(text.encode(), tmp_path)
    (gpu,) = facts.accelerators
    assert (gpu.name, gpu.address, gpu.memory_bytes.value, gpu.compute_partition.value, gpu.numa_node.value) == (
        *("AMD Instinct MI300X", "0000:05:00.0", 196592 * MIB, "SPX"),
        1,
    )
    assert not judge(facts).findings


def test_what_looks_like_a_format_and_is_none_is_not_read(tmp_path: Path) -> None:
    text = (PASTED / "plain-host-tools/numactl.txt").read_text() + "\n19:00.0 broken\n\nnode distances:\n"
    facts = read_bytes(text.encode(), tmp_path)
    assert [(text.first_line, text.last_line) for text in facts.texts if not text.format] == [(13, 15)]


def test_a_line_between_those_of_an_output_is_passed_over(tmp_path: Path) -> None:
    lines = (PASTED / "display-class-gpu/lspci.txt").read_text().splitlines(keepends=True)
    facts = read_bytes(
        "".join([*lines[:3], "pcilib: sysfs_read_vpd: read failed: No such device\n", *lines[3:]]).encode(), tmp_path
    )
    assert keys(judge(facts).findings) == keys(findings_of("display-class-gpu/lspci.txt"))
    assert [(text.first_line, text.format) for text in facts.texts if not text.format] == [(4, "")]


def test_a_finding_that_is_only_possible_does_not_carry_the_headline() -> None:
    report = read_report(PASTED / "nvidia-smi-table/table.txt")
    weak = dataclasses.replace(
        report.findings[0], id="engine.no-device", confidence=Confidence.POSSIBLE, title="it may be that nothing works"
    )
    sure = dataclasses.replace(report, audit=dataclasses.replace(report.audit, findings=(weak, *report.findings)))
    assert verdict(sure).startswith("One finding keeps accelerators")
    head = render_page(sure, made=TODAY).partition("</header>")[0]
    assert "nothing works" not in head and "does not answer" in head
    only = dataclasses.replace(report, audit=dataclasses.replace(report.audit, findings=(weak,)))
    assert verdict(only) == "One finding may keep accelerators from being used; none is certain."


def test_the_page_and_sarif_say_what_was_read() -> None:
    report = read_report(PASTED / "prompt-and-fence/fence.md")
    page = render_page(report, made=TODAY)
    assert "lspci (lines 4 to 10)" in page and "line 1, line 13" in page
    notes = make_sarif(report)["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert "not read: line 1, line 13" in [note["message"]["text"] for note in notes]


def test_inspect_shows_mig_instances_and_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "--from", str(PASTED / "mig-not-shown/smi-q.txt")])
    assert "MIG: 2 instances, 39.5 GiB and 9.6 GiB" in " ".join(capsys.readouterr().out.split())
    main(["inspect", "--from", str(PASTED / "amd-text/amd-smi.json")])
    assert "CPX" in capsys.readouterr().out


def test_lines_of_a_kernel_log_keep_their_numbers() -> None:
    path = PASTED / "several-outputs/capture.txt"
    told = read_text_files([(path.name, path.read_bytes())], "log")
    assert told is not None
    log = (told.files.read("/kernel.log", limit=MIB).value or "").split("\n")
    assert log[:32] == [""] * 32 and "Xid" in log[32]


def test_of_a_long_kernel_log_the_newest_lines_are_kept() -> None:
    count = 200_000
    data = b"".join(
        b"[%9d.000000] usb 1-1: new high-speed USB device number %d, and so on and on\n" % (n, n) for n in range(count)
    )
    assert len(data) > KERNEL_LOG_MOST
    told = read_text_files([("dmesg", data)], "log")
    assert told is not None
    (text,) = told.facts.texts
    assert (text.format, text.first_line, text.last_line) == ("kernel-log", 1, count)
    log = told.files.files["/kernel.log"]
    assert len(log) < 16 * MIB and log.endswith(data[-1000:])
    assert log.count(b"\n") == count
    assert [problem.source for problem in told.facts.problems] == ["kernel log"]


@pytest.mark.parametrize(
    ("line", "name", "vendor"),
    [
        ("GPU models and configuration: GPU 0: NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090", "nvidia"),
        ("GPU 0: AMD Instinct MI300X (gfx942:sramecc+:xnack-)", "AMD Instinct MI300X", "amd"),
    ],
)
def test_names_of_gpus_in_an_environment_report(line: str, name: str, vendor: str, tmp_path: Path) -> None:
    (gpu,) = read_bytes(f"PyTorch version: 2.9.1\n{line}\n".encode(), tmp_path).accelerators
    assert (gpu.name, gpu.vendor, gpu.index) == (name, vendor, 0)


def test_a_card_without_a_driver_in_a_short_listing(tmp_path: Path) -> None:
    """`lspci -nnk`: what is not verbose still lists drivers."""
    card = "3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)\n"
    bound = f"18:00.0 {card}\tKernel driver in use: nvidia\n\tKernel modules: nvidia\n"
    facts = read_bytes(f"{bound}2a:00.0 {card}\tKernel modules: nvidia\n".encode(), tmp_path)
    assert keys(judge(facts).findings) == {("driver.not-bound", ("0000:2a:00.0",))}
    only = read_bytes(f"2a:00.0 {card}\tKernel modules: nvidia\n".encode(), tmp_path)
    assert not judge(only).findings


@pytest.mark.parametrize(
    "prefix",
    [
        "[ 9001.000100] ", "[    1.5] ", "[ 9001.000100 <    0.000001>] ", "[Mon Jan  5 01:02:03 2026] ",
        "Jan 05 01:02:03 host kernel: ",
        "2026-01-05T01:02:03.000000+00:00 host kernel: ", "2026-01-05T01:02:03,000100+00:00 ",
        "kern  :warn  : [ 9001.000100] ",
        "4,1234,9001000100,-;", "<4>[ 9001.000100] ", "",
    ],
)  # fmt: skip
def test_every_prefix_of_a_kernel_log_is_recognised(prefix: str) -> None:
    line = f"{prefix}NVRM: Xid (PCI:0000:43:00): 79, pid=4242, name=x, GPU has fallen off the bus.\n"
    told = read_text_files([("log", line.encode())], "log")
    assert told is not None
    assert [text.format for text in told.facts.texts] == ["kernel-log"]
    assert told.files.files["/kernel.log"].decode() == line


AMD_TABLE = """\
+------------------------------------------------------------------------------+
| AMD-SMI 26.9.9+1234abcd      amdgpu version: 6.99.1   ROCm version: 7.9.0    |
| VBIOS version: 00012345                                                      |
| Platform: Linux Baremetal                                                    |
|-------------------------------------+----------------------------------------|
| BDF                        GPU-Name | Mem-Uti   Temp   UEC       Power-Usage |
| GPU  HIP-ID  OAM-ID  Partition-Mode | GFX-Uti    Fan               Mem-Usage |
|=====================================+========================================|
| 0000:05:00.0    AMD Instinct MI300X | 0 %      41 °C   3           142/750 W |
|   0       0       7        DPX/NPS1 | 0 %        N/A           283/196592 MB |
|-------------------------------------+----------------------------------------|
| 0000:05:00.1    AMD Instinct MI300X | N/A        N/A   0                 N/A |
|   1       1     N/A             N/A | N/A        N/A            492/98296 MB |
+-------------------------------------+----------------------------------------+
| Processes:                                                                   |
|  No running processes found                                                  |
+------------------------------------------------------------------------------+
"""


def test_the_table_of_amd_smi(tmp_path: Path) -> None:
    facts = read_bytes(AMD_TABLE.encode(), tmp_path)
    first, second = facts.accelerators
    assert (first.index, first.name, first.address, first.memory_bytes.value, first.power_limit_w.value) == (
        *(0, "AMD Instinct MI300X", "0000:05:00.0"),
        *(196592 * MIB, 750.0),
    )
    assert (first.compute_partition.value, first.driver_version.value, first.temperature_c.value) == ("DPX", "6.99.1", 41.0)
    assert (second.address, second.compute_partition.value, second.memory_bytes.value) == ("0000:05:00.1", None, 98296 * MIB)
    assert facts.os.virtualisation.value == "none"
    assert {finding.id for finding in judge(facts).findings} == {"accel.ecc-uncorrected", "accel.partitioned"}
    guest = read_bytes(AMD_TABLE.replace("Linux Baremetal", "Linux Guest (Passthrough)").encode(), tmp_path)
    assert guest.os.virtualisation.value == "virtual machine"


@pytest.mark.parametrize("name", ["collect-env/env.txt", "mig-not-shown/smi-q.txt", "nvidia-smi-failed/fail.txt"])
def test_the_report_as_json_is_what_its_schema_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--from", str(PASTED / name), "--json"])
    document = json.loads(capsys.readouterr().out)
    schema = json.loads((Path(__file__).parents[2] / SCHEMA_PAGE).read_text())
    assert list(problems_of(document, schema, schema)) == []
    assert document["facts"]["texts"]


def test_a_report_to_give_away_names_no_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text"
    log = VLLM.replace("because of PCIe-only GPUs", "because of /home/canaryalice/models")
    path.write_text(f"CUDA_HOME=/home/canaryalice/cuda\nPyTorch version: 2.9.1\n{log}")
    main(["doctor", "--from", str(path), "--json"])
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["frameworks"]["environment"] and facts["engine_notes"]
    assert "canaryalice" not in json.dumps(facts)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_exit_status_follows_the_findings(name: str) -> None:
    severities = {severity for severity, _ in EXPECTED[name].values()}
    assert main(["doctor", "--from", str(PASTED / name)]) == int(bool(severities & {CRITICAL, HIGH, MEDIUM}))


def test_a_listing_of_a_virtual_machine_judges_no_links(tmp_path: Path) -> None:
    virtio = "00:03.0 Ethernet controller [0200]: Red Hat, Inc. Virtio network device [1af4:1000]\n"
    facts = read_bytes(virtio.encode() + (PASTED / "unread-shown-as-read/lspci.txt").read_bytes(), tmp_path)
    assert facts.os.virtualisation.value == "virtual machine"
    narrow = (PASTED / "display-class-gpu/lspci.txt").read_bytes()
    assert judge(read_bytes(virtio.encode() + narrow, tmp_path)).findings == ()


def test_the_effect_of_a_narrow_link_is_that_of_its_generation() -> None:
    assert "a Gen4 x16 link 28 GB/s" in by_id("prompt-and-fence/prompt.txt")["link.narrow"].effect
    assert by_id("display-class-gpu/lspci.txt")["link.narrow"].effect.startswith("Gen5 x16 carries about 56 GB/s, 89 %")


@pytest.mark.parametrize("name", ["kernel-log/dmesg.txt", "several-outputs/capture.txt"])
def test_evidence_of_the_kernel_log_names_its_line_in_the_text(name: str) -> None:
    lines = (PASTED / name).read_text().split("\n")
    finding = by_id(name)["kernel.xid-79"]
    assert finding.evidence
    for evidence in finding.evidence:
        file, _, number = evidence.source.partition(" line ")
        message = evidence.fact.partition(" (")[0]
        assert file == Path(name).name and message in lines[int(number) - 1]


@pytest.mark.parametrize("prefix", ["Jan 05 01:02:03 node7 vllm[4711]: ", "vllm-1  | "])
@pytest.mark.parametrize("log", [VLLM, LLAMA])
def test_logs_of_engines_behind_the_prefix_of_another_program(log: str, prefix: str, tmp_path: Path) -> None:
    plain = judge(read_bytes(log.encode(), tmp_path)).findings
    facts = read_bytes("".join(f"{prefix}{line}\n" for line in log.splitlines()).encode(), tmp_path)
    assert keys(judge(facts).findings) == keys(plain) != set()
    assert {text.format for text in facts.texts} == {"engine-log"}
