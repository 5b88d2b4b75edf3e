"""The kernel's log as events: from the device, from a recording, from text; bounded, and only what the kernel wrote."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.growth import growth, peak_bytes
from tests.unit.tree import make_root

from bedplate.catalog.kernel_log import read_kernel_messages
from bedplate.flows.machine import read_facts_of
from bedplate.host.kernel.kernel_log import (
    RECORDED,
    full_address,
    open_device,
    parse_kernel_log,
    read_kernel_log,
    read_records,
)
from bedplate.host.root.root import Root
from bedplate.model.facts.kernel_log import NO_KERNEL_LOG, KernelLog
from bedplate.model.facts.reading import Unknown

ROWS = read_kernel_messages().rows
LOGS = Path(__file__).parents[1] / "kernel_logs"
XID = "NVRM: Xid (PCI:0000:43:00): 79, pid=4242, name=VLLM::Worker, GPU has fallen off the bus."


def parse(*lines: str) -> KernelLog:
    return parse_kernel_log(lines, ROWS, source="dmesg.txt")


def test_an_event_has_what_its_message_names() -> None:
    log = parse("[ 1.0] Linux version 6.12.48", "[ 2.0] usb 1-1: new device", f"[ 9002.500000] {XID}")
    (event,) = log.events
    assert (event.row, event.code, event.address, event.process) == ("xid", 79, "0000:43:00.0", "VLLM::Worker")
    assert (event.line, event.boot, event.count, event.text) == (3, 1, 1, XID)
    assert event.first is not None and event.first.seconds == 9002.5
    assert (log.lines, log.foreign, log.boots, log.source) == (3, 0, 1, "dmesg.txt")


def test_an_error_below_a_port_is_about_the_device_not_the_port() -> None:
    (event,) = parse(
        "[ 1.0] pcieport 0000:40:01.1: AER: Multiple Correctable error message received from 0000:43:00.0"
    ).events
    assert (event.row, event.address) == ("aer-corrected", "0000:43:00.0")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("PCI:0000:43:00", "0000:43:00.0"),
        ("0000:43:00.1", "0000:43:00.1"),
        ("00000000:43:00.0", "0000:43:00.0"),
        ("00010000:43:00.0", "00010000:43:00.0"),
        ("PCI:0000:01:00:0", "0000:01:00.0"),
        ("43:00.0", "0000:43:00.0"),
        ("0000:C1:00", "0000:c1:00.0"),
        ("sda", ""),
        ("", ""),
    ],
)
def test_addresses_have_one_form(text: str, address: str) -> None:
    assert full_address(text) == address


def test_what_repeats_is_one_event_with_a_count_and_its_times() -> None:
    line = "nvidia 0000:43:00.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, (Receiver ID)"
    first, second = parse(*(f"[ {seconds}.0] {line}" for seconds in (10, 11, 50, 1000))).events
    assert (first.count, first.first and first.first.seconds, first.last and first.last.seconds) == (3, 10.0, 50.0)
    assert (second.count, second.first and second.first.seconds) == (1, 1000.0)


def test_an_unknown_code_is_an_event_too() -> None:
    (event,) = parse("[ 1.0] NVRM: Xid (PCI:0000:43:00): 4711, pid=1, name=x, something new").events
    assert (event.row, event.code) == ("xid", 4711)


def test_a_gpu_instance_of_mig_is_the_gpu() -> None:
    (event,) = parse("[ 1.0] NVRM: Xid (PCI:0000:43:00 GPU-I:05): 31, pid=1, name=x, MMU Fault").events
    assert (event.code, event.address) == (31, "0000:43:00.0")


def test_messages_of_other_programs_are_counted_and_not_believed() -> None:
    log = parse(
        f"user  :notice: [ 1.0] {XID}",
        f"12,7,2000000,-;{XID}",
        f"Jan 05 01:02:03 gpu-host7 logger[42]: {XID}",
        f"Jan 05 01:02:03 gpu-host7 kernel[42]: {XID}",
    )
    assert (log.events, log.foreign, log.lines) == ((), 4, 0)


@pytest.mark.parametrize("cut", range(1, 104))
def test_a_log_that_is_cut_anywhere_gives_no_other_finding(cut: int) -> None:
    text = f"[ 9002.500000] {XID}"[:cut]
    assert [event.code for event in parse(text).events] in ([], [79])


def test_many_different_places_are_bounded_row_by_row() -> None:
    flood = (f"[ 1.0] Out of memory: Killed process 1 (name{number}) total-vm:1kB" for number in range(10_000))
    log = parse_kernel_log(itertools.chain(flood, [f"[ 2.0] {XID}"]), ROWS, source="x")
    assert len(log.events) == 257 and log.left_out == 10_000 - 256
    assert log.events[-1].code == 79, "a flood of one row leaves room for the others"


# -- from a machine, a recording, a file


def test_without_rows_no_log_is_read() -> None:
    assert read_kernel_log(Root(), ()) is NO_KERNEL_LOG


def test_a_recording_holds_the_log_as_a_file(tmp_path: Path) -> None:
    root = make_root(tmp_path, {RECORDED: f"[ 1.0] {XID}\n"}, absent=Unknown.NOT_RECORDED)
    log = read_kernel_log(root, ROWS)
    assert [event.code for event in log.events] == [79] and log.source == RECORDED


def test_a_tree_that_another_tool_collected_may_have_the_file_of_a_syslog_daemon(tmp_path: Path) -> None:
    line = f"Jan  5 01:02:03 gpu-host7 kernel: [ 1.0] {XID}\n"
    log = read_kernel_log(make_root(tmp_path, {"/var/log/kern.log": line}, absent=Unknown.NOT_RECORDED), ROWS)
    assert [event.code for event in log.events] == [79] and log.source == "/var/log/kern.log"


def test_a_recording_without_a_log_says_so(tmp_path: Path) -> None:
    log = read_kernel_log(make_root(tmp_path, {"/proc/meminfo": ""}, absent=Unknown.NOT_RECORDED), ROWS)
    assert (log.unknown, log.events) == (Unknown.NOT_RECORDED, ())


def test_a_file_of_a_kernel_log_is_a_recording() -> None:
    facts = read_facts_of(LOGS / "several-faults.txt", (), kernel_rows=ROWS)
    assert facts.kernel_log.source == "several-faults.txt"
    assert [event.code for event in facts.kernel_log.events if event.row == "xid"] == [79, 94]


def test_a_device_that_is_not_there_or_is_another_is_said(tmp_path: Path) -> None:
    assert open_device(str(tmp_path / "kmsg")).unknown is Unknown.ABSENT
    (tmp_path / "file").write_text("no device")
    reading = open_device(str(tmp_path / "file"))
    assert reading.unknown is Unknown.MALFORMED and "log device" in reading.text
    os.mkfifo(tmp_path / "pipe")
    assert open_device(str(tmp_path / "pipe")).unknown is Unknown.MALFORMED


def records(*answers: bytes | OSError) -> Iterator[str]:
    left = list(answers)

    def read(size: int) -> bytes:
        answer = left.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer[:size]

    return read_records(read)


def test_records_of_the_device_are_read_to_the_newest_and_not_waited_for() -> None:
    again = BlockingIOError(errno.EAGAIN, "again")
    first = f"3,1,9002500000,-;{XID}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:43:00.0\n".encode()
    overwritten = OSError(errno.EPIPE, "overwritten")
    lines = list(records(first, overwritten, b"6,9,9003000000,-;usb 1-1: caf\xe9\n", again, b"never read"))
    assert lines == [f"3,1,9002500000,-;{XID}", "6,9,9003000000,-;usb 1-1: caf\\xe9"]
    assert [event.code for event in parse(*lines).events] == [79]


def test_an_error_of_the_device_ends_the_log() -> None:
    assert list(records(b"6,1,1,-;a\n", OSError(errno.EIO, "i/o"), b"never read")) == ["6,1,1,-;a"]


# -- any length


def long_log(bytes_: int) -> Iterator[str]:
    """Lines of a busy server: of a hundred one is known."""
    lines = [
        '[{0}.000001] audit: type=1400 audit(1799110923.5:{0}): apparmor="ALLOWED" operation="open" profile="x"',
        "[{0}.000002] IPv6: ADDRCONF(NETDEV_CHANGE): veth{0}: link becomes ready, and a little more text to be as long",
        "[{0}.000003] br-1: port {0}(veth{0}) entered blocking state; and a little more text to be as long as others",
    ]
    size = number = 0
    while size < bytes_:
        text = lines[number % 3] if number % 100 else "[{0}.000004] nvidia 0000:43:00.0: PCIe Bus Error: severity=Corrected"
        line = text.format(number)
        size += len(line) + 1
        number += 1
        yield line


@pytest.mark.long
def test_fifty_megabytes_take_ten_times_as_long_as_five_and_no_more_memory() -> None:
    small, large = (
        (lambda: parse_kernel_log(long_log(5 << 20), ROWS, source="x")),
        (lambda: parse_kernel_log(long_log(50 << 20), ROWS, source="x")),
    )
    assert growth(small, large, most=12) <= 12
    assert peak_bytes(small) < 2 << 20


@pytest.mark.parametrize(
    "line",
    [
        "x" * 1_000_000,
        "[" * 1_000_000,
        "[ 1.0] " + "NVRM: Xid (" * 100_000,
        "Jan 05 01:02:03 " + "a" * 1_000_000,
        "[ 1.0]" + " " * 1_000_000,
    ],
    ids=["word", "brackets", "xid", "host", "blanks"],
)
def test_a_line_without_an_end_is_cut(line: str) -> None:
    log = parse(line, f"[ 2.0] {XID}")
    assert log.events[-1].code == 79
