"""Lines of a kernel log in every form in which they are printed and kept: whose message it is, when, and its text.

Read are the records of /dev/kmsg, what `dmesg` prints with any of its options, what `journalctl` prints in its short forms,
and files of a syslog daemon. Sources: Documentation/ABI/testing/dev-kmsg; dmesg(1) of util-linux 2.41; journalctl(1),
--output=; RFC 3164, section 4; RFC 5424, section 6.

Who wrote a message is believed only as far as the form shows it. Programs may write to the same log: the kernel marks what
comes through /dev/kmsg with another facility than its own, and a journal shows the name of the program, with the number of
its process, which the kernel has not. `dmesg` without -x shows neither, but only root writes there.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bedplate.model.facts.kernel_log import KernelTime, LogClock

LINE_MOST = 4096  # characters of a line that are looked at; the kernel's own records have at most 1024 of text
_MORE_MOST = 8  # lines that a message may go on over
_TEXT_MOST = 1500  # characters of a message with what follows

_KMSG = re.compile(r"(?P<priority>\d{1,4}),\d{1,20},(?P<microseconds>\d{1,20}),[^;\n]{1,80};", re.ASCII)
_NUMBER = re.compile(r"<(?P<priority>\d{1,3})>", re.ASCII)
_WORDS = re.compile(
    r"(?P<facility>kern|user|mail|daemon|auth|authpriv|syslog|lpr|news|uucp|cron|ftp|local[0-7]) {0,8}"
    r":(?:emerg|alert|crit|err|warn|notice|info|debug) {0,8}: ?"
)
# "[   12.345678] ", with the difference of `dmesg -d`, and with the caller of CONFIG_PRINTK_CALLER.
_BOOT = re.compile(
    r"\[ {0,12}(?P<seconds>\d{1,10}\.\d{1,9})(?: <[ \d.]{1,24}>)?\](?: {0,2}\[ {0,8}[TC]\d{1,10}\])? ?", re.ASCII
)
# A month and a day of the week have their names of the locale: "Jan", "maj", "janv.", "11\u6708".
_MONTH = r"(?:[^\s\d:;,.<>\[\]]{2,5}\.?|\d{1,2}\u6708)"
_CTIME = re.compile(rf"\[(?P<stamp>[^\s\d\[\]]{{1,6}} {_MONTH} [ \d]\d \d\d:\d\d:\d\d \d{{4}})\] ?", re.ASCII)
_HUMAN = re.compile(rf"\[(?P<stamp>{_MONTH} {{0,2}}\d{{1,2}} \d\d:\d\d)\] ?", re.ASCII)
_DELTA = re.compile(r"\[ {0,8}(?:\+|< {0,12})(?P<delta>\d{1,8}[.,]\d{1,9})>?\] ?", re.ASCII)
_DMESG_ISO = re.compile(r"(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{1,9}(?:Z|[+-]\d\d:?\d\d)) ", re.ASCII)
# journalctl's short, short-precise, short-iso, short-full and short-unix, and files of syslog daemons.
_LOG = re.compile(
    rf"(?P<stamp>{_MONTH} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{{1,9}})?"
    r"|(?:[A-Z][a-z]{2} )?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d| [A-Z]{2,5})?"
    r"|\d{9,11}\.\d{1,9})"
    r" (?:(?P<host>\S{0,254}[^\s:]) )?(?:(?P<facility>[a-z\d]{2,8})\.[a-z]{3,7} )?"
    r"(?P<program>[^\s:\[\]]{1,128})(?P<pid>\[\d{1,10}\])?:(?: |$)",
    re.ASCII,
)
_RFC5424 = re.compile(
    r"1 (?P<stamp>[\d.:TZ+-]{10,40}|-) (?P<host>\S{1,255}) (?P<program>\S{1,48}) (?P<pid>\S{1,128}) \S{1,32}"
    r" (?:-|\[[^\]\n]{0,400}\]) ?",
    re.ASCII,
)
# Talos Linux: "host: kern: warning: [2027-01-05T01:02:03.5Z]: ", the host only for several machines.
_TALOS = re.compile(
    r"(?:(?P<host>[^\s:]{1,255}): )?(?P<facility>[a-z][a-z\d]{2,8}): {1,8}[a-z]{3,9}: "
    r"\[(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)\]: ",
    re.ASCII,
)
_BARE = "kernel: "  # what is left of a line of a journal whose time and host were cut off
_JOURNAL_MONOTONIC = re.compile(r"(?P<host>\S{1,255}) kernel: ", re.ASCII)
_ESCAPE = re.compile(r"\\x(?P<code>[0-9a-f]{2})|#(?P<octal>0[0-3][0-7])", re.ASCII)
# The NVIDIA driver prints these sentences over several records; each following one begins with a small letter or a bracket.
_SPLIT_BEGINS = ("NVRM: The NVIDIA ", "NVRM: API mismatch", "NVRM: This can occur")
_SPLIT_GOES_ON = re.compile(r"NVRM: {1,2}[a-z(]")
_MONTHS = {
    name: number
    for names in (  # English, German, French, Spanish, Italian, Portuguese, Polish, Dutch: what glibc prints for %b
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "jan feb m\u00e4r apr mai jun jul aug sep okt nov dez",
        "janv f\u00e9vr mars avril mai juin juil ao\u00fbt sept oct nov d\u00e9c",
        "ene feb mar abr may jun jul ago sep oct nov dic",
        "gen feb mar apr mag giu lug ago set ott nov dic",
        "jan fev mar abr mai jun jul ago set out nov dez",
        "sty lut mar kwi maj cze lip sie wrz pa\u017a lis gru",
        "jan feb mrt apr mei jun jul aug sep okt nov dec",
        "1\u6708 2\u6708 3\u6708 4\u6708 5\u6708 6\u6708 7\u6708 8\u6708 9\u6708 10\u6708 11\u6708 12\u6708",
    )
    for number, name in enumerate(names.split(), 1)
}
_NO_YEAR = 2000  # stands for the year that a stamp does not say; it has a 29 February


@dataclass(slots=True, kw_only=True)
class LogMessage:
    """A message as its line shows it; the time is parsed only for those that are known."""

    line: int
    """From 1."""
    of_kernel: bool
    stamp: str
    """ "9002.500000", "Jan 05 01:02:03"; "" for none."""
    clock: LogClock
    text: str
    """Without the prefix."""
    more: list[str] = field(default_factory=list)
    """Lines that continue it."""
    more_is_cut: bool = False
    """Whether the line was cut in the middle of a word, as a terminal's width does it."""

    def texts(self) -> tuple[str, ...]:
        """The whole message as one line: joined by blanks; and, where a line may be cut within a word, without."""
        if not self.more:
            return (self.text,)
        joined = " ".join([self.text, *self.more])[:_TEXT_MOST]
        return (joined, "".join([self.text, *self.more])[:_TEXT_MOST]) if self.more_is_cut else (joined,)

    def time(self) -> KernelTime | None:
        """When it was logged; None without a stamp, or for one that is no time, such as February 31."""
        seconds = float(self.stamp) if self.clock is LogClock.BOOT and self.stamp else _wall_seconds(self.stamp)
        return None if seconds is None else KernelTime(seconds=seconds, clock=self.clock, text=self.stamp)

    def render(self) -> str:
        """The message as one line that is read again as the same one: "[    9.500000] text"."""
        text = self.texts()[0]
        if self.clock is LogClock.BOOT:
            return f"[{self.stamp:>12}] {text}" if self.stamp else text
        if not self.stamp:
            return text
        if _DMESG_ISO.match(f"{self.stamp} ") is not None:
            return f"{self.stamp} {text}"
        bracket = f"[{self.stamp.partition(' +')[0]}]"
        if _CTIME.match(bracket) is not None or _HUMAN.match(bracket) is not None:
            return f"{bracket} {text}"
        return f"{self.stamp} host kernel: {text}"


