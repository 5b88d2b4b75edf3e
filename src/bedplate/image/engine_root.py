"""The root of an engine layer: the locked .deb files, unpacked without their scripts, compared with the lock and trimmed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.image.contents import Contents, find_changed_files, find_differences, read_debs, verify_contents
from bedplate.image.packages import Lock, pool
from bedplate.image.recipe import EngineRecipe
from bedplate.image.tools import tools_command
from bedplate.image.trees import set_modes

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def unpack_root(paths: Paths, recipe: EngineRecipe, lock: Lock, tree: Path, work: Path, log: Path) -> tuple[Contents, ...]:
    """Unpack the packages of a lock into `tree` and say which it holds; `work` is made for that and removed.

    Raises BuildError where the tree is not what the lock says, CommandError where a file cannot be unpacked.
    """
    # base-files first: its links /bin -> usr/bin must be there before anything lands in /bin.
    packages = sorted(lock.packages, key=lambda package: (package.name != "base-files", package.name))
    for package in packages:
        run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / package.file, tree]), timeout_s=300, log=log)
    merge_directories(tree)
    debs = read_debs(paths, lock, work)
    differences = (*find_differences(lock, debs, debs), *find_changed_files(tree, debs))
    verify_contents(f"the layer of {recipe.name}", differences, hint="Build again: bedplate image build --force")
    return debs


def merge_directories(tree: Path) -> None:
    """Make /bin, /lib and their like links to those below /usr, as every root of Debian 12 has them.

    Since Debian 13 base-files has the links itself; before, a package's script makes them, and no script runs in a layer.
    """
    for name in _MERGED:
        found = tree / name
        if found.is_symlink() or not found.is_dir():
            continue
        shutil.copytree(found, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(found)
        found.symlink_to(f"usr/{name}")


def add_files(recipes: Path, recipe: EngineRecipe, tree: Path) -> None:
    """Copy the directory `tree` of the recipe over the layer's."""
    additions = recipes / "engines" / recipe.name / "tree"
    if additions.is_dir():
        shutil.copytree(additions, tree, symlinks=True, dirs_exist_ok=True)
        set_modes(tree, like=additions)


def remove_globs(directory: Path, globs: Iterable[str]) -> None:
    """Remove all that the globs, relative to `directory`, find; a directory with all that is in it."""
    for pattern in globs:
        for found in sorted(directory.glob(pattern.lstrip("/"))):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            elif found.is_symlink() or found.exists():  # not gone with its directory, which the pattern found as well
                found.unlink()
