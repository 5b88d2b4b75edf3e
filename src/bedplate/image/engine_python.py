"""The Python part of an engine layer: wheels by their hashes, compared with the lock, trimmed, stripped and byte-compiled.

What differs between two builds of the same wheels is made the same: the notes of an installer, the lists of files (RECORD,
which then say what is really there), times, modes and byte code. The interpreter is the layer's own: it runs in the layer's
tree, without a network.
"""

from __future__ import annotations

import base64
import csv
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import digest_file
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.image.contents import verify_contents
from bedplate.image.engine_root import remove_globs
from bedplate.image.python_lock import compile_wheels, find_uv, install_wheels
from bedplate.image.recipe import SITE, EngineRecipe, PythonPart
from bedplate.image.tools import find_sandbox, tools_command
from bedplate.image.wheels import (
    WheelLock,
    find_wheel_directories,
    make_wheel_lock,
    normalise,
    read_wheel_lock,
    require_local_wheels,
    write_wheel_lock,
)
from bedplate.model.progress import Progress

_NOTES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""What an installer notes in a dist-info of how it came there; it differs from host to host."""
_COMPILE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A Python package as its directory *.dist-info says; the name is normalised."""

    name: str
    version: str
    directory: Path


def ensure_wheel_lock(
    paths: Paths, name: str, part: PythonPart, file: Path, progress: Progress, *, update: bool = False
) -> WheelLock:
    """The lock of the layer's wheels, resolved now where there is none of this request or update asks for newer ones.

    Raises BuildError where the requirements have no answer or a wheel that no registry has is missing, PreflightError where
    uv or the registry is.
    """
    lock = None if update else read_wheel_lock(file, part)
    if lock is None:
        places = find_wheel_directories()
        require_local_wheels(name, part, places)
        progress.detail(f"resolving {len(part.requirements)} Python packages and what they need")
        lock = make_wheel_lock(part, compile_wheels(name, part, find_uv(), places=places, cache=uv_cache(paths)))
        write_wheel_lock(file, lock)
    return lock


def uv_cache(paths: Paths) -> Path:
    """Where uv keeps the wheels of all layers, so that a lock can be built again without the registry."""
    return paths.packages / "wheels"


def add_python(
    paths: Paths, recipe: EngineRecipe, part: PythonPart, lock: WheelLock, tree: Path, work: Path, log: Path, *, epoch: int
) -> None:
    """Make the site directory of an unpacked tree; work is an existing directory for what is made on the way.

    epoch: seconds since 1970 that every file has as its time. Raises BuildError where what was unpacked is not what the
    lock says, where a library to strip is not there and where byte code cannot be made; CommandError where a program fails.
    """
    site = tree / SITE
    site.parent.mkdir(parents=True, exist_ok=True)
    requirements = work / "requirements.txt"
    requirements.write_text(lock.requirements)
    places = find_wheel_directories()
    try:
        install_wheels(requirements, site, part, find_uv(), places=places, cache=uv_cache(paths))
    except CommandError as error:
        require_local_wheels(recipe.name, part, places)
        raise BuildError(
            f"the Python packages of {recipe.name} cannot be unpacked: {error.message}: {error.tail}"
        ) from error
    differences = (*find_wheel_differences(lock, read_distributions(site)), *find_changed_wheel_files(site))
    verify_contents(
        f"the site directory of {recipe.name}",
        differences,
        hint="Remove the directory packages/wheels of the cache; build again.",
    )
    (site / ".lock").unlink(missing_ok=True)
    remove_globs(site, (*part.remove, *(f"*.dist-info/{note}" for note in _NOTES)))
    _strip(paths, recipe, part, site, log)
    write_records(site)
    if part.stands_for:
        _write_stand_in(site, part)
    _compile(paths, part, tree, log)
    settle_files(site, epoch=epoch)
    settle_files(tree / _library(part), epoch=epoch)


