"""The kernel's log as events: read from /dev/kmsg of this machine, from a recording, or from any text that holds one.

Which messages count is said by rows of the catalog; all others are counted and forgotten, so that a log of any length takes
the same memory. Messages that repeat are one event with a count and the times of the first and the last.
Source of the device: Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from bedplate.host.kernel.kernel_log_lines import LineReader, LogMessage
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.model.facts.kernel_log import NO_KERNEL_LOG, KernelEvent, KernelLog, KernelTime
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.kernel_log_row import KernelLogRow

DEVICE = "/dev/kmsg"
RECORDED = "/kernel.log"
"""Where a recording holds the log, as text."""
_FILES = (RECORDED, "/var/log/dmesg", "/var/log/kern.log")  # the last two: of a directory that another tool collected
_DEVICE_NUMBER = (1, 11)  # Documentation/admin-guide/devices.txt
_RECORD_MOST = 16 << 10  # bytes; PRINTKRB_RECORD_MAX, the longest that the kernel gives at once, is half of that
_RECORDS_MOST = 400_000  # the largest ring (log_buf_len=32M) holds fewer
_TEXT_MOST = 400  # characters of an event's message
_GAP_S = 60.0  # what repeats within this time is one event
_EVENTS_MOST = 16  # of one row, place and process; then the last takes the rest
_PLACES_MOST = 256  # different places and processes of one row
_BEGIN = re.compile(r"[^A-Za-z]{0,8}(?P<word>[A-Za-z][A-Za-z_]{0,40})")
_ADDRESS = re.compile(
    r"(?:PCI:)?(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})(?:[.:](?P<function>[0-7]))?",
    re.ASCII | re.IGNORECASE,
)


class MessageRows:
    """Rows of the catalog by the word that their messages begin with; patterns are compiled when one is first needed."""

    def __init__(self, rows: Sequence[KernelLogRow]) -> None:
        """rows without a pattern are of codes, which the row of their family finds; they are left out here."""
        self._by_word: dict[str, list[KernelLogRow]] = {}
        self._anywhere: list[tuple[str, KernelLogRow]] = []
        self._patterns: dict[str, re.Pattern[str]] = {}
        for row in rows:
            if not row.pattern:
                continue
            if row.contains:
                self._anywhere += [(text, row) for text in row.contains]
                continue
            for word in dict.fromkeys(_first_word(example) for example in row.examples):
                self._by_word.setdefault(word, []).append(row)

    def find(self, text: str) -> tuple[KernelLogRow, re.Match[str]] | None:
        """The row of a message and how it matches; None when no row knows it."""
        for row in self._by_word.get(_first_word(text), ()):
            if (found := self._pattern(row).match(text)) is not None:
                return row, found
        for part, row in self._anywhere:
            if part in text and (found := self._pattern(row).match(text)) is not None:
                return row, found
        return None

    def _pattern(self, row: KernelLogRow) -> re.Pattern[str]:
        pattern = self._patterns.get(row.id)
        if pattern is None:
            pattern = re.compile(row.pattern, re.ASCII)
            self._patterns[row.id] = pattern
        return pattern


@dataclass(slots=True)
class _Events:
    """Events by what they are about; each row has a bounded number of them, so that none crowds out another."""

    rows: dict[str, dict[tuple[object, ...], list[KernelEvent]]] = field(default_factory=dict)
    left_out: int = 0

    def add(self, event: KernelEvent) -> None:
        places = self.rows.setdefault(event.row, {})
        key = (event.code, event.address, event.subject, event.process, event.boot)
        events = places.get(key)
        if events is None:
            if len(places) >= _PLACES_MOST:
                self.left_out += 1
            else:
                places[key] = [event]
            return
        last = events[-1]
        if len(events) < _EVENTS_MOST and _apart(last.last, event.first):
            events.append(event)
        else:
            events[-1] = replace(last, count=last.count + 1, last=event.first or last.last)

    def listed(self) -> tuple[KernelEvent, ...]:
        events = [event for places in self.rows.values() for those in places.values() for event in those]
        return tuple(sorted(events, key=lambda event: (event.line, event.row)))


def parse_kernel_log(lines: Iterable[str], rows: Sequence[KernelLogRow], *, source: str) -> KernelLog:
    """The events of a log in any form (kernel_log_lines.py), and how many messages the kernel and others wrote.

    lines may be without an end; time grows with them, memory does not. source stands for the log in findings.
    >>> parse_kernel_log(["[ 9.5] NVRM: Xid (PCI:0000:43:00): 79, GPU has fallen off the bus."], rows, source="dmesg.txt")
    one event: row "xid", code 79, address "0000:43:00.0", first 9.5
    """
    known = MessageRows(rows)
    events = _Events()
    own = foreign = boot = 0
    for message in LineReader(lambda text: known.find(text) is not None).read(lines):
        if not message.of_kernel:
            foreign += 1
            continue
        own += 1
        if message.text.startswith("Linux version "):
            boot += 1
        for text in message.texts():
            if (found := known.find(text)) is not None:
                events.add(_event(*found, message, text, boot))
                break
    return KernelLog(source=source, events=events.listed(), lines=own, foreign=foreign, boots=boot, left_out=events.left_out)


def read_kernel_log(root: Root, rows: Sequence[KernelLogRow]) -> KernelLog:
    """The log of a machine: of this one from /dev/kmsg, of a recording from the file that it holds.

    Without rows nothing is read. Never raises: `unknown` and `why` say that there is none, or that it may not be read.
    """
    if not rows:
        return NO_KERNEL_LOG
    log = open_kernel_log(root)
    if log.value is None:
        return KernelLog(source=log.source, unknown=log.unknown, why=log.text)
    return parse_kernel_log(log.value, rows, source=log.source)


def open_kernel_log(root: Root) -> Reading[Iterator[str]]:
    """The lines of a machine's log, to be read once: of this machine from its device, of a recording from its file."""
    if root.is_live:
        return open_device()
    why = root.absent
    for where in _FILES:
        reading = root.read_bytes(where, TEXT_LIMIT)
        if reading.value is not None:
            return known(split_text(reading.value), where, "lines")
        if reading.unknown not in (None, Unknown.ABSENT, Unknown.NOT_RECORDED):
            return missing(reading.unknown, DEVICE if where == RECORDED else where, reading.text)
        if where == RECORDED and reading.unknown is not None:
            why = reading.unknown  # a recording says whether the machine had no log, or nobody asked
    return missing(why, DEVICE)


