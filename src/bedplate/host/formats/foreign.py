"""What other programs wrote of a machine, from a file, a pipe, a directory or an archive: recognised by content, and read.

A text is cut into the outputs that stand in it (cut.py), each is read by its own parser (table.py), and the facts are joined
(join.py). Files of the machine itself, and its kernel log, are kept as a tree, for the readers of such files. Plain, or
packed with gzip, bzip2, xz or zstd.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from bedplate.errors import ReadError
from bedplate.host.formats.cut import Cutter
from bedplate.host.formats.join import SectionFacts, join_facts
from bedplate.host.formats.section import Section
from bedplate.host.formats.table import BY_ID, FORMATS, KERNEL_LOG
from bedplate.host.root.recording import MemoryTree, decompress
from bedplate.model.facts.host import Conflict, HostFacts, Problem, TextSection
from bedplate.model.facts.reading import Unknown

EXPECTED = (
    "Give a file of `bedplate record`, a directory or archive (tar; gzip, bzip2, xz, zstd) of /proc and /sys, or text that"
    " programs print: nvidia-smi, lspci, rocm-smi, amd-smi, dmesg, lscpu, collect_env and others"
    " (docs/reference/pasted-formats.md)."
)
TEXT_MOST = 64 << 20  # bytes after unpacking
KERNEL_LOG_MOST = 12 << 20  # bytes; the newest are kept, and a line end for each that was dropped
TREE_MOST = 16 << 20  # bytes of files of the machine
LINE_MOST = 16 << 20  # characters: a document may be one line
_HEAD = 65_536  # bytes that are looked at for a NUL, which no text has
_CHUNK = 1 << 18
# Files that stay as they are until somebody changes them; counters and /proc/meminfo change by themselves.
_SETTINGS = ("/proc/cmdline", "/proc/sys/", "/sys/kernel/mm/", "/sys/module/")
_CONFLICTS_MOST = 200
_SAID = 120  # characters of a setting that are shown
_NEAREST = 6  # formats that an error names
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{2,30}")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what PowerShell's > writes


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFacts:
    """What texts told of a machine."""

    facts: HostFacts
    files: MemoryTree
    """Files of the machine that stand in them, and its kernel log; without any, the tree has none."""


@dataclass(slots=True)
class _Gathered:
    """All sections of all texts of one input."""

    parts: list[SectionFacts] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    file_bytes: int = 0
    log: list[bytes] = field(default_factory=list)
    log_bytes: int = 0
    log_file: str = ""
    log_lines: int = 0
    """Lines that were given, with those that were dropped."""
    log_dropped: int = 0
    """Lines of the oldest pieces, which were too much."""
    conflicts: list[Conflict] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    texts: list[TextSection] = field(default_factory=list)

    def take(self, section: Section, path: str) -> bool:
        """Read a section; False where it is not what it looked like."""
        if path == KERNEL_LOG:
            self._add_log(section)
            return True
        if path:
            data = section.text.encode("utf-8", "surrogateescape") + b"\n"
            self.file_bytes += len(data)
            if self.file_bytes > TREE_MOST:
                return False
            if path.startswith(_SETTINGS) and (before := self.files.get(path, data)) != data:
                self.conflicts.append(
                    Conflict(fact=path, values=(_said(before, "an earlier part"), _said(data, "a later part")))
                )
            self.files[path] = data
            return True
        row = BY_ID[section.format]
        try:
            facts = row.parse(section)
        except ReadError as error:
            self.errors.append(f"line {section.first_line}: {error.message}")
            return False
        self.parts.append(SectionFacts(facts, bus=row.bus))
        return True

    def _add_log(self, section: Section) -> None:
        """Keep a piece of the kernel's log. Blank lines stand for the others of the file: lines keep their numbers."""
        if self.log_file in ("", section.file):
            blank = section.first_line - 1 - self.log_lines
            self.log_file = section.file
        else:  # lines of several files have no common numbers
            blank = 0
        data = b"\n" * max(blank, 0) + section.text.encode("utf-8", "surrogateescape") + b"\n"
        self.log.append(data)
        self.log_bytes += len(data)
        self.log_lines += data.count(b"\n")
        while self.log_bytes > KERNEL_LOG_MOST and len(self.log) > 1:
            dropped = self.log.pop(0)
            self.log_bytes -= len(dropped)
            self.log_dropped += dropped.count(b"\n")

    def result(self, origin: str) -> ForeignFacts:
        if self.log:
            self.files[KERNEL_LOG] = b"\n" * self.log_dropped + b"".join(self.log)
        facts = join_facts(self.parts, origin)
        problems = facts.problems
        if self.log_dropped:
            what = f"only the newest {KERNEL_LOG_MOST >> 20} MiB of the kernel log were read"
            problems = (*problems, Problem(source="kernel log", message=what))
        conflicts = (*facts.conflicts, *dict.fromkeys(self.conflicts))[:_CONFLICTS_MOST]
        facts = replace(facts, texts=tuple(self.texts), problems=problems, conflicts=conflicts)
        return ForeignFacts(facts=facts, files=make_tree(self.files, origin))


def _said(data: bytes, source: str) -> tuple[str, str]:
    text = data.decode("utf-8", "backslashreplace").strip()
    return (text if len(text) <= _SAID else f"{text[:_SAID]}…", source)


