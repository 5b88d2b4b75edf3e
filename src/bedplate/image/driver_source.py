"""Where the modules of a driver layer come from: packages that a lock names, or a source of the user's own.

A source of the user's own is a directory with the modules' tree (as dkms has it), a directory that is an apt repository or
holds .deb files, a .deb, or a `.run` of the vendor. Whatever it is, it is digested as it lies there, so that a layer says of
which bytes it is made.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bedplate.act.files import digest_file
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, ReadError
from bedplate.image.build_root import build_command
from bedplate.image.driver_recipe import DriverRecipe
from bedplate.image.packages import Lock, Package, pool
from bedplate.image.tools import tools_command

_VERSION = re.compile(rb"NV_VERSION_STRING[\\\"= ]+([0-9]+(?:\.[0-9]+)+)")
_DKMS_VERSION = re.compile(r"^PACKAGE_VERSION=[\"']?([0-9]+(?:\.[0-9]+)+)", re.MULTILINE)
_SOURCE_FILES = ("Kbuild", "Makefile", "dkms.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePart:
    """A file that a layer is made of. licence is the component of the archive ("non-free"), or "unknown"."""

    name: str
    version: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A source, unpacked: `modules` is the tree in which make runs."""

    modules: Path
    firmware: Path | None
    """Its content goes to usr/lib/firmware."""
    user: tuple[Path, ...] = ()
    """Trees in which libraries and programs of the user space lie, wherever."""


class DriverSource(Protocol):
    """What `build_driver` needs of a source."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over all that the layer takes from it."""

    def parts(self) -> tuple[SourcePart, ...]:
        """The files that it consists of, sorted by name."""

    def unpack(self, paths: Paths, root: Path, directory: Path, *, log: Path) -> Unpacked:
        """Unpack into `directory`, which must not exist; `root` is the build root. Raises BuildError or CommandError."""


class OwnKind(StrEnum):
    """What a path of the user's is."""

    TREE = "tree"
    REPOSITORY = "repository"
    PACKAGE = "package"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSource:
    """The archive's packages of a recipe, each checked against the lock."""

    recipe: DriverRecipe
    lock: Lock

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over hashes and names of the packages: what the lock says of itself."""
        return self.lock.digest

    def parts(self) -> tuple[SourcePart, ...]:
        """One for each package."""
        return tuple(
            SourcePart(name=package.name, version=package.version, sha256=package.sha256, licence=licence_of(package))
            for package in self.lock.packages
        )

    def unpack(self, paths: Paths, root: Path, directory: Path, *, log: Path) -> Unpacked:
        """Unpack the packages. Raises BuildError where the modules themselves are what the recipe is to leave out."""
        by_name = {package.name: package for package in self.lock.packages}
        source = by_name[self.recipe.modules_package]
        if not self.recipe.include_nonfree and is_nonfree(licence_of(source)):
            raise BuildError(
                f"{source.name} is in {licence_of(source)} itself, and include_nonfree is false: nothing is left to build",
                hint="Set include_nonfree = true in the recipe, or build a driver with the flavour open.",
            )
        modules = directory / "modules"
        _unpack_debs(paths, [pool(paths) / source.file], modules, log=log)
        others = [package for package in self.lock.packages if package is not source]
        rest = directory / "rest"
        _unpack_debs(paths, [pool(paths) / package.file for package in others], rest, log=log)
        return Unpacked(modules=find_module_tree(modules), firmware=_find_firmware(rest), user=(rest,))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSource:
    """A source of the user's own: `files` are those of `path` that count (.deb, .run), () for a tree of modules."""

    path: Path
    kind: OwnKind
    files: tuple[Path, ...]
    digest: str

    def parts(self) -> tuple[SourcePart, ...]:
        """The files, or the whole tree as one part."""
        if not self.files:
            return (SourcePart(name=self.path.name, version="", sha256=self.digest, licence="unknown"),)
        return tuple(
            SourcePart(name=file.name, version="", sha256=digest_file(file), licence="unknown") for file in self.files
        )

    def unpack(self, paths: Paths, root: Path, directory: Path, *, log: Path) -> Unpacked:
        """Copy or unpack it. A .run is run in the build root, without a network, to unpack itself."""
        directory.mkdir(parents=True)
        if self.kind is OwnKind.TREE:
            copy = directory / "modules"
            shutil.copytree(self.path, copy, symlinks=True)
            return Unpacked(modules=find_module_tree(copy), firmware=_find_firmware(copy))
        if self.kind is OwnKind.RUN:
            given = directory / "given"
            given.mkdir()
            shutil.copyfile(self.files[0], given / "driver.run")
            argv = ["sh", "./driver.run", "--extract-only", "--target", "unpacked"]
            run(build_command(paths, root, argv, work=given, environment={}), timeout_s=1800, log=log)
            unpacked = given / "unpacked"
            return Unpacked(modules=find_module_tree(unpacked), firmware=_find_firmware(unpacked), user=(unpacked,))
        copied = directory / "debs"
        copied.mkdir()
        for file in self.files:  # the sandbox sees the cache, and not where the user has them
            shutil.copyfile(file, copied / file.name)
        tree = directory / "tree"
        _unpack_debs(paths, sorted(copied.iterdir()), tree, log=log)
        return Unpacked(modules=find_module_tree(tree), firmware=_find_firmware(tree), user=(tree,))