class LineReader:
    """Turns lines into messages; remembers what one line says about the next."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        """is_known tells whether a text without a prefix is a message by itself, and not the rest of the line before."""
        self._is_known = is_known
        self._host = ""
        self._human = ("", 0.0)

    def read(self, lines: Iterable[str]) -> Iterator[LogMessage]:
        """Each message with the lines that continue it, in their order; a longer text takes no more memory."""
        pending: LogMessage | None = None
        for number, raw in enumerate(lines, 1):
            line = raw[:LINE_MOST].rstrip("\r\n\0")
            if not line or line.isspace():
                continue
            message = self._head(line, number)
            if message is None and line.startswith(_BARE) and (pending is None or pending.of_kernel):
                message = _bare(line, number)
            if message is None:
                text = line.strip()
                indented = line[0] in " \t"
                if pending is not None and (indented or not (pending.of_kernel and self._is_known(text))):
                    if len(pending.more) < _MORE_MOST:
                        pending.more_is_cut |= not indented
                        pending.more.append(text)
                    continue
                message = LogMessage(line=number, of_kernel=True, stamp="", clock=LogClock.BOOT, text=text)
            elif pending is not None and _goes_on(pending, message):
                pending.more.append(message.text)
                continue
            if pending is not None:
                yield pending
            pending = message
        if pending is not None:
            yield pending

    def _head(self, line: str, number: int) -> LogMessage | None:
        """The message that begins on this line; None when the line has none of the prefixes."""
        facility: bool | None = None  # whether it is the kernel's; None where the form does not say
        start = 0
        if line[0] == "<":
            found = _NUMBER.match(line)
            if found is None:
                return None
            facility, start = int(found["priority"]) >> 3 == 0, found.end()
        elif (found := _WORDS.match(line)) is not None:
            facility, start = found["facility"] == "kern", found.end()
        elif "Z]: " in line and (found := _TALOS.match(line)) is not None:
            own = found["facility"] == "kern"
            text = _unescape(line[found.end() :])
            return LogMessage(line=number, of_kernel=own, stamp=found["stamp"], clock=LogClock.WALL, text=text)
        first = line[start : start + 1]
        if first == "[":
            return self._bracket(line, start, number, facility=facility)
        if first.isdigit():
            return self._digit(line, start, number, facility=facility)
        if first.isalpha() and (found := _LOG.match(line, start)) is not None:
            return _from_log(found, line, number, facility=facility)
        if start:
            return LogMessage(line=number, of_kernel=facility is not False, stamp="", clock=LogClock.BOOT, text=line[start:])
        return None

    def _bracket(self, line: str, start: int, number: int, *, facility: bool | None) -> LogMessage | None:
        of_kernel = facility is not False
        if (found := _BOOT.match(line, start)) is not None:
            text = line[found.end() :]
            journal = _JOURNAL_MONOTONIC.match(text)
            if journal is not None:
                self._host, text = journal["host"], text[journal.end() :]
            elif self._host and text.startswith(self._host + " "):
                of_kernel = False
            return LogMessage(
                line=number, of_kernel=of_kernel, stamp=found["seconds"], clock=LogClock.BOOT, text=_unescape(text)
            )
        if (found := _CTIME.match(line, start)) is not None:
            stamp = found["stamp"]
        elif (found := _HUMAN.match(line, start)) is not None:
            stamp = found["stamp"]
            self._human = (stamp, 0.0)
        elif (found := _DELTA.match(line, start)) is not None:
            minute, past = self._human
            self._human = (minute, past + float(found["delta"].replace(",", ".")))
            stamp = f"{minute} +{self._human[1]:.6f}" if minute else ""
        else:
            return None
        return LogMessage(
            line=number, of_kernel=of_kernel, stamp=stamp, clock=LogClock.WALL, text=_unescape(line[found.end() :])
        )

    def _digit(self, line: str, start: int, number: int, *, facility: bool | None) -> LogMessage | None:
        if (found := _KMSG.match(line, start)) is not None:
            microseconds = int(found["microseconds"])
            return LogMessage(
                line=number,
                of_kernel=int(found["priority"]) >> 3 == 0,
                stamp=f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}",
                clock=LogClock.BOOT,
                text=_unescape(line[found.end() :]),
            )
        if (found := _DMESG_ISO.match(line, start)) is not None:
            return LogMessage(
                line=number,
                of_kernel=facility is not False,
                stamp=found["stamp"],
                clock=LogClock.WALL,
                text=_unescape(line[found.end() :]),
            )
        if (found := _LOG.match(line, start)) is not None:
            return _from_log(found, line, number, facility=facility)
        if (found := _RFC5424.match(line, start)) is not None:
            return LogMessage(
                line=number,
                of_kernel=found["program"] == "kernel" and found["pid"] == "-" and facility is not False,
                stamp=found["stamp"].strip("-"),
                clock=LogClock.WALL,
                text=_inner(line[found.end() :].lstrip("\ufeff")),
            )
        return None


def _from_log(found: re.Match[str], line: str, number: int, *, facility: bool | None) -> LogMessage:
    own = found["program"] == "kernel" and found["pid"] is None and found["facility"] in (None, "kern")
    return LogMessage(
        line=number,
        of_kernel=own and facility is not False,
        stamp=found["stamp"],
        clock=LogClock.WALL,
        text=_inner(line[found.end() :]),
    )


def _bare(line: str, number: int) -> LogMessage:
    text = line[len(_BARE) :]
    found = _BOOT.match(text)
    stamp, text = ("", text) if found is None else (found["seconds"], text[found.end() :])
    return LogMessage(line=number, of_kernel=True, stamp=stamp, clock=LogClock.BOOT, text=_unescape(text))


def _inner(text: str) -> str:
    """The text without the time since boot that a syslog daemon leaves in front of it."""
    found = _BOOT.match(text)
    return _unescape(text if found is None else text[found.end() :])


def _unescape(text: str) -> str:
    """Line ends within a message are \\x0a in /dev/kmsg and #012 in files of rsyslog; they become blanks."""
    if "\\x" not in text and "#0" not in text:
        return text
    return _ESCAPE.sub(lambda found: _character(int(found["code"], 16) if found["code"] else int(found["octal"], 8)), text)


