"""The report on a pasted text: its evidence names what was read, and what was not read is no evidence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.facts_factory import absent, make_engine, make_facts, make_kernel, make_memory, with_gpus
from tests.unit.json_schema import problems_of
from tests.unit.pasted_cases import (
    CRITICAL,
    EXPECTED,
    GIB,
    HIGH,
    MEDIUM,
    PASTED,
    TEXTS,
    TODAY,
    VLLM,
    by_id,
    facts_of,
    findings_of,
    judge,
    names,
)

from bedplate.cli.main import main
from bedplate.flows.audit import read_report
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.finding import Confidence, Finding
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known
from bedplate.report.audit.document import SCHEMA_PAGE
from bedplate.report.audit.page import render_page, verdict
from bedplate.report.audit.sarif import make_sarif


def test_only_what_was_read_is_evidence() -> None:
    finding = by_id("unread-shown-as-read/lspci.txt")["driver.not-bound"]
    assert [evidence.source for evidence in finding.evidence] == ["lspci 0000:5e:00.0"]


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


@pytest.mark.parametrize("name", ["kernel-log/dmesg.txt", "several-outputs/capture.txt"])
def test_evidence_of_the_kernel_log_names_its_line_in_the_text(name: str) -> None:
    lines = (PASTED / name).read_text().split("\n")
    finding = by_id(name)["kernel.xid-79"]
    assert finding.evidence
    for evidence in finding.evidence:
        file, _, number = evidence.source.partition(" line ")
        message = evidence.fact.partition(" (")[0]
        assert file == Path(name).name and message in lines[int(number) - 1]