def read_distributions(site: Path) -> tuple[Distribution, ...]:
    """The packages in a site directory, by name. Raises ReadError for a *.dist-info that does not say who it is."""
    found = []
    for directory in sorted(site.glob("*.dist-info")):
        try:
            head = (directory / "METADATA").read_text(errors="replace").partition("\n\n")[0]
        except OSError as error:
            raise ReadError(f"{directory.name}/METADATA: cannot read: {error.strerror}") from error
        fields = dict(re.findall(r"^(Name|Version): *(.*?) *$", head, re.MULTILINE))
        if len(fields) != 2:
            raise ReadError(f"{directory.name}/METADATA: has no name and version", hint="Build again.")
        found.append(Distribution(name=normalise(fields["Name"]), version=fields["Version"], directory=directory))
    return tuple(sorted(found, key=lambda distribution: distribution.name))


def find_wheel_differences(lock: WheelLock, held: Iterable[Distribution]) -> tuple[str, ...]:
    """Each difference between the packages of a site directory and the lock, as a phrase; () is agreement."""
    locked = {wheel.name: wheel.version for wheel in lock.wheels}
    found: list[str] = []
    seen: set[str] = set()
    for distribution in held:
        name, version = distribution.name, distribution.version
        if name in seen:
            found.append(f"{name}: is there twice")
        elif name not in locked:
            found.append(f"{name}: {version} is there, the lock has no such package")
        elif version != locked[name]:
            found.append(f"{name}: {version} is there, the lock has {locked[name]}")
        seen.add(name)
    found += [f"{name}: missing, the lock has {version}" for name, version in sorted(locked.items()) if name not in seen]
    return tuple(found)


def find_changed_wheel_files(site: Path) -> tuple[str, ...]:
    """Files of the packages that are not there, or have another SHA-256 than the wheel's RECORD says; "x.py (changed)"."""
    found = []
    for directory in sorted(site.glob("*.dist-info")):
        for path, digest, _ in _read_record(directory):
            file = site / path
            if not file.is_file():
                found.append(f"{path} (missing)")
            elif digest.startswith("sha256=") and digest != _hash(file):
                found.append(f"{path} (changed)")
    return tuple(found)


