"""What is read of environment reports, logs of engines and units of services."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.pasted_cases import CRITICAL, GIB, INFO, LOW, MEDIUM, PASTED, VLLM, facts_of, judge, keys, read_bytes

from bedplate.model.facts.finding import Severity
from bedplate.model.facts.pci import PciKind
from bedplate.model.facts.reading import Unknown


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


def test_names_of_an_nccl_file() -> None:
    facts = facts_of("nccl-dump-names/topo.xml")
    (gpu,) = facts.accelerators
    assert (gpu.name, gpu.address, gpu.nvlinks_active.value) == ("NVIDIA H100 SXM5 80GB", "0000:19:00.0", 18)
    assert {device.address: device.kind for device in facts.pci}["0000:16:00.0"] is PciKind.SWITCH_UPSTREAM
    (nic,) = facts.network
    assert (nic.name, nic.speed_mbps.value) == ("cxi0", 200_000)


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


@pytest.mark.parametrize("prefix", ["Jan 05 01:02:03 node7 vllm[4711]: ", "vllm-1  | "])
@pytest.mark.parametrize("log", [VLLM, LLAMA])
def test_logs_of_engines_behind_the_prefix_of_another_program(log: str, prefix: str, tmp_path: Path) -> None:
    plain = judge(read_bytes(log.encode(), tmp_path)).findings
    facts = read_bytes("".join(f"{prefix}{line}\n" for line in log.splitlines()).encode(), tmp_path)
    assert keys(judge(facts).findings) == keys(plain) != set()
    assert {text.format for text in facts.texts} == {"engine-log"}
