"""Members of a tar or ttar archive from a stranger, read forward and once, in bounded time and memory.

Formats: POSIX.1-2001 pax (path, linkpath, size), ustar, GNU long names, old V7 (tar(5), pax(1)); ttar, the trivial text
archive in which prometheus/procfs keeps its fixtures. Python's own tarfile is not used on hostile input: the releases that
hosts have hang on crafted headers (CVE-2024-6232 and CVE-2025-8194), and a pax header may name any size.

Refused, each by a sentence: sparse members, names that lead out by "..", members and archives past their bounds. Skipped:
devices and FIFOs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from bedplate.errors import ReadError

MEMBERS_LIMIT = 200_000  # a whole /sys of a server with 200 CPUs and 8 GPUs has some 100 000 files
MEMBER_LIMIT = 32 << 20  # bytes of one file
_NAME_LIMIT = 4096  # PATH_MAX
DEPTH_LIMIT = 64  # directories in a name; the deepest of /sys on a server with switches below switches have some 25
_LINES_LIMIT = 1 << 21  # lines of a ttar archive; MEMBERS_LIMIT files of three lines and their names fit
_HEADER_LIMIT = 65536  # bytes of a pax header or a GNU long name
_BLOCK = 512

Read = Callable[[int], bytes]
"""Gives exactly that many bytes, fewer only at the end; raises ReadError past the bound of the whole archive."""


class MemberKind(Enum):
    """What a member of an archive is, as far as a recording needs it; devices and FIFOs are skipped and have no kind."""

    FILE = auto()
    DIRECTORY = auto()
    LINK = auto()
    HARD_LINK = auto()


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, its name already cleaned; `data` is b"" for all but files."""

    name: str
    """Without "/" at its ends, never with ".."; "" is the top."""
    kind: MemberKind
    data: bytes = b""
    target: str = ""
    """Of a link, as it is written; of a hard link, the name of the other member."""


def is_tar(block: bytes) -> bool:
    """Whether 512 bytes are a header of a tar member: their checksum says so."""
    if len(block) < _BLOCK or not block[0]:
        return False
    try:
        wanted = _number(block[148:156])
    except ReadError:
        return False
    return wanted == sum(block[:148]) + 8 * 0x20 + sum(block[156:_BLOCK])


def read_tar(read: Read) -> Iterator[Member]:
    """Each file, directory and link. Raises ReadError for what is refused, truncated or damaged."""
    count = 0
    name = target = ""
    pax: dict[str, str] = {}
    while len(block := read(_BLOCK)) == _BLOCK and block.strip(b"\0"):
        count += 1
        if count > MEMBERS_LIMIT:
            raise ReadError(f"the archive has more than {MEMBERS_LIMIT} members")
        if not is_tar(block):
            raise ReadError(f"member {count} of the archive has a damaged header")
        kind = block[156:157]
        size = _number(block[124:136])
        if kind in b"xgLK":
            if size > _HEADER_LIMIT:
                raise ReadError(f"member {count} of the archive has a header of {size} bytes, at most {_HEADER_LIMIT}")
            text = _take(read, size, f"the header of member {count}")
            if kind == b"L":
                name = _text(text.rstrip(b"\0"))
            elif kind == b"K":
                target = _text(text.rstrip(b"\0"))
            elif kind == b"x":
                pax = _parse_pax(text)
            continue
        name = pax.get("path") or name or _header_name(block)
        target = pax.get("linkpath") or target or _text(block[157:257].split(b"\0", 1)[0])
        if "size" in pax:
            size = _decimal(pax["size"])
        if kind == b"S" or any(key.startswith("GNU.sparse") for key in pax):
            raise ReadError(f"{_shown(name)}: is a sparse member of the archive, and recordings have none")
        yield from _make_member(read, kind, _clean(name), target, size)
        name, target, pax = "", "", {}
    if 0 < len(block) < _BLOCK:
        raise ReadError("the archive is truncated in a header")


def _make_member(read: Read, kind: bytes, name: str, target: str, size: int) -> Iterator[Member]:
    if kind in b"12":
        if len(target) > _NAME_LIMIT:
            raise ReadError(f"{_shown(name)}: its link is longer than {_NAME_LIMIT} characters")
        if kind == b"2":
            yield Member(name, MemberKind.LINK, target=target)
        else:
            yield Member(name, MemberKind.HARD_LINK, target=_clean(target))
        return
    if kind == b"5":
        yield Member(name, MemberKind.DIRECTORY)
        return
    if size > MEMBER_LIMIT:
        raise ReadError(f"{_shown(name)}: has {size} bytes in the archive, at most {MEMBER_LIMIT} are read")
    data = _take(read, size, name)
    if kind in b"07\0":
        yield Member(name, MemberKind.FILE, data)


