"""The kernel's log in a recording: the known messages and the newest, without the people, hosts and programs in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.facts_factory import make_facts
from tests.unit.tree import make_root

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_kernel_messages, read_rows_for
from bedplate.flows.audit import without_people
from bedplate.host.kernel.kernel_log import RECORDED, parse_kernel_log, read_kernel_log
from bedplate.host.record.kernel_log import KNOWN_MOST, NEWEST_MOST, record_kernel_log, redact_message, shown_name
from bedplate.host.record.record import record_host, render_archive
from bedplate.host.record.redact import Redactor
from bedplate.host.record.redact_facts import redact_facts
from bedplate.host.root.recording import open_recording
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.reading import Reading, Unknown, missing
from bedplate.plan.audit import audit
from bedplate.report.audit.document import render_document

MESSAGES = read_kernel_messages()
ROWS = MESSAGES.rows
XID = "NVRM: Xid (PCI:0000:43:00): 79, pid=4242, name=VLLM::Worker, GPU has fallen off the bus."

# Everything here must be gone; each stands in a line of the log below.
PLANTED = {
    "host of the journal": "canaryhost7",
    "file server": "filer3",
    "mac": "b4:2e:99:ca:fe:01",
    "ip": "10.77.13.201",
    "ipv6": "2a01:4f8:ca1a:4e1::77",
    "uuid": "c0ffee00-1234-4abc-9def-0123456789ab",
    "uuid of a gpu": "c0ffee00-bbbb-4abc-9def-0123456789ac",
    "serial": "S5XNCANARY12345",
    "serial of a board": "1650523099887",
    "user": "canaryalice",
    "neighbour": "canarydb",
    "other neighbour": "canaryshop",
    "service": "canary-tenant",
    "uid": "4711",
    "token": "hf_CanaryTokenAbcdef",
    "domain": "store.canarycorp.internal",
}
LOG = f"""
[    0.000000] Linux version 6.12.48 (build@{PLANTED["domain"]}) #1 SMP
[    0.000000] Command line: root=UUID={PLANTED["uuid"]} \
systemd.hostname={PLANTED["host of the journal"]} token={PLANTED["token"]}
[    1.000000] usb 1-1: SerialNumber: {PLANTED["serial"]}
[    2.000000] NVRM: GPU at PCI:0000:43:00: GPU-{PLANTED["uuid of a gpu"]}
[    2.100000] NVRM: GPU Board Serial Number: {PLANTED["serial of a board"]}
[    3.000000] igb 0000:01:00.0: eth0: (PCIe:5.0Gb/s) {PLANTED["mac"]}
[    4.000000] audit: type=1400 apparmor="DENIED" comm="{PLANTED["neighbour"]}" name="/home/{PLANTED["user"]}/x"
[    5.000000] nfs: server {PLANTED["file server"]} not responding, still trying
[    6.000000] TCP: request_sock_TCP: Possible SYN flooding on port {PLANTED["ip"]}:8000. Sending cookies.
[    7.000000] libceph: mon0 [{PLANTED["ipv6"]}]:6789 session lost, connect to {PLANTED["domain"]}
[    8.000000] {PLANTED["neighbour"]} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[    8.000001] CPU: 3 PID: 4300 Comm: {PLANTED["neighbour"]} Tainted: P           OE      6.12.48
[    8.000002] [   4300] {PLANTED["uid"]}  4300  1234567 12345 1 2 3 0 {PLANTED["other neighbour"]}
[    8.000003] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,\
oom_memcg=/system.slice/{PLANTED["service"]}.service,\
task_memcg=/user.slice/user-{PLANTED["uid"]}.slice/{PLANTED["service"]}.scope,\
task={PLANTED["neighbour"]},pid=4300,uid={PLANTED["uid"]}
[    8.000004] Memory cgroup out of memory: Killed process 4300 ({PLANTED["neighbour"]}) total-vm:1kB, \
UID:{PLANTED["uid"]} pgtables:1kB
[    9.000000] {PLANTED["other neighbour"]}[4301]: segfault at 0 ip 0 sp 0 error 4 in libc.so.6[0+1]
[   10.000000] INFO: task {PLANTED["other neighbour"]}:4301 blocked for more than 122 seconds.
[   11.000000] {XID}
""".strip()


def recording_of(tmp_path: Path, text: str) -> str:
    root = make_root(tmp_path, {RECORDED: text}, absent=Unknown.NOT_RECORDED)
    recorded = record_host(root, kernel_rows=ROWS, bedplate="1", recorded="2026-11-30T00:00:00Z")
    return recorded.files[RECORDED].decode()


@pytest.mark.parametrize("what", PLANTED)
def test_nothing_that_identifies_anybody_is_recorded(tmp_path: Path, what: str) -> None:
    assert PLANTED[what] in LOG
    left = [line for line in recording_of(tmp_path, LOG).splitlines() if PLANTED[what].lower() in line.lower()]
    assert left == []


def test_the_faults_are_the_same_in_the_recording(tmp_path: Path) -> None:
    before = parse_kernel_log(LOG.splitlines(), ROWS, source="x")
    after = parse_kernel_log(recording_of(tmp_path, LOG).splitlines(), ROWS, source="x")
    assert [(event.row, event.code, event.address) for event in after.events] == [
        (event.row, event.code, event.address) for event in before.events
    ]
    assert [event.text for event in after.events if event.row == "xid"] == [XID]


def test_a_journal_is_recorded_without_the_name_of_the_host(tmp_path: Path) -> None:
    text = recording_of(
        tmp_path, f"Jan 05 01:02:03 canaryhost7 kernel: {XID}\nJan 05 01:02:03 canaryhost7 sudo[1]: canaryalice"
    )
    assert text == f"Jan 05 01:02:03 host kernel: {XID}\n"


def test_a_recording_reads_as_the_log_that_was_recorded(tmp_path: Path) -> None:
    root = make_root(tmp_path / "machine", {RECORDED: LOG}, absent=Unknown.NOT_RECORDED)
    recorded = record_host(root, kernel_rows=ROWS, bedplate="1", recorded="2026-11-30T00:00:00Z")
    (tmp_path / "host.tar").write_bytes(render_archive(recorded, ".tar"))
    log = read_kernel_log(open_recording(tmp_path / "host.tar"), ROWS)
    kept = recorded.facts.kernel_log
    assert [(event.row, event.line, event.first) for event in log.events] == [
        (event.row, event.line, event.first) for event in kept.events
    ]


def test_without_rows_the_log_is_not_recorded(tmp_path: Path) -> None:
    root = make_root(tmp_path, {RECORDED: LOG}, absent=Unknown.NOT_RECORDED)
    assert RECORDED not in record_host(root, bedplate="1", recorded="x").files


class Denied(Root):
    """A machine whose log this user may not read."""

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        if where == RECORDED:
            return missing(Unknown.DENIED, where, "Operation not permitted")
        return Root.read_bytes(self, where, limit)


def test_a_log_that_may_not_be_read_is_denied_in_the_recording_too(tmp_path: Path) -> None:
    root = Denied(make_root(tmp_path / "machine", {"/proc/meminfo": ""}).path)
    recorded = record_host(root, kernel_rows=ROWS, bedplate="1", recorded="x")
    assert RECORDED in str(recorded.manifest["denied"])
    (tmp_path / "host.tar").write_bytes(render_archive(recorded, ".tar"))
    assert read_kernel_log(open_recording(tmp_path / "host.tar"), ROWS).unknown is Unknown.DENIED


def test_the_newest_and_the_known_messages_are_kept_up_to_a_size(tmp_path: Path) -> None:
    many = [f"[{number:12.6f}] IPv6: ADDRCONF(NETDEV_CHANGE): veth{number}: link becomes ready" for number in range(20_000)]
    text = "\n".join([f"[    0.500000] {XID}", *many])
    recorded = record_kernel_log(make_root(tmp_path, {RECORDED: text}), ROWS)
    lines = (recorded.value or b"").decode().splitlines()
    assert lines[0].endswith(XID) and lines[-1] == many[-1]
    assert NEWEST_MOST * 0.9 < sum(len(line) + 1 for line in lines[1:]) <= NEWEST_MOST


def test_a_flood_of_known_messages_keeps_the_newest(tmp_path: Path) -> None:
    text = "\n".join(f"[{number:12.6f}] {XID}" for number in range(20_000))
    recorded = record_kernel_log(make_root(tmp_path, {RECORDED: text}), ROWS)
    lines = (recorded.value or b"").decode().splitlines()
    assert len("\n".join(lines)) < KNOWN_MOST and lines[-1].startswith("[19999.000000]")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("VLLM::EngineCor", "VLLM::EngineCor"),
        ("llama-server", "llama-server"),
        ("python3", "python3"),
        ("kworker/3:1", "kworker/3:1"),
        ("tuned", "tuned"),
        ("postgres", "-"),
        ("'<unknown>'", "'<unknown>'"),
        ("", ""),
    ],
)
def test_names_of_processes_are_those_of_engines_and_of_the_kernel(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_times_and_addresses_of_devices_stay() -> None:
    line = f"[Tue Jan  5 01:02:03 2027] pcieport 0000:40:01.1: AER: Corrected error received: 0000:43:00.0 {'590.48.01'}"
    assert redact_message(line, Redactor()) == line


def test_a_report_to_give_away_quotes_the_log_without_people() -> None:
    log = parse_kernel_log(LOG.splitlines(), ROWS, source="/dev/kmsg")
    facts = replace(make_facts(), kernel_log=log, origin="host.tar")
    judged = audit(
        facts,
        (),
        read_findings(),
        (),
        today="2026-11-30",
        kernel_rows=read_rows_for(log.events),
        kernel_steps=MESSAGES.steps,
    )
    report = without_people(AuditReport(facts=facts, audit=judged, version="1"))
    quoted = [evidence.fact for finding in report.findings for evidence in finding.evidence]
    assert any("nfs: server host-1" in fact for fact in quoted) and not any("filer3" in fact for fact in quoted)
    document = json.loads(render_document(report))
    events = document["facts"]["kernel_log"]["events"]
    assert [event["process"] for event in events if event["row"] == "oom-cgroup"] == ["-"]
    text = json.dumps(document)
    assert [name for name in ("ip", "file server", "neighbour", "other neighbour") if PLANTED[name] in text] == []
    assert redact_facts(facts, Redactor()).kernel_log.events[0].row == log.events[0].row
