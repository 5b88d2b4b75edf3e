"""One cause, one finding: what follows from a message belongs to it, and nothing else does."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.facts_factory import make_facts, make_os, with_gpus

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_codes, read_kernel_messages, read_rows_for
from bedplate.host.kernel.kernel_log import parse_kernel_log
from bedplate.model.audit import Suppression
from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.kernel_log import KernelLog
from bedplate.model.facts.reading import Unknown, known
from bedplate.plan.audit import audit
from bedplate.plan.kernel_causes import find_incidents

MESSAGES = read_kernel_messages()
LOGS = Path(__file__).parents[1] / "kernel_logs"
PAGE = Path(__file__).parents[2] / "docs/how-to/read-the-kernel-log.md"
FOUND, ROWS = read_findings(), (*read_codes("sxid"), *read_codes("xid"), *MESSAGES.rows)


def log_of(*lines: str) -> KernelLog:
    return parse_kernel_log(lines, MESSAGES.rows, source="dmesg.txt")


def judge(log: KernelLog, facts: HostFacts | None = None, suppressions: tuple[Suppression, ...] = ()) -> tuple[Finding, ...]:
    """The findings that the log adds to a machine in which nothing else is wrong."""
    facts = replace(facts or make_facts(), kernel_log=log)
    judged = audit(
        facts,
        (),
        FOUND,
        suppressions,
        today="2026-11-30",
        kernel_rows=read_rows_for(log.events),
        kernel_steps=MESSAGES.steps,
    )
    return judged.findings


def brief(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(finding.id, finding.severity.value, finding.where[0]) for finding in findings]


def lines_of(name: str) -> list[str]:
    return (LOGS / name).read_text().splitlines()


def test_a_log_with_several_faults_gives_a_finding_for_each_cause() -> None:
    findings = judge(log_of(*lines_of("several-faults.txt")))
    assert sorted(brief(findings)) == [
        ("kernel.oom-cgroup", "high", "machine"),
        ("kernel.xid-79", "critical", "0000:43:00.0"),
        ("kernel.xid-94", "high", "0000:1b:00.0"),
    ]
    lost = next(finding for finding in findings if finding.id == "kernel.xid-79")
    assert lost.title == "0000:43:00.0 has fallen off the bus (Xid 79)"
    assert any("BadTLP" in evidence.fact for evidence in lost.evidence)
    assert any("Corrected" in evidence.fact for evidence in lost.evidence)
    assert {evidence.source.split()[0] for finding in findings for evidence in finding.evidence} == {"dmesg.txt"}
    assert any("power" in line for line in lost.fix)
    killed = next(finding for finding in findings if finding.id == "kernel.oom-cgroup")
    assert killed.title.startswith("VLLM::EngineCor was killed")


def test_a_driver_of_the_wrong_flavour_is_one_finding_of_three_lines() -> None:
    (finding,) = judge(log_of(*lines_of("wrong-flavour.txt")))
    assert brief((finding,)) == [("driver.wrong-flavour", "critical", "0000:c1:00.0")]
    assert sum("RmInitAdapter" in evidence.fact for evidence in finding.evidence) == 1


@pytest.mark.parametrize(
    ("line", "id"),
    [
        (
            "NVRM: API mismatch: the client has the version 535.1.2, but NVRM: this kernel module has the version 535.1.1.",
            "driver.version-mismatch",
        ),
        ("NVRM: The NVIDIA probe routine was not called for 1 device(s).", "driver.not-bound"),
        ("NVRM: GPU at PCI:0000:18:00.0 has fallen off the bus.", "kernel.nvidia-gpu-lost"),
        ("NVRM: Timeout after 6s of waiting for RPC response from GPU4 GSP! Expected function 76", "kernel.xid-119"),
    ],
)
def test_the_driver_says_some_faults_without_a_number(line: str, id: str) -> None:
    (finding,) = judge(log_of(f"[ 5.0] {line}"))
    assert (finding.id, finding.severity) == (id, Severity.CRITICAL)


@pytest.mark.parametrize("code", [13, 31, 43, 45])
def test_an_applications_own_fault_is_told_and_is_no_alarm(code: int) -> None:
    (finding,) = judge(log_of(f"[ 5.0] NVRM: Xid (PCI:0000:43:00): {code}, pid=4242, name=python3, x"))
    assert (finding.id, finding.severity, finding.rank) == (f"kernel.xid-{code}", Severity.INFO, 0.0)


@pytest.mark.parametrize(
    ("action", "severity"),
    [
        ("0x0 (None)", Severity.INFO),
        ("0x1 (GPU Reset Required)", Severity.CRITICAL),
        ("0x2 (Node Reboot Required)", Severity.CRITICAL),
        ("0x3 (Drain P2P)", Severity.MEDIUM),
        ("0x4 (Drain and Reset)", Severity.HIGH),
    ],
)
def test_what_the_driver_asks_for_is_as_severe_as_it_says(action: str, severity: Severity) -> None:
    asks = f"NVRM: Xid (PCI:0000:43:00): 154, GPU recovery action changed from 0x7 (Unknown) to {action}"
    (alone,) = judge(log_of(f"[ 5.0] {asks}"))
    assert (alone.id, alone.severity) == ("kernel.xid-154", severity)
    (cause,) = judge(log_of("[ 4.0] NVRM: Xid (PCI:0000:43:00): 94, Contained: SM (0x1)", f"[ 5.0] {asks}"))
    assert (cause.id, cause.severity) == ("kernel.xid-94", min(severity, Severity.HIGH, key=list(Severity).index))


def test_an_unknown_code_is_a_finding() -> None:
    (xid,) = judge(log_of("[ 5.0] NVRM: Xid (PCI:0000:43:00): 4711, pid=4242, name=python3, x"))
    assert (xid.id, xid.severity, xid.title) == (
        "kernel.xid-4711",
        Severity.MEDIUM,
        "0000:43:00.0 reported the unknown Xid 4711",
    )
    (sxid,) = judge(log_of("[ 5.0] nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 99999, Fatal, Link 12 x"))
    assert sxid.title == "NVSwitch 0000:c1:00.0 reported the unknown SXid 99999"


def test_two_unknown_codes_are_two_findings() -> None:
    lines = [f"[ {code - 4700}.0] NVRM: Xid (PCI:0000:43:00): {code}, x" for code in (4711, 4712)]
    assert len(judge(log_of(*lines))) == 2


AER = "nvidia 0000:{0}:00.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, (Receiver ID)"
LOST = "NVRM: Xid (PCI:0000:{0}:00): 79, pid=4242, name=python3, GPU has fallen off the bus."


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        (["[ 990.0] " + AER.format("43"), "[ 1000.0] " + LOST.format("43")], ["kernel.xid-79"]),
        (["[ 1000.0] " + LOST.format("43"), "[ 1001.0] NVRM: Xid (PCI:0000:43:00): 45, x"], ["kernel.xid-79"]),
        (["[ 990.0] " + AER.format("1b"), "[ 1000.0] " + LOST.format("43")], ["kernel.xid-79", "kernel.aer-corrected"]),
        (["[ 100.0] " + AER.format("43"), "[ 1000.0] " + LOST.format("43")], ["kernel.xid-79", "kernel.aer-corrected"]),
        (["[ 1000.0] " + LOST.format("43"), "[ 1001.0] " + LOST.format("1b")], ["kernel.xid-79", "kernel.xid-79"]),
        (
            [
                "[ 10.0] NVRM: Xid (PCI:0000:43:00): 48, An uncorrectable double bit error (DBE)",
                "[ 10.1] NVRM: Xid (PCI:0000:43:00): 63, Row Remapper: New row marked for remapping",
                "[ 10.2] NVRM: Xid (PCI:0000:43:00): 94, Contained: SM (0x1). RST: No, D-RST: No",
                "[ 10.3] NVRM: Xid (PCI:0000:43:00): 45, Ch 00000008",
                "[ 10.4] NVRM: Xid (PCI:0000:43:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (Reset)",
            ],
            ["kernel.xid-48"],
        ),
        (
            [
                "[ 10.0] nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error",
                "[ 10.1] NVRM: Xid (PCI:0000:43:00): 74, NVLink: fatal error detected on link 6",
                "[ 10.2] NVRM: Xid (PCI:0000:1b:00): 45, Ch 00000008",
            ],
            ["kernel.sxid-12028"],
        ),
        (
            [
                "[ 10.0] nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 11001, Non-fatal, Link 32 ingress invalid command",
                "[ 10.1] NVRM: Xid (PCI:0000:43:00): 74, NVLink: fatal error detected on link 6",
            ],
            ["kernel.sxid-11001"],
        ),
        (
            [
                "[ 10.0] python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
                "[ 10.1] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),task=python3,pid=4300,uid=0",
                "[ 10.2] Memory cgroup out of memory: Killed process 4300 (python3) total-vm:1kB",
                "[ 10.3] oom_reaper: reaped process 4300 (python3), now anon-rss:0kB",
            ],
            ["kernel.oom-cgroup"],
        ),
        (
            [
                "[ 10.0] nvme nvme0: I/O 123 QID 4 timeout, aborting",
                "[ 40.0] nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff",
                "[ 41.0] I/O error, dev nvme0n1, sector 1 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
                "[ 42.0] EXT4-fs error (device nvme0n1p2): ext4_find_entry:1682: inode #2: comm ls: reading directory",
                "[ 42.1] EXT4-fs (nvme0n1p2): Remounting filesystem read-only",
                "[ 200.0] INFO: task python3:4300 blocked for more than 122 seconds.",
            ],
            ["kernel.nvme-down"],
        ),
        (
            [
                "[ 40.0] nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff",
                "[ 102.0] nvme nvme0: Disabling device after reset failure: -19",
                "[ 102.1] EXT4-fs (nvme0n1p2): Remounting filesystem read-only",
            ],
            ["kernel.nvme-lost"],
        ),
        (
            [
                "[ 10.0] amdgpu 0000:83:00.0: amdgpu: ring comp_1.0.0 timeout, signaled seq=1, emitted seq=2",
                "[ 10.1] amdgpu 0000:83:00.0: amdgpu: GPU reset begin!",
                "[ 12.0] amdgpu 0000:83:00.0: amdgpu: GPU reset(2) succeeded!",
                "[ 12.1] [drm] VRAM is lost due to GPU reset!",
            ],
            ["kernel.amdgpu-reset"],
        ),
        (["[ 1.0] nvidia: module license 'NVIDIA' taints kernel."], []),
        (["[ 1.0] nvidia 0000:43:00.0:    [ 6] BadTLP"], []),
    ],
    ids=[
        *(
            "aer-before-79",
            "45-after-79",
            "aer-of-another",
            "aer-long-before",
            "two-gpus",
            "memory",
            "nvswitch",
            "nvswitch-of-the-same-severity",
            "oom",
            "nvme",
            "nvme-lost",
        ),
        *("amdgpu", "taint", "detail-alone"),
    ],
)
def test_what_follows_from_a_cause_is_its_evidence(lines: list[str], ids: list[str]) -> None:
    assert [finding.id for finding in judge(log_of(*lines))] == ids


def test_a_port_above_a_device_belongs_to_it_where_the_bus_is_known() -> None:
    facts = with_gpus(make_facts(), 1)
    gpu = facts.accelerators[0].address or ""
    port = next(device.parent for device in facts.pci if device.address == gpu) or ""
    lines = [f"[ 10.0] pcieport {port}: pciehp: Slot(12): Link Down", f"[ 10.1] {LOST.format(gpu[5:7])}"]
    with_bus = find_incidents(log_of(*lines).events, ROWS, facts.pci)
    without = find_incidents(log_of(*lines).events, ROWS, ())
    assert [incident.row.id for incident in with_bus] == ["xid-79"]
    assert [incident.row.id for incident in without] == ["pcie-link-down", "xid-79"]


def test_a_repeated_fault_is_one_finding_with_its_count_and_times() -> None:
    (finding,) = judge(log_of(*(f"[ {seconds}.0] {AER.format('43')}" for seconds in range(1000, 3000, 10))))
    assert finding.title == "0000:43:00.0 had corrected PCI Express errors, 200 times"
    assert finding.severity is Severity.MEDIUM, "many corrected errors are a bad link"
    assert any(evidence.fact == "200 times, from 1000.0 to 2990.0" for evidence in finding.evidence)
    (few,) = judge(log_of(f"[ 1.0] {AER.format('43')}"))
    assert few.severity is Severity.LOW


def test_a_link_that_goes_down_once_is_no_finding_and_one_that_flaps_is() -> None:
    down = "mlx5_core 0000:17:00.0 ens1f0np0: Link down"
    found = {number: judge(log_of(*(f"[ {10 * n}.0] {down}" for n in range(number)))) for number in (1, 2, 3, 10)}
    assert [(number, [finding.severity for finding in found[number]]) for number in found] == [
        (1, []),
        (2, []),
        (3, [Severity.LOW]),
        (10, [Severity.HIGH]),
    ]


def test_who_was_killed_decides_how_bad_it_is() -> None:
    killed = "[ 1.0] Memory cgroup out of memory: Killed process 1 ({0}) total-vm:1kB"
    assert [finding.severity for finding in judge(log_of(killed.format("llama-server")))] == [Severity.HIGH]
    assert [finding.severity for finding in judge(log_of(killed.format("postgres")))] == [Severity.MEDIUM]


def test_an_event_of_nvlink_that_says_nonfatal_is_low() -> None:
    line = "[ 1.0] NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT {0} XC0 i0 Link 12 (0x004505c6 0x00000000)"
    assert judge(log_of(line.format("Nonfatal")))[0].severity is Severity.LOW
    assert judge(log_of(line.format("Fatal")))[0].severity is Severity.HIGH


def test_what_an_earlier_boot_logged_is_told_as_such_and_counts_for_less() -> None:
    old, new = f"Jan 05 01:02:03 h kernel: {LOST.format('43')}", "Jan 05 01:02:{0:02} h kernel: Linux version 6.12"
    (finding,) = judge(log_of(new.format(1), old, new.format(40)))
    assert finding.title.endswith(", before the last boot") and finding.confidence is Confidence.POSSIBLE
    (recent,) = judge(log_of(new.format(1), old))
    assert recent.confidence is Confidence.CERTAIN


def test_boots_do_not_mix() -> None:
    boot = "Jan 05 01:02:{0:02} h kernel: Linux version 6.12"
    lines = [
        boot.format(1),
        f"Jan 05 01:02:03 h kernel: {AER.format('43')}",
        boot.format(10),
        f"Jan 05 01:02:11 h kernel: {LOST.format('43')}",
    ]
    assert len(judge(log_of(*lines))) == 2


def test_a_virtual_machine_gets_no_advice_about_hardware() -> None:
    guest = replace(make_facts(), os=make_os(virtualisation=known("kvm", "/sys/class/dmi/id/sys_vendor")))
    (bare,) = judge(log_of(f"[ 1.0] {LOST.format('43')}"))
    (virtual,) = judge(log_of(f"[ 1.0] {LOST.format('43')}"), guest)
    assert "seat" in " ".join(bare.fix) and "seat" not in " ".join(virtual.fix)
    assert "provider" in " ".join(virtual.fix)


def test_a_fix_names_the_device() -> None:
    (finding,) = judge(log_of("[ 1.0] NVRM: Xid (PCI:0000:43:00): 119, Timeout after 6s"))
    assert "nvidia-smi --gpu-reset -i 0000:43:00.0" in finding.fix
    (disk,) = judge(log_of("[ 1.0] EXT4-fs (sda1): Remounting filesystem read-only"))
    assert disk.where == ("sda1",) and any("/dev/sda1" in line for line in disk.fix)


def test_a_finding_of_the_log_can_be_suppressed() -> None:
    log = log_of(f"[ 1.0] {LOST.format('43')}")
    suppression = Suppression(id="kernel.xid-79", where="0000:43:00.0", reason="it is replaced on Monday")
    assert judge(log, suppressions=(suppression,)) == ()


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            KernelLog(source="/dev/kmsg", unknown=Unknown.DENIED, why="Operation not permitted"),
            "may not be read by this user (/dev/kmsg: Operation not permitted)",
        ),
        (KernelLog(source="/dev/kmsg", unknown=Unknown.ABSENT, why="No such file or directory"), "is not there (/dev/kmsg"),
        (KernelLog(source="/dev/kmsg", unknown=Unknown.NOT_RECORDED), "is not in the recording"),
    ],
)
def test_a_log_that_could_not_be_read_is_said(log: KernelLog, why: str) -> None:
    facts = replace(make_facts(), kernel_log=log)
    judged = audit(facts, (), FOUND, (), today="2026-11-30", kernel_rows=MESSAGES.rows, kernel_steps=MESSAGES.steps)
    (entry,) = (entry for entry in judged.not_judged if entry.id == "kernel.log")
    assert why in entry.why
    silent = audit(facts, (), FOUND, (), today="2026-11-30")
    assert not any(entry.id == "kernel.log" for entry in silent.not_judged)


EXAMPLES = [example for row in ROWS for example in row.examples]


@given(st.lists(st.tuples(st.sampled_from(EXAMPLES), st.integers(0, 500)), max_size=12))
def test_no_known_message_is_lost_and_none_is_told_twice(messages: list[tuple[str, int]]) -> None:
    log = log_of(*(f"[ {seconds}.0] {text}" for text, seconds in sorted(messages, key=lambda message: message[1])))
    incidents = find_incidents(log.events, ROWS, ())
    told = [event for incident in incidents for event in incident.events]
    told += [known_event.event for incident in incidents for known_event in incident.consequences]
    assert len(told) == len(set(map(id, told)))
    by_id = {row.id: row for row in ROWS}
    silent = [event for event in log.events if event not in told]
    assert all(not by_id[event.row].alone for event in silent)


THREADS = tomllib.loads((LOGS / "threads.toml").read_text())["thread"]


@pytest.mark.parametrize("thread", THREADS, ids=lambda thread: thread["where"].removeprefix("https://github.com/"))
def test_the_log_of_a_public_thread_shows_what_was_the_matter(thread: dict[str, Any]) -> None:
    findings = judge(log_of(*thread["log"].splitlines()))
    assert sorted(" ".join(parts) for parts in brief(findings)) == sorted(thread["found"])


@pytest.mark.parametrize("thread", THREADS, ids=lambda thread: thread["where"].removeprefix("https://github.com/"))
def test_the_page_tells_of_each_thread_what_doctor_finds(thread: dict[str, Any]) -> None:
    assert thread_row(thread) in PAGE.read_text()


def thread_row(thread: dict[str, Any]) -> str:
    _, _, _, owner, repository, _, number = thread["where"].split("/")
    found = ", ".join(dict.fromkeys(f"`{line.split()[0]}`" for line in thread["found"]))
    return f"| [{owner}/{repository} {number}]({thread['where']}) | {thread['reported']} | {thread['truth']} | {found} |\n"