def write_records(site: Path) -> None:
    """Make each RECORD say what is there: without the files that are gone, with the digests of those that were stripped."""
    for directory in sorted(site.glob("*.dist-info")):
        own = f"{directory.name}/RECORD"
        lines = []
        for path, digest, size in _read_record(directory):
            file = site / path
            if path == own or not file.is_file():
                continue
            if digest or str(file.stat().st_size) != size:  # stripped: mostly, but not always, of another size
                digest, size = _hash(file), str(file.stat().st_size)
            lines.append((path, digest, size))
        with (directory / "RECORD").open("w", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows([*sorted(lines), (own, "", "")])


def settle_files(site: Path, *, epoch: int) -> None:
    """Give all files the time `epoch` and mode 0644, or 0755 where the wheel has them executable, and directories 0755."""
    for folder, _, files in os.walk(site, topdown=False):
        for name in files:
            file = Path(folder) / name
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
            os.utime(file, (epoch, epoch), follow_symlinks=False)
        Path(folder).chmod(0o755)
        os.utime(folder, (epoch, epoch))


def layer_command(paths: Paths, tree: Path, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """An argv that runs `argv` with the unpacked tree of a layer as its root, without a network; /usr can be written to."""
    words = [sys.executable, "-I", os.fspath(find_sandbox(paths.tools)), "--bind", os.fspath(tree / "usr"), "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--ro-bind", os.fspath(tree / "etc"), "/etc"]
    words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--unshare-net", "--"]
    return [*words, *(os.fspath(word) for word in argv)]


def _library(part: PythonPart) -> str:
    """The standard library, as a path in the tree."""
    return f"usr/lib/python{part.version}"


def _compile(paths: Paths, part: PythonPart, tree: Path, log: Path) -> None:
    """Byte code for the standard library and the site directory, never checked against its source: the layer is verified.

    Without it a read-only layer compiles thousands of files at every start.
    """
    library = _library(part)
    for directory in (library, SITE):
        for old in sorted((tree / directory).rglob("__pycache__")):
            shutil.rmtree(old)
    argv = [f"/usr/bin/python{part.version}", "-S", "-m", "compileall", "-q", "-j1", "-o0"]
    argv += ["--invalidation-mode", "unchecked-hash", f"/{library}", f"/{SITE}"]
    # Some packages carry files that are no Python of this version, as templates or for another one: status 1.
    done = run(
        layer_command(paths, tree, argv),
        timeout_s=_COMPILE_S,
        env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        log=log,
        ok=(0, 1),
    )
    refused = set(re.findall(r'File "/(\S+?\.py)", line \d+', done.output))
    missing = [name for name in _without_byte_code(tree, (library, SITE), part.version) if name not in refused]
    if missing:
        raise BuildError(
            f"{len(missing)} files have no byte code: {', '.join(missing[:5])}; compileall ended with status {done.status}",
            hint=f"Read {log}",
        )


def _without_byte_code(tree: Path, directories: Iterable[str], version: str) -> Iterator[str]:
    suffix = f".cpython-{version.replace('.', '')}.pyc"
    for directory in directories:
        for file in sorted((tree / directory).rglob("*.py")):
            if not (file.parent / "__pycache__" / f"{file.stem}{suffix}").is_file():
                yield os.fspath(file.relative_to(tree))


def _strip(paths: Paths, recipe: EngineRecipe, part: PythonPart, site: Path, log: Path) -> None:
    """Take the symbols out of the named libraries. Never of all: wheels that auditwheel repaired do not load afterwards."""
    libraries: list[Path] = []
    for pattern in part.strip:
        found = [file for file in sorted(site.glob(pattern)) if file.is_file() and not file.is_symlink()]
        if not found:
            raise BuildError(
                f"the recipe of {recipe.name} strips {pattern}, and no file of the wheels has this name",
                hint="Correct `strip` in the recipe: the packages have changed.",
            )
        libraries += found
    if libraries:
        run(tools_command(paths, ["strip", "--strip-unneeded", *libraries]), timeout_s=1800, log=log)


def _write_stand_in(site: Path, part: PythonPart) -> None:
    """An empty distribution: a renamed engine still asks importlib.metadata for its own version by the old name."""
    name, _, version = part.stands_for.partition("==")
    directory = site / f"{name}-{version}.dist-info"
    directory.mkdir()
    summary = f"Stands for {part.requirements[0]}; made by the layer's build"
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n")
    (directory / "RECORD").write_text(f"{directory.name}/METADATA,,\n{directory.name}/RECORD,,\n")


def _read_record(directory: Path) -> list[tuple[str, str, str]]:
    """(path, "sha256=...", size) of each file; the last two are "" for RECORD itself and for what an installer added.

    Raises ReadError for one that is no CSV of three columns, and for a path that leaves the site: uv installs none.
    """
    where = f"{directory.name}/RECORD"
    try:
        with (directory / "RECORD").open(newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.reader(handle) if row]
    except OSError as error:
        raise ReadError(f"{where}: cannot read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ReadError(f"{where}: is no CSV in UTF-8: {error}") from error
    for row in rows:
        if len(row) != 3:
            raise ReadError(f"{where}: got a line of {len(row)} columns, expected path, digest and size")
        if row[0].startswith("/") or os.path.normpath(row[0]).split("/", 1)[0] == "..":
            raise ReadError(f"{where}: {row[0]!r} lies outside of the directory that the wheel is unpacked into")
    return [(row[0], row[1], row[2]) for row in rows]


def _hash(file: Path) -> str:
    digest = bytes.fromhex(digest_file(file))
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
