"""Where apt takes packages from, what it is told to prefer, and what the archives say of themselves.

Sources: sources.list(5) for both forms of source files, apt_preferences(5), apt-secure(8) for Release files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.host.root.root import Root
from bedplate.host.system.apt_sources import parse_deb822, parse_one_line, parse_stanzas
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import APT_SOURCES, AptPin, AptRelease, AptSourceEntry

_LIMIT = 1 << 20  # bytes of one file of apt's configuration
_FILES = 256  # that are read of one directory
_HEAD = 4096  # bytes; the fields that are read stand before the list of files
LISTS = "/var/lib/apt/lists"
_MAIN = "/etc/apt/sources.list"
_NAME = re.compile(r"[\w.-]{1,200}")


def read_sources(root: Root) -> Reading[tuple[AptSourceEntry, ...]]:
    """Every source of /etc/apt, enabled or not, in the order of the files.

    ABSENT without apt; where one file could not be read, its reason: then what is not among the others may be in that.
    """
    found: list[AptSourceEntry] = []
    directory = root.names(APT_SOURCES)
    first = root.read(_MAIN, limit=_LIMIT)
    if first.value is None and (directory.value is None or first.unknown is not Unknown.ABSENT):
        unread = first if first.unknown is not Unknown.ABSENT else directory
        return missing(unread.unknown or Unknown.ABSENT, unread.source, unread.text)
    if directory.value is None and directory.unknown is not Unknown.ABSENT:
        return missing(directory.unknown or Unknown.ABSENT, APT_SOURCES, directory.text)
    for where in [_MAIN, *_files(root, APT_SOURCES, (".list", ".sources"))]:
        reading = root.read(where, limit=_LIMIT)
        if reading.value is not None:
            found += _parse(reading.value, where)
        elif reading.unknown is not Unknown.ABSENT:
            return missing(reading.unknown or Unknown.ABSENT, where, reading.text)
    return known(tuple(_with_directory(root, source) for source in found), APT_SOURCES, f"{len(found)} sources")


def read_pins(root: Root) -> tuple[AptPin, ...]:
    """The stanzas of /etc/apt/preferences and preferences.d that have a package, a pin and a priority."""
    found: list[AptPin] = []
    for where in ["/etc/apt/preferences", *_files(root, "/etc/apt/preferences.d", (".pref", ""))]:
        text = root.read(where, limit=_LIMIT).value
        found += parse_pins(text, where) if text is not None else ()
    return tuple(found)


def read_releases(root: Root) -> tuple[AptRelease, ...]:
    """Origin, label, suite and codename of each archive whose Release file apt has fetched; () where none was."""
    found: list[AptRelease] = []
    names = [name for name in root.listdir(LISTS) if name.endswith(("_InRelease", "_Release")) and _NAME.fullmatch(name)]
    for name in names[:_FILES]:
        where = f"{LISTS}/{name}"
        text = (root.read_bytes(where, _HEAD).value or b"").decode("utf-8", errors="replace")
        fields = _head_fields(text)
        found.append(
            AptRelease(
                origin=fields.get("origin", ""),
                label=fields.get("label", ""),
                suite=fields.get("suite", ""),
                codename=fields.get("codename", ""),
            )
        )
    return tuple(found)


def _head_fields(text: str) -> dict[str, str]:
    """The fields before the list of files; a signature's own head stands before them, as a stanza of its own."""
    stanzas = list(parse_stanzas(text.partition("\nMD5Sum:")[0].partition("\nSHA256:")[0]))
    return next((fields for fields in stanzas if "codename" in fields or "origin" in fields), {})


def parse_pins(text: str, where: str) -> Iterator[AptPin]:
    """ "Package: *\\nPin: release n=trixie\\nPin-Priority: 500" as a pin; a stanza without one of them is left out."""
    for fields in parse_stanzas(text):
        kind, _, value = fields.get("pin", "").partition(" ")
        priority = fields.get("pin-priority", "")
        if fields.get("package") and kind in ("version", "release", "origin") and re.fullmatch(r"[+-]?\d{1,6}", priority):
            yield AptPin(file=where, package=fields["package"], kind=kind, value=value.strip(), priority=int(priority))


def _parse(text: str, where: str) -> Iterator[AptSourceEntry]:
    for source in parse_deb822(text) if where.endswith(".sources") else parse_one_line(text):
        for suite in source.suites:
            yield AptSourceEntry(file=where, uri=source.uri, suite=suite, enabled=source.enabled)


def _with_directory(root: Root, source: AptSourceEntry) -> AptSourceEntry:
    """A source on this machine's own disks is there, or was a disk or a mount that is gone."""
    scheme, _, path = source.uri.partition(":")
    if scheme not in ("file", "copy") or not path.startswith("/"):
        return source
    directory = "/" + path.lstrip("/")
    return AptSourceEntry(
        file=source.file, uri=source.uri, suite=source.suite, enabled=source.enabled, directory=root.exists(directory)
    )


def _files(root: Root, directory: str, endings: tuple[str, ...]) -> list[str]:
    """Files of a directory that apt reads: with one of these endings; "" stands for a name without any."""
    names = [name for name in root.listdir(directory) if _NAME.fullmatch(name)]
    fitting = [name for name in names if f".{name.rpartition('.')[2]}" in endings or ("." not in name and "" in endings)]
    return [f"{directory}/{name}" for name in fitting[:_FILES]]
