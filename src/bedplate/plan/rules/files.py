"""The knob files of a machine by path and by glob, and what sysctl.d and the kernel command line will set at the next boot.

Sources: sysctl.d(5) for order and form of the files; Documentation/admin-guide/kernel-parameters.rst for "sysctl.*=" and for
"-" and "_" meaning the same in the names of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SYSCTL = "/proc/sys/"
CMDLINE = "/proc/cmdline"
# The first directory that has a file of a name masks those after it.
_DIRECTORIES = ("/etc/sysctl.d/", "/run/sysctl.d/", "/usr/local/lib/sysctl.d/", "/usr/lib/sysctl.d/")
_LAST = "/etc/sysctl.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSetting:
    """A sysctl that is set at boot: path in /proc/sys (the key may be a glob), value, and which file says so."""

    path: str
    value: str
    source: str


class KnobFiles:
    """HostFacts.knobs, looked up by path; the same whatever their order was."""

    def __init__(self, facts: HostFacts) -> None:
        # A value wins over a reason why there is none, where a path was read twice.
        readings = sorted(
            facts.knobs,
            key=lambda reading: (reading.source, reading.value is None, str(reading.value), str(reading.unknown)),
        )
        self._by_path: dict[str, Reading[str]] = {}
        for reading in readings:
            self._by_path.setdefault(reading.source, reading)
        self._paths = tuple(sorted(self._by_path, key=natural_key))
        self._set: dict[str, list[tuple[int, BootSetting]]] = {}
        self._set_by_glob: list[tuple[int, BootSetting]] = []
        for row in enumerate(_settings(self._by_path.values(), facts.kernel.cmdline)):
            (self._set_by_glob if "*" in row[1].path else self._set.setdefault(row[1].path, [])).append(row)

    def read(self, path: str) -> Reading[str]:
        """The text of one file by its absolute path; HIDDEN where the facts do not hold it: nothing is known of it."""
        return self._by_path.get(path) or missing(Unknown.HIDDEN, path, "was not read")

    def find(self, pattern: str) -> tuple[Reading[str], ...]:
        """The files of a path or a glob, by name with numbers in order; one ABSENT reading when a glob has none."""
        if "*" not in pattern:
            return (self.read(pattern),)
        stem = pattern[: pattern.index("*")]
        matches = re.compile(re.escape(pattern).replace(r"\*", "[^/]*")).fullmatch
        found = [path for path in self._paths if path.startswith(stem) and path != pattern and matches(path)]
        if found:
            return tuple(self._by_path[path] for path in found)
        if pattern in self._by_path:
            return (self._by_path[pattern],)
        return (missing(Unknown.ABSENT if self._by_path else Unknown.NOT_RECORDED, pattern),)

    def set_at_boot(self, path: str) -> tuple[BootSetting, ...]:
        """Every line that sets a sysctl, in the order in which they are applied; the last one wins."""
        by_glob = [row for row in self._set_by_glob if fnmatchcase(path, row[1].path)]
        rows = sorted([*self._set.get(path, ()), *by_glob], key=lambda row: row[0])
        return tuple(setting for _, setting in rows)


def sysctl_name(path: str) -> str:
    """ "/proc/sys/vm/swappiness" -> "vm.swappiness"."""
    return path.removeprefix(SYSCTL).replace("/", ".")


def parameters(cmdline: Iterable[str], name: str) -> tuple[Reading[str], ...]:
    """Values of each occurrence of a parameter, "" for a bare one; one ABSENT reading without any.

    A kernel without a command line was not seen, so that an empty one is NOT_RECORDED.
    """
    words = tuple(cmdline)
    if not words:
        return (missing(Unknown.NOT_RECORDED, CMDLINE, "the kernel command line was not read"),)
    found = []
    for word in words:
        if word == "--":  # what follows is for init
            break
        key, _, value = word.partition("=")
        if key.replace("-", "_") == name.replace("-", "_"):
            found.append(known(value.strip('"'), CMDLINE, word))
    return tuple(found) or (missing(Unknown.ABSENT, CMDLINE),)


def _settings(readings: Iterable[Reading[str]], cmdline: Iterable[str]) -> Iterator[BootSetting]:
    files: dict[str, Reading[str]] = {}
    by_path = {reading.source: reading for reading in readings}
    for directory in _DIRECTORIES:
        for path in sorted(by_path):
            if path.startswith(directory) and path.endswith(".conf") and "*" not in path:
                files.setdefault(path.removeprefix(directory), by_path[path])
    chosen = [files[name] for name in sorted(files)] + ([by_path[_LAST]] if _LAST in by_path else [])
    for word in cmdline:
        if word.startswith("sysctl.") and "=" in word:
            key, _, value = word.removeprefix("sysctl.").partition("=")
            yield BootSetting(path=_path_of(key), value=value, source=CMDLINE)
    for reading in chosen:
        for line in (reading.value or "").splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and key[:1] not in ("#", ";"):
                yield BootSetting(
                    path=_path_of(key.strip().removeprefix("-").strip()), value=value.strip(), source=reading.source
                )


def _path_of(key: str) -> str:
    """The file of a key: separators are dots unless the first one is a slash."""
    first = re.search(r"[./]", key)
    if first is not None and first[0] == ".":
        key = key.translate(str.maketrans("./", "/."))
    return SYSCTL + key


def natural_key(path: str) -> tuple[object, ...]:
    """Sort key: policy2 before policy10."""
    return tuple(int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]{1,18})", path)))