def read_ttar(read: Read) -> Iterator[Member]:
    """Members of "Path: NAME", "Lines: N" and N lines of text, "SymlinkTo: TARGET" or "Directory: NAME", each a line.

    Raises ReadError for any other line, and past the same bounds as read_tar.
    """
    lines = _lines(read)
    name, count = "", 0
    for raw in lines:
        key, _, value = _text(raw).partition(": ")
        if raw.startswith(b"#") or key == "Mode" or not raw:
            continue
        count += 1
        if count > 2 * MEMBERS_LIMIT:
            raise ReadError(f"the archive has more than {MEMBERS_LIMIT} members")
        if key == "Path":
            name = _clean(value)
        elif key == "Directory":
            yield Member(_clean(value), MemberKind.DIRECTORY)
        elif key == "SymlinkTo":
            yield Member(name, MemberKind.LINK, target=value[:_NAME_LIMIT])
        elif key == "Lines":
            yield Member(name, MemberKind.FILE, _ttar_content(lines, name, _decimal(value)))
        else:
            raise ReadError(f"{_shown(_text(raw))!r} is not a line of a ttar archive")


def _ttar_content(lines: Iterator[bytes], name: str, count: int) -> bytes:
    """N lines: NULLBYTE stands for a NUL, EOF for no newline at the end, and a backslash before either for the word."""
    content = bytearray()  # a list of lines takes fifty times the memory of the shortest
    for number in range(count):
        line = next(lines, None)
        if line is None:
            raise ReadError(f"{_shown(name)}: the archive ends after {number} of {count} lines")
        if b"NULLBYTE" in line:
            line = re.sub(rb"(?<!\\)NULLBYTE", b"\0", line).replace(b"\\NULLBYTE", b"NULLBYTE")
        if line.endswith(b"EOF") and not line.endswith(b"\\EOF"):
            content += line[:-3]
        else:
            content += line.replace(b"\\EOF", b"EOF")
            content += b"\n"
        if len(content) > MEMBER_LIMIT:
            raise ReadError(f"{_shown(name)}: has more than {MEMBER_LIMIT} bytes in the archive")
    return bytes(content)


def _lines(read: Read) -> Iterator[bytes]:
    """Raises ReadError past the bounds of one line and of all."""
    parts: list[bytes] = []  # of the line that has not ended
    size = count = 0
    while chunk := read(65536):
        first, *more = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > MEMBER_LIMIT:
            raise ReadError(f"the archive has a line longer than {MEMBER_LIMIT} bytes")
        if not more:
            continue
        count += len(more)
        if count > _LINES_LIMIT:
            raise ReadError(f"the archive has more than {_LINES_LIMIT} lines")
        yield b"".join(parts)
        parts = [more.pop()]
        size = len(parts[0])
        yield from more
    if size:
        yield b"".join(parts)


def _take(read: Read, size: int, what: str) -> bytes:
    data = read(size) if size else b""
    if len(data) < size:
        raise ReadError(f"{_shown(what)}: the archive is truncated, it has {len(data)} of {size} bytes")
    padding = -size % _BLOCK
    if padding:
        read(padding)
    return data


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or GNU's base-256 behind a byte 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise ReadError("the archive has a header without a number where one belongs")
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ReadError(f"{_shown(text)!r} is not a number of bytes or lines")
    return int(text)


def _parse_pax(text: bytes) -> dict[str, str]:
    """ "21 path=sys/devices/a\\n" -> {"path": "sys/devices/a"}."""
    values: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = re.compile(rb"([0-9]{1,6}) ([^=\n]+)=").match(text, place)
        end = place + int(found[1]) if found is not None else 0
        if found is None or end > len(text) or end <= found.end():
            raise ReadError("the archive has a damaged pax header")
        values[_text(found[2])] = _text(text[found.end() : end - 1])
        place = end
    return values


def _header_name(block: bytes) -> str:
    name = _text(block[:100].split(b"\0", 1)[0])
    prefix = _text(block[345:500].split(b"\0", 1)[0]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _clean(name: str) -> str:
    if len(name) > _NAME_LIMIT:
        raise ReadError(f"{_shown(name)}: a name of the archive is longer than {_NAME_LIMIT} characters")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise ReadError(f"{_shown(name)}: a name of the archive leads out of it")
    if len(parts) > DEPTH_LIMIT:
        raise ReadError(f"{_shown(name)}: a name of the archive is more than {DEPTH_LIMIT} directories deep")
    return "/".join(parts)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="surrogateescape")


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:100])
