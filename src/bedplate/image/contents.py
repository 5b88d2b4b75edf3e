"""Which packages a tree really holds, from dpkg's own records in it and from its files, and whether that is what the lock
says. A manifest is made from this and never from the lock alone: a lock says what was wanted.

Two checks, since a version is a word: the versions in the tree's dpkg status are the lock's, and each package's list of MD5
sums in the tree is the one of the .deb that the lock names by its SHA-256. That the files match their list is dpkg's
--verify, or `find_changed_files`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError
from bedplate.image.packages import Lock, pool
from bedplate.image.tools import tools_command

_SHOWN = 10  # differences in one message
# mkosi unpacks no documentation (WithDocs=no). Source: mkosi, installer/apt.py, documentation_exclude_globs.
_DOCUMENTATION = ("usr/share/doc/", "usr/share/man/", "usr/share/groff/", "usr/share/gtk-doc/", "usr/share/info/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a tree or a .deb has of a package: who it is, and the checksums of its files."""

    name: str
    version: str
    architecture: str
    checksums: str
    """Lines of `MD5  path`, as in the package's md5sums; "" when the package has none."""


def parse_status(text: str) -> tuple[Contents, ...]:
    """The installed packages of a dpkg status file (or the one of a .deb's control file), without checksums.

    A package that is only known (`deinstall ok config-files`) is left out. Raises BuildError naming those that are half
    installed.
    """
    found, broken = [], []
    for stanza in re.split(r"\n\s*\n", text.strip()):
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", stanza, re.MULTILINE))
        state = fields.get("Status", "install ok installed").split()[-1]
        if state in ("not-installed", "config-files"):
            continue
        if state != "installed":
            broken.append(f"{fields['Package']} ({state})")
            continue
        found.append(
            Contents(name=fields["Package"], version=fields["Version"], architecture=fields["Architecture"], checksums="")
        )
    if broken:
        raise BuildError(
            f"packages are half installed: {', '.join(broken)}", hint="Build again: bedplate image build --force"
        )
    return tuple(sorted(found, key=lambda package: package.name))


def parse_checksums(text: str) -> dict[str, str]:
    """Checksums by package of what `render_postinst` writes: "== libc6:amd64" heads the lines of libc6's md5sums."""
    found: dict[str, str] = {}
    for part in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        name, _, lines = part.partition("\n")
        found[name.partition(":")[0]] = lines
    return found


def parse_verify(text: str, *, ours: Collection[str]) -> tuple[str, ...]:
    """What `dpkg --verify` complains of, less what is meant: documentation that is left out, files of our own trees, and
    configuration files that a package's own script has changed.

    Its lines are "??5?????? c /etc/file" and "missing     /usr/file". ours are paths without the leading slash.
    """
    found = []
    for line in text.splitlines():
        state, _, path = line.partition("/")
        missing = state.startswith("missing")
        if not path or path in ours or (state.endswith(" c ") and not missing):
            continue
        if missing and f"{path}/".startswith(_DOCUMENTATION):
            continue
        found.append(f"/{path} ({'missing' if missing else 'changed'})")
    return tuple(found)


def read_debs(paths: Paths, lock: Lock, directory: Path) -> tuple[Contents, ...]:
    """What the locked .deb files say of themselves. directory is made for the work and removed."""
    directory.mkdir(parents=True)
    script = 'out=$1; shift; for file; do dpkg-deb -e "$file" "$out/${file##*/}"; done'
    files = [os.fspath(pool(paths) / package.file) for package in lock.packages]
    found = []
    try:
        run(tools_command(paths, ["sh", "-euc", script, "sh", directory, *files]), timeout_s=600)
        for package in lock.packages:
            control = directory / package.file
            (contents,) = parse_status((control / "control").read_text())
            sums = control / "md5sums"
            found.append(
                Contents(
                    name=contents.name,
                    version=contents.version,
                    architecture=contents.architecture,
                    checksums=sums.read_text() if sums.is_file() else "",
                )
            )
    finally:
        shutil.rmtree(directory)
    return tuple(found)


def find_differences(lock: Lock, held: Iterable[Contents], debs: Iterable[Contents]) -> tuple[str, ...]:
    """Each difference between the packages of a tree and the lock with its .debs, as a phrase; () is agreement."""
    locked = {package.name: package for package in lock.packages}
    tree = {package.name: package for package in held}
    sums = {package.name: package.checksums for package in debs}
    found = []
    for name in sorted(locked.keys() | tree.keys()):
        if name not in tree:
            found.append(f"{name}: missing, the lock has {locked[name].version}")
        elif name not in locked:
            found.append(f"{name}: {tree[name].version} is installed, the lock has no such package")
        elif (tree[name].version, tree[name].architecture) != (locked[name].version, locked[name].architecture):
            found.append(
                f"{name}: {tree[name].version} ({tree[name].architecture}) is installed, "
                f"the lock has {locked[name].version} ({locked[name].architecture})"
            )
        elif sums.get(name) and tree[name].checksums != sums[name]:
            found.append(f"{name}: {tree[name].version} is installed, but from another .deb than the one in the lock")
    return tuple(found)


def find_changed_files(tree: Path, debs: Iterable[Contents]) -> tuple[str, ...]:
    """Files of the packages that the tree lacks or that have other bytes in it, as "/usr/bin/x (missing)"."""
    found = []
    for package in debs:
        for line in package.checksums.splitlines():
            checksum, _, path = line.partition("  ")
            file = tree / path
            if not file.is_file():
                found.append(f"/{path} (missing)")
            elif _md5(file) != checksum:
                found.append(f"/{path} (changed)")
    return tuple(found)


def verify_contents(what: str, differences: Sequence[str], *, hint: str) -> None:
    """Raise BuildError when a tree is not what its lock says; `what` names the tree."""
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise BuildError(f"{what} does not match the package lock: {'; '.join(differences[:_SHOWN])}{more}", hint=hint)


def _md5(file: Path) -> str:  # Debian's packages list MD5; the .deb itself was checked by SHA-256
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
