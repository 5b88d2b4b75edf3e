"""Every form in which a kernel log is printed and kept: whose message it is, when, and its text."""

from __future__ import annotations

import pytest

from bedplate.host.kernel.kernel_log_lines import LineReader, LogMessage
from bedplate.model.facts.kernel_log import LogClock

XID = "NVRM: Xid (PCI:0000:43:00): 79, GPU has fallen off the bus."


def read(*lines: str) -> list[LogMessage]:
    return list(LineReader(lambda text: text.startswith("NVRM: Xid")).read(lines))


# The seconds are of 2027-01-05 01:02:03 UTC where the form says the year, and of 2000 where it does not.
_2027, _2000 = 1_799_110_923.0, 947_034_123.0
FORMS = {
    "dmesg": (f"[ 9002.500000] {XID}", 9002.5, LogClock.BOOT),
    "dmesg of a long uptime": (f"[9002123.500000] {XID}", 9002123.5, LogClock.BOOT),
    "dmesg with callers": (f"[ 9002.500000][ T4242] {XID}", 9002.5, LogClock.BOOT),
    "dmesg -d": (f"[ 9002.500000 <    0.000017>] {XID}", 9002.5, LogClock.BOOT),
    "dmesg -T": (f"[Tue Jan  5 01:02:03 2027] {XID}", _2027, LogClock.WALL),
    "dmesg -x": (f"kern  :err   : [ 9002.500000] {XID}", 9002.5, LogClock.BOOT),
    "dmesg -xT": (f"kern  :warn  : [Tue Jan  5 01:02:03 2027] {XID}", _2027, LogClock.WALL),
    "dmesg --time-format iso": (f"2027-01-05T01:02:03,500000+00:00 {XID}", _2027 + 0.5, LogClock.WALL),
    "dmesg -x --time-format iso": (f"kern  :warn  : 2027-01-05T01:02:03,000000+00:00 {XID}", _2027, LogClock.WALL),
    "dmesg -r": (f"<3>[ 9002.500000] {XID}", 9002.5, LogClock.BOOT),
    "dmesg -H": (f"[Jan 5 01:02] {XID}", _2000 - 3, LogClock.WALL),
    "dmesg -H of a day with two digits": (f"[Jan15 01:02] {XID}", _2000 - 3 + 864_000, LogClock.WALL),
    "journalctl -k": (f"Jan 05 01:02:03 gpu-host7 kernel: {XID}", _2000, LogClock.WALL),
    "journalctl -o short-precise": (f"Jan 05 01:02:03.250000 gpu-host7 kernel: {XID}", _2000 + 0.25, LogClock.WALL),
    "journalctl -o short-iso": (f"2027-01-05T01:02:03+0000 gpu-host7 kernel: {XID}", _2027, LogClock.WALL),
    "journalctl -o short-iso of another zone": (f"2027-01-05T03:02:03+02:00 gpu-host7 kernel: {XID}", _2027, LogClock.WALL),
    "journalctl -o short-full": (f"Tue 2027-01-05 01:02:03 UTC gpu-host7 kernel: {XID}", _2027, LogClock.WALL),
    "journalctl -o short-unix": (f"1799110923.500000 gpu-host7 kernel: {XID}", _2027 + 0.5, LogClock.WALL),
    "journalctl -o short-monotonic": (f"[ 9002.500000] gpu-host7 kernel: {XID}", 9002.5, LogClock.BOOT),
    "kern.log, RFC 3164": (f"Jan  5 01:02:03 gpu-host7 kernel: [ 9002.500000] {XID}", _2000, LogClock.WALL),
    "kern.log of rsyslog today": (
        f"2027-01-05T01:02:03.500000+00:00 gpu-host7 kernel: [ 9002.5] {XID}",
        _2027 + 0.5,
        LogClock.WALL,
    ),
    "kern.log of busybox": (f"Jan  5 01:02:03 gpu-host7 kern.err kernel: [ 9002.500000] {XID}", _2000, LogClock.WALL),
    "RFC 5424": (f"<3>1 2027-01-05T01:02:03.5Z gpu-host7 kernel - - - {XID}", _2027 + 0.5, LogClock.WALL),
    "RFC 5424 with data": (f'1 2027-01-05T01:02:03Z gpu-host7 kernel - - [a b="c"] {XID}', _2027, LogClock.WALL),
    "journalctl -k in Polish": (f"sty 05 01:02:03 gpu-host7 kernel: {XID}", _2000, LogClock.WALL),
    "journalctl -k in French": (f"janv. 05 01:02:03 gpu-host7 kernel: {XID}", _2000, LogClock.WALL),
    "journalctl -k in Chinese": (f"1\u6708 05 01:02:03 gpu-host7 kernel: {XID}", _2000, LogClock.WALL),
    "dmesg -T in German": (f"[Di Jan  5 01:02:03 2027] {XID}", _2027, LogClock.WALL),
    "dmesg -T in Chinese": (f"[\u4e8c 1\u6708  5 01:02:03 2027] {XID}", _2027, LogClock.WALL),
    "Talos": (f"kern: warning: [2027-01-05T01:02:03.50000001Z]: {XID}", _2027 + 0.5, LogClock.WALL),
    "Talos of several machines": (f"10.5.0.2: kern:     err: [2027-01-05T01:02:03Z]: {XID}", _2027, LogClock.WALL),
    "journalctl -k --no-hostname": (f"Jan 05 01:02:03 kernel: {XID}", _2000, LogClock.WALL),
    "only the name": (f"kernel: [ 9002.500000] {XID}", 9002.5, LogClock.BOOT),
    "/dev/kmsg": (f"3,1234,9002500000,-;{XID}", 9002.5, LogClock.BOOT),
    "/dev/kmsg with a caller": (f"4,1234,9002500000,-,caller=T4242;{XID}", 9002.5, LogClock.BOOT),
}


