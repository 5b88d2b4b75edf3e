"""A text of an operator, cut into the outputs that stand in it: each line goes to the format that it looks like.

Lines are read one by one, so that a text of any length takes the memory of its longest section. A section ends with a
prompt, a fence, a line that another format begins with, or several lines that its own format does not have; a line or two
between its lines are passed over. What no format knows is listed by its lines, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bedplate.host.formats.clean import CleanLine, clean_line
from bedplate.host.formats.mend import mend_json, mend_xml
from bedplate.host.formats.section import Section, TextFormat
from bedplate.host.formats.table import DOCUMENTS, FILE, KERNEL_LOG, LINES
from bedplate.model.facts.host import TextSection

SECTION_MOST = 16 << 20  # characters; what is longer is refused by every parser anyway
SECTIONS_MOST = 2000
RANGES_MOST = 1000  # of lines that were not read; the last one takes the rest
_HEAD = 400  # characters of a line that are looked at to recognise it
_DOCUMENT_HEAD = 65_536
_PASSED_OVER = 2  # lines of another kind within a section
_PIECE = 4 << 20  # characters
_CHUNK = 4096  # lines that are joined at once
_JSON = re.compile(r"\s{0,80}[\[{]\s{0,8}(?:[\"\[{].{0,400})?", re.DOTALL)
_XML = re.compile(r"\s{0,80}<(?:\?xml|!DOCTYPE|!--|nvidia_smi_log|system[\s>/]|topology[\s>/])")
_XML_ENDS = ("</nvidia_smi_log>", "</system>", "</topology>", "<nvidia_smi_log/>")
_NEUTRAL = re.compile(
    r"[\s+|=_*#~.─━═│┃╒╕╘╛╞╡-]{1,400}|={4,200} [A-Za-z ]{3,60} ={4,200}\s{0,4}"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:[A-Z]{2,5} )?\d{4}\s{0,4}"
)
_FILES = ("/proc/", "/sys/", "/etc/os-release")
_READERS = ("cat", "head", "tail", "grep")
_ANY = re.compile("|".join(f"(?P<F{place}>{row.begins.pattern})" for place, row in enumerate(LINES)))


@dataclass(slots=True)
class _Open:
    """The section that lines are added to."""

    format: TextFormat | None
    """None for a document, whose format is known when it is whole, and for a file that a prompt names."""
    first_line: int
    last_line: int
    indent: int
    command: tuple[str, ...]
    path: str = ""
    document: str = ""
    """ "json" or "xml"."""
    depth: int = 0
    """Open brackets of JSON."""
    size: int = 0
    lines: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    """Lines of another kind that were passed over last."""

    def add(self, line: str, number: int) -> None:
        """Lines past the bound are counted as the section's and not kept: its parser refuses it or reads what is there."""
        self.last_line = number
        self.passed.clear()
        if self.size > SECTION_MOST:
            return
        self.size += len(line) + 1
        self.lines.append(line)
        if len(self.lines) >= _CHUNK:
            self.chunks.append("\n".join(self.lines) + "\n")
            self.lines.clear()

    def add_blank(self) -> None:
        """A blank line within the section; at its end it is none of its lines."""
        if self.size <= SECTION_MOST:
            self.size += 1
            self.lines.append("")

    def text(self) -> str:
        self.chunks.append("\n".join(self.lines))
        return "".join(self.chunks)


