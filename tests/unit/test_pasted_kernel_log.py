"""A kernel's log that is pasted: recognised at any line, kept by its newest lines, numbered as in the text."""

from __future__ import annotations

import pytest
from tests.unit.pasted_cases import MIB, PASTED

from bedplate.host.formats.foreign import KERNEL_LOG_MOST, read_text_files


@pytest.mark.parametrize("name", ["kernel-log/dmesg.txt", "kernel-log-driver/dmesg.txt"])
def test_a_kernel_log_is_recognised_and_handed_on(name: str) -> None:
    path = PASTED / name
    told = read_text_files([(path.name, path.read_bytes())], "log")
    assert told is not None
    (text,) = told.facts.texts
    assert (text.format, text.first_line) == ("kernel-log", 1)
    assert told.files.read("/kernel.log").value == path.read_text().rstrip("\n")


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