def _character(code: int) -> str:
    return chr(code) if 32 <= code < 127 else " "


def _goes_on(pending: LogMessage, message: LogMessage) -> bool:
    return (
        pending.of_kernel
        and message.of_kernel
        and len(pending.more) < _MORE_MOST
        and pending.text.startswith(_SPLIT_BEGINS)
        and _SPLIT_GOES_ON.match(message.text) is not None
    )


_ISO = re.compile(
    r"(?:[A-Z][a-z]{2} )?(?P<date>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<part>\d{1,9}))?(?P<zone>.{0,6})",
    re.ASCII,
)
_DAY = re.compile(
    rf"(?:[^\s\d]{{1,6}} )?(?P<month>{_MONTH}) {{0,2}}(?P<day>\d{{1,2}}) "
    r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d))?"
    r"(?:\.(?P<part>\d{1,9}))?(?: (?P<year>\d{4}))?(?: \+(?P<past>\d{1,9}\.\d{6}))?",
    re.ASCII,
)
_UNIX = re.compile(r"\d{9,11}\.\d{1,9}", re.ASCII)


def _wall_seconds(stamp: str) -> float | None:
    try:
        if (found := _ISO.fullmatch(stamp)) is not None:
            zone = found["zone"].strip()
            offset = f"{zone[:3]}:{zone[-2:]}" if zone[:1] in ("+", "-") else "+00:00"
            moment = datetime.datetime.fromisoformat(f"{found['date']}T{found['time']}{offset}")
            return moment.timestamp() + float(f"0.{found['part'] or 0}")
        if (found := _DAY.fullmatch(stamp)) is not None:
            moment = datetime.datetime(
                int(found["year"] or _NO_YEAR),
                _MONTHS[found["month"].rstrip(".").casefold()],
                int(found["day"]),
                int(found["hour"]),
                int(found["minute"]),
                min(59, int(found["second"] or 0)),
                tzinfo=datetime.UTC,
            )
            return moment.timestamp() + float(f"0.{found['part'] or 0}") + float(found["past"] or 0)
        return float(stamp) if _UNIX.fullmatch(stamp) is not None else None
    except (ValueError, KeyError, OverflowError):
        return None