@pytest.mark.parametrize(("line", "seconds", "clock"), FORMS.values(), ids=FORMS)
def test_a_message_of_the_kernel_is_read_in_every_form(line: str, seconds: float, clock: LogClock) -> None:
    (message,) = read(line)
    time = message.time()
    assert message.of_kernel and message.texts() == (XID,)
    assert time is not None and time.clock is clock and time.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("line", "seconds", "clock"), FORMS.values(), ids=FORMS)
def test_a_message_is_written_so_that_it_is_read_again_as_the_same(line: str, seconds: float, clock: LogClock) -> None:
    (message,) = read(line)
    (again,) = read(message.render())
    assert again.of_kernel and again.texts() == message.texts() and again.clock is clock
    time = again.time()
    if " +" not in message.stamp and message.stamp.count(":") != 1:  # dmesg -H has no other form
        assert time is not None and time.seconds == pytest.approx(seconds)
    assert "gpu-host7" not in message.render()


@pytest.mark.parametrize(
    "line",
    [
        f"user  :notice: [ 9002.500000] {XID}",
        f"daemon:err   : [ 9002.500000] {XID}",
        f"gpu-host7: user: warning: [2027-01-05T01:02:03.5Z]: {XID}",
        f"janv. 05 01:02:03 gpu-host7 python3[4242]: kernel: {XID}",
        f"<11>[ 9002.500000] {XID}",
        f"12,1234,9002500000,-;{XID}",
        f"Jan 05 01:02:03 gpu-host7 kernel[4242]: {XID}",
        f"Jan 05 01:02:03 gpu-host7 root: {XID}",
        f"Jan 05 01:02:03 root: kernel: {XID}",
        f"Jan 05 01:02:03 gpu-host7 python3[4242]: kernel: {XID}",
        f"Jan  5 01:02:03 gpu-host7 user.notice kernel: {XID}",
        f"2027-01-05T01:02:03+0000 gpu-host7 logger[4242]: {XID}",
        f"<11>1 2027-01-05T01:02:03Z gpu-host7 kernel - - - {XID}",
        f"<3>1 2027-01-05T01:02:03Z gpu-host7 kernel 4242 - - {XID}",
        f"<3>1 2027-01-05T01:02:03Z gpu-host7 logger - - - {XID}",
    ],
)
def test_what_another_program_wrote_is_not_the_kernels(line: str) -> None:
    (message,) = read(line)
    assert not message.of_kernel