def read_own_source(path: Path) -> OwnSource:
    """The source at a path, told by what it is.

    Raises ReadError for a path that is none, and for a repository whose index lists a file that is not there, or with
    another SHA-256.
    """
    if path.is_file():
        kinds = {".deb": OwnKind.PACKAGE, ".run": OwnKind.RUN}
        if path.suffix not in kinds:
            raise ReadError(f"{path}: is no driver source", hint="Name a directory, a .deb or a .run.")
        return OwnSource(path=path, kind=kinds[path.suffix], files=(path,), digest=digest_file(path))
    if not path.is_dir():
        raise ReadError(f"{path}: no such file or directory", hint="Name a directory, a .deb or a .run.")
    debs = tuple(sorted(path.rglob("*.deb")))
    if debs:
        _check_index(path)
        digest = hashlib.sha256("".join(f"{digest_file(file)} {file.name}\n" for file in debs).encode()).hexdigest()
        return OwnSource(path=path, kind=OwnKind.REPOSITORY, files=debs, digest=digest)
    find_module_tree(path)
    return OwnSource(path=path, kind=OwnKind.TREE, files=(), digest=_digest_tree(path))


def find_module_tree(tree: Path) -> Path:
    """The directory in which `make modules` builds: the highest one with a Makefile and a Kbuild or a dkms.conf.

    Of the two trees of a .run, kernel-open and kernel, the first counts. Raises ReadError where there is not one.
    """
    if _is_module_tree(tree):
        return tree
    found = sorted(file.parent for file in tree.rglob("Makefile") if _is_module_tree(file.parent))
    highest = [place for place in found if not any(other != place and place.is_relative_to(other) for other in found)]
    if {place.name for place in highest} == {"kernel-open", "kernel"}:
        highest = [place for place in highest if place.name == "kernel-open"]
    if len(highest) != 1:
        names = ", ".join(os.fspath(place.relative_to(tree)) for place in highest) or "none"
        raise ReadError(
            f"{tree}: expected one tree of modules (a Makefile beside Kbuild or dkms.conf), got {names}",
            hint="Name the directory that is the tree.",
        )
    return highest[0]


def read_source_version(path: Path) -> str:
    """The version that a tree of NVIDIA's modules states: in its dkms.conf, else in its Kbuild; "" where it states none."""
    conf = path / "dkms.conf"
    if conf.is_file() and (found := _DKMS_VERSION.search(conf.read_text(errors="replace"))):
        return found[1]
    kbuild = path / "Kbuild"
    if kbuild.is_file() and (stated := _VERSION.search(kbuild.read_bytes())):
        return stated[1].decode()
    return ""


def find_own_version(source: OwnSource) -> str:
    """The version of the user's source: what its tree states, else what the name of its file says; "" where neither does.

    NVIDIA-Linux-x86_64-580.126.09.run is 580.126.09; of a repository the package counts that brings the modules.
    """
    if source.kind is OwnKind.TREE:
        return read_source_version(find_module_tree(source.path))
    bringing = [file for file in source.files if re.search(r"dkms|kernel-source|kernel-open", file.name)] or list(
        source.files
    )
    versions = {found[1] for file in bringing if (found := re.search(r"[-_](\d+\.\d+(?:\.\d+)*)", file.name))}
    return versions.pop() if len(versions) == 1 else ""


def licence_of(package: Package) -> str:
    """The component of the archive that a package is in, by its section: "non-free" of "non-free/libs", "main" of "libs"."""
    found = re.search(r"^Section: (\S+)$", package.stanza, re.MULTILINE)
    component, divided, _ = found[1].partition("/") if found else ("unknown", "/", "")
    return component if divided else "main"


def is_nonfree(licence: str) -> bool:
    """Whether a component of the archive holds what one may not freely change and pass on. contrib is free by itself."""
    return licence.startswith("non-free")


def _is_module_tree(directory: Path) -> bool:
    there = [name for name in _SOURCE_FILES if (directory / name).is_file()]
    return "Makefile" in there and len(there) > 1


def _unpack_debs(paths: Paths, debs: list[Path], tree: Path, *, log: Path) -> None:
    tree.mkdir(parents=True)
    for deb in debs:
        run(tools_command(paths, ["dpkg-deb", "-x", deb, tree]), timeout_s=300, log=log)


def _find_firmware(tree: Path) -> Path | None:
    """The directory whose content belongs below usr/lib/firmware, or that of a .run, which names its files gsp_*.bin."""
    for name in ("usr/lib/firmware", "lib/firmware", "firmware"):
        if (tree / name).is_dir():
            return tree / name
    return None


def _check_index(directory: Path) -> None:
    """Compare the files of a flat repository with its Packages, where it has one (deb822, repository format of Debian)."""
    index = directory / "Packages"
    if not index.is_file():
        return
    for stanza in re.split(r"\n\s*\n", index.read_text(errors="replace").strip()):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", stanza, re.MULTILINE))
        if "Filename" not in fields or "SHA256" not in fields:
            raise ReadError(f"{index}: a package has no Filename or SHA256: {stanza.splitlines()[:1]}")
        file = (directory / fields["Filename"]).resolve()
        if not file.is_relative_to(directory.resolve()) or not file.is_file():
            raise ReadError(f"{index}: lists {fields['Filename']}, which is not in {directory}")
        if (got := digest_file(file)) != fields["SHA256"]:
            raise ReadError(f"{file}: got SHA-256 {got}, expected {fields['SHA256']}, as {index} says")


def _digest_tree(tree: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(tree.rglob("*")):
        name = file.relative_to(tree)
        if file.is_symlink():
            digest.update(f"{name} -> {file.readlink()}\n".encode())
        elif file.is_file():
            digest.update(f"{name} {file.stat().st_mode & 0o111:o} {digest_file(file)}\n".encode())
    return digest.hexdigest()