def read_foreign(path: Path, data: bytes | None = None) -> HostFacts | None:
    """Facts of a single file without those of files of the machine in it; see read_text_file."""
    told = read_text_file(path, data)
    return None if told is None else told.facts


def read_text_file(path: Path, data: bytes | None = None, *, name: str | None = None) -> ForeignFacts | None:
    """What the text in a file tells; None when it is no text, or no part of it is of a format that is known here.

    data is what came through a pipe of that name; name stands for the file in what is said of it. Raises ReadError where
    everything that was recognised is malformed, and for a text that is longer than TEXT_MOST.
    """
    if data is None and not path.is_file():
        return None
    gathered = _Gathered()
    label = path.name if name is None else name
    try:
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            if not _gather(gathered, file, label):
                return None
        return _finish(gathered, label)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    except ReadError as error:
        raise ReadError(f"{path}: {error.message}", hint=error.hint) from error.__cause__


def read_text_files(files: Iterable[tuple[str, bytes]], origin: str) -> ForeignFacts | None:
    """What several files tell of one machine, as a directory or an archive holds them: (name, content), in this order.

    None when nothing in them is of a known format; files that are no text are passed over. Raises ReadError as above.
    """
    gathered = _Gathered()
    for name, data in files:
        try:
            _gather(gathered, io.BytesIO(data), name)
        except ReadError as error:
            gathered.errors.append(f"{name}: {error.message}")
    return _finish(gathered, origin)


def _finish(gathered: _Gathered, origin: str) -> ForeignFacts | None:
    understood = any(text.format for text in gathered.texts)
    if not understood and gathered.errors:
        raise ReadError(gathered.errors[0], hint=EXPECTED)
    return gathered.result(origin) if understood else None


def _gather(gathered: _Gathered, file: BinaryIO, name: str) -> bool:
    """Cut one file into sections and read them; False when it is no text."""
    chunks = _text_chunks(file)
    if chunks is None:
        return False
    cutter = Cutter(name, gathered.take)
    cutter.read(_lines(chunks))
    gathered.texts += cutter.texts
    return True


def _text_chunks(file: BinaryIO) -> Iterator[str] | None:
    """The text, unpacked and decoded, a piece at a time; None when the first piece shows that it is none."""
    packed = decompress(file)
    first = b""
    for chunk in packed:
        first += chunk
        if len(first) >= _HEAD:
            break
    if b"ttar" in first.split(b"\n", 1)[0]:  # an archive of /proc and /sys, whose text is that of its files
        return None
    encoding = "utf-16" if first.startswith(_UTF_16) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in first[:_HEAD]:
        return None
    return _decode(first, packed, encoding)


def _decode(first: bytes, packed: Iterator[bytes], encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    size = len(first)
    yield decoder.decode(first)
    for chunk in packed:
        size += len(chunk)
        if size > TEXT_MOST:
            raise ReadError(f"is longer than {TEXT_MOST >> 20} MiB", hint="Cut it to the part that matters.")
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _lines(chunks: Iterator[str]) -> Iterator[str]:
    """Lines without their end. A line that is longer than LINE_MOST is refused."""
    rest: list[str] = []
    held = 0
    for chunk in chunks:
        pieces = chunk.split("\n")
        if len(pieces) == 1:
            rest.append(chunk)
            held += len(chunk)
            if held > LINE_MOST:
                raise ReadError(f"has a line of more than {LINE_MOST} characters")
            continue
        yield "".join(rest) + pieces[0]
        yield from pieces[1:-1]
        rest, held = [pieces[-1]], len(pieces[-1])
    if last := "".join(rest):
        yield last


def make_tree(files: dict[str, bytes], name: str) -> MemoryTree:
    """Files of a machine by their paths, as an archive gives them; what is not among them is NOT_RECORDED."""
    tree = MemoryTree(path=Path(name), absent=Unknown.NOT_RECORDED, children={"/": set()})
    for path, data in files.items():
        tree.files[path] = data
        while path != "/":
            parent, _, last = path.rpartition("/")
            path = parent or "/"
            tree.children.setdefault(path, set()).add(last)
    return tree


def describe_formats(text: str = "") -> str:
    """A hint that names the formats that are read, those first whose words the text has most of."""
    words = {word.lower() for word in _WORD.findall(text[:_HEAD])}

    def shared(row_words: str) -> int:
        return len(words & {word.lower() for word in _WORD.findall(row_words)})

    ranked = sorted(FORMATS, key=lambda row: -shared(f"{row.id} {row.title} {row.command} {row.tells}"))
    titles = [row.title for row in ranked]
    return (
        f"Nearest of the formats that are read: {', '.join(titles[:_NEAREST])}; {len(titles) - _NEAREST} more are in"
        " docs/reference/pasted-formats.md. A recording of `bedplate record` is read, too."
    )


def read_head(path: Path, data: bytes | None = None) -> str | None:
    """The beginning of a file as text, for describe_formats; None when it is none, or cannot be read."""
    try:
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            chunks = _text_chunks(file)
            return None if chunks is None else next(chunks, "")[:_HEAD]
    except (OSError, ReadError):
        return None
