"""Fixes of all findings, over every text and recorded machine that the tests have, as it is and as a virtual machine.

A fix that stops a unit starts it again, one that interrupts something says so before, and none asks the user of a virtual
machine for hands at the hardware. The cases of single checks are held to the same rules by audit_cases.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.facts_factory import absent, make_cpu, make_facts, make_os, make_pci
from tests.unit.fix_rules import as_virtual, fix_problems, interrupts
from tests.unit.pasted_cases import KNOBS, MESSAGES, TEXTS, judge

from bedplate.catalog.kernel_log import read_codes
from bedplate.errors import BedplateError
from bedplate.flows.audit import name_devices
from bedplate.flows.machine import read_facts_of
from bedplate.model.facts.reading import known
from bedplate.model.kernel_log_row import KernelLogRow, Remedy
from bedplate.plan.rules.kernel_log import fix_of
from bedplate.plan.rules.terms import is_virtual

TESTS = Path(__file__).parents[1]
INPUTS = sorted(
    (
        *TEXTS,
        *(path for path in (TESTS / "pasted-threads").rglob("*") if path.is_file()),
        *(TESTS / "kernel_logs").glob("*.txt"),
        *(TESTS / "machines").iterdir(),
    )
)
STEPS = {step.id: step for step in MESSAGES.steps}
ROWS: tuple[KernelLogRow, ...] = (*MESSAGES.rows, *read_codes("xid"), *read_codes("sxid"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: str(path.relative_to(TESTS)))
def test_every_fix_of_a_machine_is_right(path: Path) -> None:
    try:
        facts = name_devices(read_facts_of(path, KNOBS, kernel_rows=MESSAGES.rows))
    except BedplateError:
        return  # a text of which nothing is read: other tests hold it to that
    for subject in (facts, as_virtual(facts)):
        for finding in judge(subject).findings:
            assert fix_problems(finding.fix, is_virtual=is_virtual(subject) is True) == [], finding.id


def test_the_inputs_have_fixes_that_interrupt_and_findings_in_virtual_machines() -> None:
    """Were nothing found, the test above could not fail."""
    found = set()
    for path in INPUTS:
        try:
            facts = as_virtual(read_facts_of(path, KNOBS, kernel_rows=MESSAGES.rows))
        except BedplateError:
            continue
        found |= {finding.id for finding in judge(facts).findings if interrupts(finding.fix)}
    assert len(found) >= 5


@pytest.mark.parametrize("in_vm", [False, True])
def test_every_fix_of_a_message_of_the_kernel_is_right(in_vm: bool) -> None:
    wrong = {
        row.id: problems
        for row in ROWS
        if (problems := fix_problems(fix_of(row, STEPS[row.remedy], in_vm=in_vm), is_virtual=in_vm))
    }
    assert wrong == {}


@pytest.mark.parametrize("remedy", [Remedy.DRAIN_AND_RESET, Remedy.POWER_CYCLE, Remedy.CHECK_HARDWARE, Remedy.REPLACE])
def test_a_row_with_steps_of_its_own_sends_nobody_to_the_hardware_of_a_virtual_machine(remedy: Remedy) -> None:
    rows = [row for row in ROWS if row.remedy is remedy and row.fix and not row.fix_in_vm]
    for row in rows:
        assert fix_of(row, STEPS[remedy], in_vm=True) == STEPS[remedy].fix_in_vm
        assert fix_of(row, STEPS[remedy], in_vm=False) == row.fix
    assert rows


@pytest.mark.parametrize("vendor", [0x1AF4, 0x1B36, 0x1234, 0x15AD, 0x5853, 0x1414, 0x1AB8, 0x80EE])
def test_a_device_that_a_hypervisor_makes_tells_a_virtual_machine(vendor: int) -> None:
    system = make_os(virtualisation=absent("lspci"))
    assert is_virtual(make_facts(os=system, pci=(make_pci("0000:00:03.0", vendor=vendor),))) is True
    assert is_virtual(make_facts(os=system, pci=(make_pci("0000:00:03.0", vendor=0x8086),))) is None
    bare = make_os(virtualisation=known("none", "/sys/class/dmi/id/sys_vendor"))
    assert is_virtual(make_facts(os=bare, pci=(make_pci("0000:00:03.0", vendor=vendor),))) is False


def test_the_processor_flag_of_a_hypervisor_tells_a_virtual_machine() -> None:
    system = make_os(virtualisation=absent("lscpu"))
    cpu = make_cpu()
    assert is_virtual(make_facts(os=system, cpu=replace(cpu, flags=(*cpu.flags, "hypervisor")))) is True


@pytest.mark.parametrize(
    ("fix", "problem"),
    [
        (("# This interrupts all programs.", "systemctl stop nvidia-fabricmanager"), "never started"),
        (("# Drain it.", "systemctl stop a b", "nvidia-smi --gpu-reset", "systemctl start a"), "b is stopped"),
        (("reboot",), "nothing says"),
        (("nvidia-smi -i 0 -mig 0",), "nothing says"),
        (("# Look at the log.", "modprobe -r nvidia_uvm"), "nothing says"),
        (("systemctl restart vllm.service", "# This interrupts it."), "nothing says"),
        (("# Power off and reseat the card.",), "virtual machine"),
        (("# Enable it in the BIOS.",), "virtual machine"),
    ],
)
def test_the_rules_see_what_is_wrong(fix: tuple[str, ...], problem: str) -> None:
    assert [text for text in fix_problems(fix, is_virtual=True) if problem in text]


@pytest.mark.parametrize(
    "fix",
    [
        ("# Drain the engines.", "systemctl stop a b", "nvidia-smi --gpu-reset", "systemctl start b a"),
        ("# Move the work away: this interrupts it.", "systemctl stop a", "reboot"),
        ("dmesg | grep NVRM", "# Install the firmware package of the driver."),
    ],
)
def test_the_rules_let_right_fixes_pass(fix: tuple[str, ...]) -> None:
    assert fix_problems(fix, is_virtual=True) == []
