"""What is read and found in pasted outputs of NVIDIA's tools, and in errors that they and CUDA print."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import pytest
from tests.unit.facts_factory import make_facts, make_pci, with_gpus
from tests.unit.pasted_cases import CRITICAL, KNOBS, MIB, PASTED, by_id, facts_of, judge, read_bytes

from bedplate.cli.main import main
from bedplate.flows.machine import read_facts_of
from bedplate.model.facts.reading import Unknown, known


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
    assert "drain its engines" in fix and "power the machine off" in fix and "Xid" in fix


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


def test_a_failure_of_nvidia_smi() -> None:
    finding = by_id("nvidia-smi-failed/fail.txt")["driver.version-mismatch"]
    assert "module is 591.10.07, the library is 591.12" in finding.title


def test_what_the_fix_of_a_mismatch_stops_it_starts_again() -> None:
    fix = by_id("nvidia-smi-failed/fail.txt")["driver.version-mismatch"].fix
    stops = [line.removeprefix("systemctl stop ") for line in fix if line.startswith("systemctl stop ")]
    starts = [line.removeprefix("systemctl start ") for line in fix if line.startswith("systemctl start ")]
    assert stops == starts == ["nvidia-persistenced nvidia-dcgm nvidia-fabricmanager"]
    reload = next(number for number, line in enumerate(fix) if line.startswith("modprobe -r nvidia_drm"))
    assert fix.index(f"systemctl stop {stops[0]}") < reload < fix.index(f"systemctl start {starts[0]}")
    assert any(line.startswith("fuser -v /dev/nvidia") for line in fix[:reload])
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
    assert finding.fix[3] == "modprobe -r nvidia_peermem"
    assert "systemctl start nvidia-persistenced nvidia-dcgm" in finding.fix
    assert not any("fabricmanager" in line for line in finding.fix)
    switch = make_pci("0000:07:00.0", class_code=0x068000, device=0x22A3, name="NVSwitch")
    (finding,) = [
        finding
        for finding in judge(dataclasses.replace(facts, pci=(switch, *facts.pci))).findings
        if finding.id == "driver.version-mismatch"
    ]
    assert "systemctl start nvidia-persistenced nvidia-dcgm nvidia-fabricmanager" in finding.fix


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


def test_inspect_shows_mig_instances_and_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "--from", str(PASTED / "mig-not-shown/smi-q.txt")])
    assert "MIG: 2 instances, 39.5 GiB and 9.6 GiB" in " ".join(capsys.readouterr().out.split())
    main(["inspect", "--from", str(PASTED / "amd-text/amd-smi.json")])
    assert "CPX" in capsys.readouterr().out