class Cutter:
    """Takes lines, and gives each section to `found` as soon as it has ended."""

    def __init__(self, file: str, found: Callable[[Section, str], bool]) -> None:
        """found(section, path) tells whether the section was understood; path is "" but for files of a machine."""
        self._file = file
        self._found = found
        self._open: _Open | None = None
        self._command: tuple[str, ...] = ()
        self._sections = 0
        self._may_join = False
        self.texts: list[TextSection] = []
        """What each run of lines was read as, in order; format "" for those that were not understood."""

    def read(self, lines: Iterable[str]) -> None:
        """All lines of the text, once."""
        number = 0
        for number, raw in enumerate(lines, 1):
            clean = clean_line(raw)
            if clean.is_boundary:
                self._close()
                self._command = clean.command
                self._may_join = False
            if clean.text:
                self._line(clean, number)
            elif self._open is not None and not clean.is_boundary:
                self._blank()
        self._close()

    def _line(self, clean: CleanLine, number: int) -> None:
        line = clean.text
        here = self._open
        if here is not None and here.document:
            if not self._begins_other(line, here):
                self._add_to_document(here, line, number)
                return
            self._close()
            here = None
        if here is not None and self._goes_on(here, line, number):
            return
        if _NEUTRAL.fullmatch(line[:_HEAD]) is not None:
            if here is not None:
                here.add(line[here.indent :], number)
            return
        begun = self._begin(line, number)
        if begun is not None:
            self._close()
            self._open = begun
            if begun.document:
                self._add_to_document(begun, line, number)
            else:
                begun.add(line[begun.indent :], number)
            return
        if here is not None and len(here.passed) < _PASSED_OVER:
            here.passed.append(number)
            return
        self._close()
        self._unread(number, number)

    def _goes_on(self, here: _Open, line: str, number: int) -> bool:
        """Whether the line was added to the section that is open."""
        text = _without_indent(line, here.indent)
        if here.path and here.format is None:
            here.add(text, number)
            return True
        other = _find_begin(text)
        if other is not None and (other is not here.format or (other.restarts and not _is_row(other, text))):
            return False
        if other is not None:
            self._note_passed(here)
            self._add(here, text, number)
            return True
        pattern = here.format.continues if here.format is not None else None
        if pattern is None or pattern.match(text[:_HEAD]) is None:
            return False
        self._note_passed(here)
        self._add(here, text, number)
        return True

    def _add(self, here: _Open, text: str, number: int) -> None:
        """A line that goes on. A kernel log may be of any length: it is given away in pieces."""
        if here.path == KERNEL_LOG and here.size > _PIECE:
            self._close()
            here = self._open = _Open(here.format, number, number, here.indent, here.command, path=here.path)
        here.add(text, number)

    def _begins_other(self, line: str, here: _Open) -> bool:
        return here.lines != [] and line[:1] not in ' \t"{}[]<' and _find_begin(line) is not None

    def _begin(self, line: str, number: int) -> _Open | None:
        """A section that begins with this line; None when no format knows it."""
        command, self._command = self._command, ()
        if _JSON.fullmatch(line[:_HEAD]) is not None or _XML.match(line[:_HEAD]) is not None:
            kind = "xml" if line.lstrip().startswith("<") else "json"
            return _Open(None, number, number, 0, command, document=kind)
        row, indent = _find_begin(line), 0
        if row is None and line[:1] in " \t":
            indent = len(line) - len(line.lstrip(" \t"))
            row = _find_begin(line[indent:])
        if row is not None:
            return _Open(row, number, number, indent, command, path=row.path)
        path = _named_file(command)
        if path:
            return _Open(None, number, number, 0, command, path=path)
        self._command = command
        return None

    def _add_to_document(self, here: _Open, line: str, number: int) -> None:
        here.add(line, number)
        if here.document == "json":
            here.depth += line.count("{") + line.count("[") - line.count("}") - line.count("]")
            if here.depth <= 0:
                self._close()
        elif any(end in line for end in _XML_ENDS):
            here.depth = -1
            self._close()

    def _blank(self) -> None:
        here = self._open
        if here is None:
            return
        if here.path and here.format is None:  # the value of a file of /sys is one paragraph
            self._close()
        elif here.size and not here.passed:
            here.add_blank()

    def _close(self) -> None:
        """Give the open section away; what was passed over behind its last line was not read."""
        here, self._open = self._open, None
        if here is None:
            return
        passed = list(here.passed)
        text = here.text()
        row = here.format
        if here.document:
            row = next((row for row in DOCUMENTS if row.begins.search(text[:_DOCUMENT_HEAD]) is not None), None)
            if row is not None and (here.depth > 0 or (here.document == "xml" and here.depth == 0)):
                text = mend_json(text) if here.document == "json" else mend_xml(text)
        format_id = row.id if row is not None else FILE if here.path else ""
        understood = False
        if format_id and self._sections < SECTIONS_MOST:
            self._sections += 1
            section = Section(
                format=format_id,
                file=self._file,
                first_line=here.first_line,
                last_line=here.last_line,
                text=text.strip() if here.document else text.rstrip("\n"),
                command=here.command,
            )
            understood = self._found(section, here.path)
        if understood:
            self._may_join = False
            self._note_read(here, format_id)
        else:
            self._unread(here.first_line, here.last_line)
        for number in passed:
            self._unread(number, number)

    def _note_read(self, here: _Open, format_id: str) -> None:
        before = self.texts[-1] if self.texts else None
        first = here.first_line
        if before is not None and here.path == KERNEL_LOG and before.format == format_id and before.last_line == first - 1:
            first = self.texts.pop().first_line
        self.texts.append(TextSection(file=self._file, first_line=first, last_line=here.last_line, format=format_id))

    def _note_passed(self, here: _Open) -> None:
        for number in here.passed:
            self._unread(number, number)
            self._may_join = False
        here.passed.clear()

    def _unread(self, first: int, last: int) -> None:
        before = self.texts[-1] if self.texts else None
        ranges = len(self.texts) >= RANGES_MOST + SECTIONS_MOST
        if before is not None and not before.format and (self._may_join or ranges):
            self.texts[-1] = TextSection(file=self._file, first_line=before.first_line, last_line=last, format="")
        else:
            self.texts.append(TextSection(file=self._file, first_line=first, last_line=last, format=""))
        self._may_join = True


def _find_begin(line: str) -> TextFormat | None:
    found = _ANY.match(line[:_HEAD])
    return LINES[int(found.lastgroup[1:])] if found is not None and found.lastgroup is not None else None


def _is_row(format: TextFormat, line: str) -> bool:
    return format.rows is not None and format.rows.match(line[:_HEAD]) is not None


def _without_indent(line: str, indent: int) -> str:
    """The line without the indentation of the whole; a line with less of it loses what it has."""
    if not indent:
        return line
    return line[indent:] if line[:indent].isspace() else line.lstrip(" \t")


def _named_file(command: tuple[str, ...]) -> str:
    """The file of a machine whose content a command prints; "" for any other command, and for several files."""
    if command[:1] and command[0] in _READERS:
        paths = [word for word in command[1:] if word.startswith("/")]
        if len(paths) == 1 and paths[0].startswith(_FILES) and ".." not in paths[0] and not set(paths[0]) & set("*?[]$`"):
            return paths[0].rstrip("/")
    return ""
