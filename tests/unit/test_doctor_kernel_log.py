"""`doctor`, `record` and `inspect` on the kernel's log, from end to end."""

from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.facts_factory import absent, make_facts, with_gpus
from tests.unit.json_schema import problems_of

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_kernel_messages, read_rows_for
from bedplate.cli.main import main
from bedplate.host.kernel.kernel_log import RECORDED, parse_kernel_log
from bedplate.model.facts.reading import Reading, known
from bedplate.plan.audit import audit
from bedplate.report.audit.document import SCHEMA_PAGE

REPOSITORY = Path(__file__).parents[2]
FAULTS = REPOSITORY / "tests/kernel_logs/several-faults.txt"
MESSAGES = read_kernel_messages()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("NO_COLOR", "1")


def test_a_log_as_a_file_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", str(FAULTS)]) == 1
    text = capsys.readouterr().out
    assert "CRITICAL  0000:43:00.0 has fallen off the bus (Xid 79)" in text
    assert "HIGH  VLLM::EngineCor was killed" in text and "HIGH  0000:1b:00.0 had a memory error" in text
    assert "3 findings: 1 critical, 2 high" in text


def test_a_log_without_alarms_ends_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text("[ 1.0] Linux version 6.12\n[ 2.0] NVRM: Xid (PCI:0000:43:00): 31, pid=1, name=python3, MMU Fault\n")
    assert main(["doctor", "--from", str(log)]) == 0
    assert "INFO  0000:43:00.0 stopped a program" in capsys.readouterr().out


def test_a_packed_log_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "dmesg.gz"
    log.write_bytes(gzip.compress(FAULTS.read_bytes()))
    assert main(["doctor", "--from", str(log)]) == 1
    assert "kernel.xid-79 at 0000:43:00.0" in capsys.readouterr().out


def test_the_report_as_json_has_the_events_and_is_what_its_schema_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", str(FAULTS), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    schema = json.loads((REPOSITORY / SCHEMA_PAGE).read_text())
    assert list(problems_of(document, schema, schema)) == []
    assert [(event["row"], event["code"]) for event in document["facts"]["kernel_log"]["events"]][2:] == [
        ("xid", 79),
        ("xid", 94),
        ("oom-cgroup", None),
    ]


def test_sarif_and_the_page_have_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert main(["doctor", "--from", str(FAULTS), "--sarif", "--html", str(page)]) == 1
    results = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert {result["ruleId"] for result in results} == {"kernel.xid-79", "kernel.xid-94", "kernel.oom-cgroup"}
    assert "has fallen off the bus (Xid 79)" in page.read_text()


def test_two_findings_of_one_place_have_two_fingerprints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A code scanning view shows one of two results with one fingerprint."""
    text = tmp_path / "dmesg"
    killed = "[ {at}.2] Memory cgroup out of memory: Killed process 4{at} ({name}) total-vm:120832kB, anon-rss:15596kB"
    text.write_text("".join(f"{killed.format(at=at, name=name)}\n" for at, name in ((1, "python3"), (2, "mount"))))
    assert main(["doctor", "--from", str(text), "--sarif"]) in (0, 1)
    results = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["kernel.oom-cgroup"] * 2
    assert len({result["partialFingerprints"]["findingAndPlaces/v1"] for result in results}) == 2


def test_a_recording_keeps_what_doctor_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = tmp_path / "machine"
    (machine / "proc").mkdir(parents=True)
    (machine / "proc/meminfo").write_text("MemTotal: 1 kB\n")
    (machine / RECORDED.lstrip("/")).write_text(FAULTS.read_text())
    file = tmp_path / "host.tar"
    assert main(["record", "--from", str(machine), "-o", str(file)]) == 0
    with tarfile.open(file) as archive:
        assert "root/kernel.log" in archive.getnames()
    capsys.readouterr()
    assert main(["doctor", "--from", str(file)]) == 1
    text = capsys.readouterr().out
    assert "kernel.xid-79 at 0000:43:00.0" in text and "kernel.oom-cgroup at machine" in text


def test_a_recording_without_a_log_says_that_it_was_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1 kB\n")
    main(["doctor", "--from", str(tmp_path), "--json"])
    reasons = {entry["id"]: entry["why"] for entry in json.loads(capsys.readouterr().out)["not_judged"]}
    assert reasons["kernel.log"] == "the kernel's log is not in the recording"


def test_what_the_log_and_the_facts_both_say_is_one_finding() -> None:
    facts = with_gpus(make_facts(), 1)
    gpu = facts.accelerators[0].address or ""
    device = next(device for device in facts.pci if device.address == gpu)
    refused = (
        f"[ 1.0] NVRM: The NVIDIA GPU {gpu} (PCI ID: 10de:2bb5)",
        " installed in this system requires use of the NVIDIA open kernel",
    )
    log = parse_kernel_log(refused, MESSAGES.rows, source="/dev/kmsg")
    kernel = replace(facts.kernel, nvidia_flavour=known("proprietary", "/proc/driver/nvidia/version"))

    def ids(driver: Reading[str]) -> list[str]:
        changed = replace(device, device=0x2BB5, driver=driver)
        machine = replace(
            facts, kernel=kernel, kernel_log=log, pci=(*(other for other in facts.pci if other is not device), changed)
        )
        found = audit(
            machine,
            (),
            read_findings(),
            (),
            today="2026-11-30",
            kernel_rows=read_rows_for(log.events),
            kernel_steps=MESSAGES.steps,
        ).findings
        return [finding.id for finding in found if finding.id.startswith(("driver.", "kernel."))]

    assert ids(known("nvidia", f"/sys/bus/pci/devices/{gpu}/driver")) == ["driver.wrong-flavour"]
    assert ids(absent(f"/sys/bus/pci/devices/{gpu}/driver")) == ["driver.lists-no-device"]