def split_text(data: bytes) -> Iterator[str]:
    """Lines of a text, one at a time, so that those of a large one are never all there; other bytes than UTF-8 as \\xNN."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        yield data[start:end].decode("utf-8", errors="backslashreplace")
        start = end + 1


def open_device(path: str = DEVICE) -> Reading[Iterator[str]]:
    """Records of this machine's log from the oldest to the newest, to be read once; or why this user may not.

    Reading takes nothing out of the log, and does not wait for new messages.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        why = Unknown.DENIED if error.errno in (errno.EACCES, errno.EPERM) else Unknown.ABSENT
        return missing(why, path, error.strerror or "")
    number = os.fstat(descriptor)
    if not stat.S_ISCHR(number.st_mode) or (os.major(number.st_rdev), os.minor(number.st_rdev)) != _DEVICE_NUMBER:
        os.close(descriptor)
        return missing(Unknown.MALFORMED, path, "is not the kernel's log device")
    return known(_records_of(descriptor), path, "records")


def _records_of(descriptor: int) -> Iterator[str]:
    try:
        yield from read_records(lambda size: os.read(descriptor, size))
    finally:
        os.close(descriptor)


def read_records(read: Callable[[int], bytes]) -> Iterator[str]:
    """Records of /dev/kmsg, one with each call of read(size), which raises OSError as the device does.

    EAGAIN is the end. EPIPE says that records were overwritten before they were read; the next call has the oldest of the
    rest.
    A record's further lines, " KEY=value", name the device; the message names it, too, and they are left out.
    """
    for _ in range(_RECORDS_MOST):
        try:
            record = read(_RECORD_MOST)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue
            return
        if not record:
            return
        yield record.partition(b"\n")[0].decode("utf-8", errors="backslashreplace")


def _event(row: KernelLogRow, found: re.Match[str], message: LogMessage, text: str, boot: int) -> KernelEvent:
    groups = found.groupdict()
    code = groups.get("code")
    time = message.time()
    return KernelEvent(
        row=row.id,
        code=int(code) if code else None,
        address=full_address(groups.get("origin") or groups.get("address") or groups.get("port") or ""),
        subject=(groups.get("subject") or "")[:80],
        process=(groups.get("process") or "").strip("'")[:40],
        text=text[:_TEXT_MOST],
        line=message.line,
        boot=boot,
        count=1,
        first=time,
        last=time,
    )


def full_address(text: str) -> str:
    """A PCI address in the kernel's form: "PCI:0000:43:00" and "43:00.0" are "0000:43:00.0"; "" for what is none."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        return ""
    domain = (found["domain"] or "0000").lower()
    domain = domain[-4:] if len(domain) > 4 and not domain[:-4].strip("0") else domain
    return f"{domain}:{found['bus'].lower()}:{found['device'].lower()}.{found['function'] or '0'}"


def _first_word(text: str) -> str:
    found = _BEGIN.match(text)
    return found["word"] if found is not None else ""


def _apart(last: KernelTime | None, following: KernelTime | None) -> bool:
    if last is None or following is None:
        return False
    return last.clock is not following.clock or not 0.0 <= following.seconds - last.seconds <= _GAP_S