def test_in_a_monotonic_journal_other_programs_are_known_by_the_host() -> None:
    own, other = read(f"[ 1.000000] gpu-host7 kernel: {XID}", f"[ 2.000000] gpu-host7 logger[7]: {XID}")
    assert own.of_kernel and own.text == XID
    assert not other.of_kernel


def test_lines_that_go_on_belong_to_their_message_and_are_believed_as_it_is() -> None:
    (message,) = read(
        "[ 12.0] NVRM: The NVIDIA GPU 0000:c1:00.0 (PCI ID: 10de:2bb5)", "       NVRM: installed in this system"
    )
    assert message.texts() == ("NVRM: The NVIDIA GPU 0000:c1:00.0 (PCI ID: 10de:2bb5) NVRM: installed in this system",)
    for line in (XID, f"kernel: {XID}"):
        (forged,) = read("Jan 05 01:02:03 gpu-host7 python3[4242]: a log of several lines:", line)
        assert not forged.of_kernel
    assert [message.text for message in read("kernel: one", "kernel: two")] == ["one", "two"]


def test_a_sentence_that_the_driver_prints_in_several_records_is_one_message() -> None:
    first, second = read(
        "[ 12.000001] NVRM: The NVIDIA GPU 0000:0a:00.0",
        "[ 12.000002] NVRM: (PCI ID: 10de:1401) installed in this system has",
        "[ 12.000003] NVRM: fallen off the bus and is not responding to commands.",
        "[ 12.000004] NVRM: GPU 0000:0a:00.0: RmInitAdapter failed! (0x26:0x56:1471)",
    )
    assert first.texts()[0].endswith(
        "installed in this system has NVRM: fallen off the bus and is not responding to commands."
    )
    assert second.text.startswith("NVRM: GPU")


def test_a_line_that_a_terminal_cut_is_put_together_both_ways() -> None:
    (message,) = read("[ 9.5] NVRM: Xid (PCI:0000:1b:00): 94, pid=4241, na", "me=VLLM::Worker, Contained")
    assert "NVRM: Xid (PCI:0000:1b:00): 94, pid=4241, name=VLLM::Worker, Contained" in message.texts()
    assert len(message.texts()) == 2


def test_a_message_without_any_prefix_stands_for_itself_where_it_is_known() -> None:
    assert [message.text for message in read(XID, XID)] == [XID, XID]
    assert [message.of_kernel for message in read(f"[ 1.0] {XID}", XID)] == [True, True]


def test_escaped_line_ends_are_blanks() -> None:
    (record,) = read("4,1,12000000,-;NVRM: The NVIDIA GPU\\x0aNVRM: installed")
    assert record.text == "NVRM: The NVIDIA GPU NVRM: installed"
    (syslog,) = read("Jan  5 01:02:03 gpu-host7 kernel: [ 12.0] NVRM: The NVIDIA GPU#012NVRM: installed")
    assert syslog.text == "NVRM: The NVIDIA GPU NVRM: installed"


def test_relative_times_add_up() -> None:
    _, second, third = read(f"[Jan 5 01:02] {XID}", f"[  +1,500000] {XID}", f"[  +0.250000] {XID}")
    times = [message.time() for message in (second, third)]
    assert [time.seconds if time else None for time in times] == [_2000 - 3 + 1.5, _2000 - 3 + 1.75]


@pytest.mark.parametrize("stamp", ["Feb 31 01:02:03", "2027-13-05T01:02:03+0000", "Jan 05 29:02:03"])
def test_a_time_that_cannot_be_is_none_and_the_message_stands(stamp: str) -> None:
    (message,) = read(f"{stamp} gpu-host7 kernel: {XID}")
    assert message.of_kernel and message.time() is None


def test_a_message_goes_on_over_a_bounded_number_of_lines() -> None:
    (message,) = read("[ 1.0] begin", *(f" {'x' * 5000}" for _ in range(1000)))
    assert len(message.more) <= 8 and all(len(text) <= 1600 for text in message.texts())
