"""`bedplate explain`: every row is found by its names and is printed whole, on any width."""

from __future__ import annotations

import json
import re

import pytest

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_codes, read_kernel_messages
from bedplate.catalog.knobs import read_knobs
from bedplate.cli.main import main
from bedplate.errors import UsageError
from bedplate.flows.explain import find_row
from bedplate.report.explain import Style, render_finding, render_kernel_row, render_knob, render_title

KNOBS = read_knobs()
FINDINGS = read_findings()
KERNEL = read_kernel_messages()
IDS = [*(knob.id for knob in KNOBS), *(row.id for row in FINDINGS)]


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("numa.zone_reclaim", "numa.zone_reclaim"),
        ("knob.numa.zone_reclaim", "numa.zone_reclaim"),
        ("vm.zone_reclaim_mode", "numa.zone_reclaim"),
        ("/proc/sys/vm/zone_reclaim_mode", "numa.zone_reclaim"),
        ("isolcpus", "cpu.isolcpus"),
        ("isolcpus=", "cpu.isolcpus"),
        ("mitigations", "sec.mitigations"),
        ("cargo.isolcpus", "cargo.isolcpus"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "mem.thp"),
        ("CONFIG_ARM64_64K_PAGES", "arm.64k"),
        ("AllowedCPUs=", "cpu.confine-neighbours"),
        ("CPUWeight", "cpu.weight"),
        ("pci.acs-mixed", "pci.acs-mixed"),
        ("xid-79", "xid-79"),
        ("Xid 79", "xid-79"),
        ("kernel.xid-79", "xid-79"),
        ("sxid-12028", "sxid-12028"),
        ("aer-fatal", "aer-fatal"),
        ("kernel.oom-cgroup", "oom-cgroup"),
        ("xid-4711", "xid"),
    ],
)
def test_a_row_is_found_by_id_finding_and_what_the_kernel_calls_it(name: str, id: str) -> None:
    assert find_row(KNOBS, FINDINGS, name).id == id


def test_a_wrong_name_gets_the_nearest_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "vm.swapines"]) == UsageError.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: vm.swapines: no knob, finding or kernel message has this name" in said.err
    assert "Did you mean 'vm.swappiness'" in said.err
    assert main(["explain", "%%%"]) == UsageError.exit_code
    assert "Run `bedplate explain` to list all of them." in capsys.readouterr().err


@pytest.mark.parametrize("width", [110, 80, 40, 20])
def test_every_row_is_printed_whole_within_the_width(width: int) -> None:
    for knob in KNOBS:
        text = render_knob(knob, KNOBS, style=Style(width=width, colour=False))
        flat = " ".join(text.split())
        assert " ".join(knob.why.split()[:3]) in flat
        assert knob.evidence.split()[-1] in flat
        assert "\033" not in text
        too_long = [line for line in text.splitlines() if len(line) > width]
        assert all(len(line.split()) <= 2 for line in too_long)  # paths are not broken, so that they can be copied


def test_the_list_has_a_line_for_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*IDS, *(row.id for row in KERNEL.rows)]


def test_json_is_the_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "cpu.isolcpus"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["id"], row["finding"], row["wrong_forms"]) == ("cpu.isolcpus", "knob.cpu.isolcpus", ["cargo.isolcpus"])
    assert row["check"][0]["parameter"] == "isolcpus"
    assert main(["explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(KNOBS) + len(FINDINGS) + len(KERNEL.rows)


def test_the_page_of_a_cargo_cult_setting_says_what_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "cargo.thp-never"]) == 0
    text = capsys.readouterr().out
    assert "instead" in text and "defrag=defer+madvise" in text
    assert "wrong form of" in text and "mem.thp" in text


@pytest.mark.parametrize("width", [110, 40])
def test_a_finding_of_the_audit_is_printed_with_its_knobs(width: int) -> None:
    for row in FINDINGS:
        text = " ".join(render_finding(row, KNOBS, style=Style(width=width, colour=False)).split())
        assert all(" ".join(part.split()[:3]) in text for part in (row.title, row.means, row.why))
    (acs,) = (row for row in FINDINGS if row.id == "pci.acs-mixed")
    assert "pci.acs" in render_finding(acs, KNOBS).splitlines()[-1]


def test_no_id_is_of_two_kinds() -> None:
    ids = [*IDS, *(row.id for row in (*KERNEL.rows, *read_codes("xid"), *read_codes("sxid")))]
    assert len(ids) == len(set(ids)) > 800


@pytest.mark.parametrize("width", [110, 40])
def test_a_message_of_the_kernel_is_printed_whole(width: int) -> None:
    for row in (*KERNEL.rows, *read_codes("xid")):
        text = "".join(render_kernel_row(row, KERNEL.steps, style=Style(width=width, colour=False)).split())
        assert "{" not in text.split("example")[0], row.id
        assert all("".join(part.split()[:3]) in text for part in (row.means, row.harm, row.source))  # long words are broken
        assert row.read in text


def test_a_title_names_no_place_of_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (*KERNEL.rows, *read_codes("xid"), *read_codes("sxid"))
    titles = {row.id: render_title(row) for row in rows}
    assert [id for id, title in titles.items() if "{" in title or not title[0].isupper() or "  " in title] == []
    assert [id for id, title in titles.items() if re.search(r"\b(?:the|of|on|at|module|port|GPU|SMMU|RAID) A ", title)] == []
    assert titles["module-version-magic"] == "A module was built for another kernel and is refused"
    assert titles["pcie-link-down"] == "The link of a slot went down"
    assert titles["ext4-error"] == "The ext4 file system is damaged, or its disk failed"
    assert main(["explain"]) == 0
    assert not re.search(r"\{(?:place|process|code)\}", capsys.readouterr().out)
    assert main(["explain", "--json"]) == 0
    assert all("{" not in row.get("title", "") for row in json.loads(capsys.readouterr().out))


def test_a_code_is_explained_with_its_cause_its_remedy_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "xid-79"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "has fallen off the bus" in text and "the hardware" in text and "switch the power off and on" in text
    assert "docs.nvidia.com" in text and "critical" in text
    assert main(["explain", "--json", "xid-13"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["finding"], row["fault"], row["severity"]) == ("kernel.xid-13", "application", "info")
    assert main(["explain", "--json", "nvidia-needs-open-modules"]) == 0
    assert json.loads(capsys.readouterr().out)["finding"] == "driver.wrong-flavour"
