"""The kernel's log in a recording: the messages that rows of the catalog know, and the newest others, without people.

Left out are messages of other programs, lists of all processes (the kernel writes one when memory runs out), lines of the
audit system and command lines. Names of processes stay only where they are an engine's, the kernel's own, or a service's
that the audit looks for; hosts, addresses, serial numbers and people are replaced as in every other file of a recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bedplate.host.kernel.kernel_log import MessageRows, open_kernel_log
from bedplate.host.kernel.kernel_log_lines import LineReader, LogMessage
from bedplate.host.record.redact import Redactor
from bedplate.host.root.root import Root
from bedplate.host.system.osinfo import CO_OWNERS
from bedplate.model.engine_names import is_engine_name
from bedplate.model.facts.reading import Reading, known
from bedplate.model.kernel_log_row import KernelLogRow
from bedplate.model.lazy_pattern import LazyPattern

KNOWN_MOST = 384 << 10  # bytes of known messages, the newest of them
NEWEST_MOST = 128 << 10  # bytes of the newest messages of any kind
_LEFT_OUT = LazyPattern(
    r"audit(?:\(|: )|(?:Kernel )?[Cc]ommand line: |Unknown kernel command line parameters"
    r"|\[ {0,9}\d{1,10}\] {1,10}\d{1,10} {1,10}\d{1,10} |\[ {0,4}pid {0,4}\]"
)
_KERNEL_NAME = LazyPattern(
    r"(?:kworker|ksoftirqd|migration|swapper|kswapd|kcompactd|khugepaged|rcu|irq/|kthread|jbd2|xfs|btrfs|nvidia|nv_queue|scsi_|md\d|dm"
    r"|systemd|udev|\(udev|modprobe|insmod|kexec|init$)"
)
# Where the kernel writes the name of a process.
_NAMES = (
    LazyPattern(r"(?P<before>\bprocess \d{1,10} \()(?P<name>[^)\n]{1,40})(?P<after>\))"),
    LazyPattern(r"(?P<before>\bComm: )(?P<name>\S{1,20})(?P<after>)"),
    LazyPattern(r"(?P<before>\bname=)(?P<name>[^,\n]{1,20})(?P<after>)"),
    LazyPattern(r"(?P<before>\b(?:task|comm)[=:])(?P<name>[^,\s]{1,20})(?P<after>)"),
    LazyPattern(r"(?P<before>\bINFO: task )(?P<name>.{1,20}?)(?P<after>:\d{1,10} )"),
    LazyPattern(r"(?P<before>\bfor process )(?P<name>\S{1,20})(?P<after>)"),
    LazyPattern(r"(?P<before>\bin )(?P<name>\S{1,20})(?P<after> \[\d{1,10}\])"),
    LazyPattern(r"(?P<before>stuck for \d{1,8}s! \[)(?P<name>[^\]\n]{1,20}?)(?P<after>:\d{1,10}\])"),
    LazyPattern(
        r"(?P<before>^(?:\[[^\]]{1,40}\] )?(?:traps: )?)(?P<name>[^\[\]\s]{1,20})"
        r"(?P<after>\[\d{1,10}\]:? (?:segfault|trap|general))"
    ),
    LazyPattern(
        r"(?P<before>^(?:\[[^\]]{1,40}\] )?)(?P<name>\S{1,20})(?P<after>(?: invoked oom-killer|: page allocation failure))"
    ),
    LazyPattern(r"(?P<before>\bLockdown: )(?P<name>[^:\n]{1,20})(?P<after>: )"),
    LazyPattern(r"(?P<before>\bSIGBUS to )(?P<name>\S{1,20}?)(?P<after>:\d{1,10} )"),
    LazyPattern(r"(?P<before>\bclient ')(?P<name>[^'\n]{1,40})(?P<after>')"),
)
_USER = LazyPattern(r"(?P<before>\b(?:UID:|uid=|user-|user@))(?!0\b)\d{1,10}")
_SERVER = LazyPattern(r"(?P<before>\bnfs: server |\\\\\\\\)(?P<host>[^\s\\]{1,255})")
# Paths of control groups: names of services and containers.
_GROUP = LazyPattern(r"(?P<before>\b(?:oom_memcg|task_memcg|cpuset)=|\bTasks in )(?P<path>/[^,\s]{0,400})")


def record_kernel_log(root: Root, rows: Sequence[KernelLogRow]) -> Reading[bytes]:
    """The log as a recording holds it, in the order of the log, each message one line; or why there is none.

    At most KNOWN_MOST bytes of what the rows know and NEWEST_MOST bytes of all else. Identifiers are replaced later, with
    those of the other files.
    """
    log = open_kernel_log(root)
    if log.value is None:
        return Reading(value=None, source=log.source, unknown=log.unknown, text=log.text)
    matcher = MessageRows(rows)
    recognised, newest = _Newest(KNOWN_MOST), _Newest(NEWEST_MOST)
    for message in LineReader(lambda text: matcher.find(text) is not None).read(log.value):
        if not message.of_kernel:
            continue
        is_known = any(matcher.find(text) is not None for text in message.texts())
        if is_known or message.text.startswith("Linux version "):
            recognised.add(message)
        elif _LEFT_OUT.match(message.text) is None:
            newest.add(message)
    lines = sorted([*recognised.lines, *newest.lines])
    return known("".join(f"{text}\n" for _, text in lines).encode(), log.source, "log")


class _Newest:
    """The newest lines up to a size."""

    def __init__(self, most: int) -> None:
        self.lines: deque[tuple[int, str]] = deque()
        self._most, self._size = most, 0

    def add(self, message: LogMessage) -> None:
        text = message.render().encode("utf-8", errors="replace").decode()
        self.lines.append((message.line, text))
        self._size += len(text) + 1
        while self._size > self._most:
            self._size -= len(self.lines.popleft()[1]) + 1


def redact_message(text: str, redactor: Redactor) -> str:
    """One message without people, hosts, serial numbers, and names of processes that are nobody's business."""
    for pattern in _NAMES:
        text = pattern.sub(lambda found: found["before"] + shown_name(found["name"]) + found["after"], text)
    text = _USER.sub(lambda found: found["before"] + "N", text)
    text = _GROUP.sub(lambda found: found["before"] + _group(found["path"]), text)
    text = _SERVER.sub(lambda found: found["before"] + redactor.host(found["host"]), text)
    return redactor.words(text)


def shown_name(name: str) -> str:
    """The name of a process where a recording shows it, else "-"; "" stays."""
    plain = name.strip("'")
    if not plain or plain in ("-", "<unknown>") or plain in CO_OWNERS or is_engine_name(plain) or _KERNEL_NAME.match(plain):
        return name
    return "-"


def _group(path: str) -> str:
    """A control group without the names that people gave: "/inference.slice/shop.service" -> "/inference.slice/-"."""
    shown = (
        part if part.endswith(".slice") or is_engine_name(part) or part in ("", "docker", "system.slice") else "-"
        for part in path.split("/")
    )
    return "/".join(shown)
