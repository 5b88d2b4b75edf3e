"""A tree of exactly the locked packages, unpacked without their scripts, in which something is compiled without a network.

It is entered through mkosi's sandbox, as the tools tree is, with the work at a fixed path: compilers write the paths of
their input into what they make.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.image.contents import find_changed_files, find_differences, read_debs, verify_contents
from bedplate.image.packages import Lock, pool
from bedplate.image.tools import enter_tree, tools_command

WORK = Path("/build")
"""Where a build finds its sources in the tree."""


def make_build_root(paths: Paths, lock: Lock, tree: Path, *, links: Mapping[str, str], log: Path) -> None:
    """Unpack the packages of a lock into `tree`, which must not exist, and compare its files with those of the lock.

    links: what packages' scripts would have made, by path in the tree: {"usr/bin/awk": "mawk"}. Raises BuildError where the
    tree is not what the lock says, CommandError where a package cannot be unpacked.
    """
    tree.mkdir(parents=True)
    unpack_packages(paths, lock, tree, log=log)
    debs = read_debs(paths, lock, tree.with_name(f"{tree.name}-debs"))
    differences = (*find_differences(lock, debs, debs), *find_changed_files(tree, debs))
    verify_contents(f"the build root {tree.name}", differences, hint="Build again with --force.")
    for name, target in links.items():
        if not os.path.lexists(tree / name):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to(target)


def unpack_packages(paths: Paths, lock: Lock, tree: Path, *, log: Path) -> None:
    """Unpack each package of a lock into `tree`, base-files first: its links /bin -> usr/bin must be there for the rest."""
    for package in sorted(lock.packages, key=lambda package: (package.name != "base-files", package.name)):
        run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / package.file, tree]), timeout_s=300, log=log)


def build_command(
    paths: Paths,
    tree: Path,
    argv: Sequence[str | os.PathLike[str]],
    *,
    work: Path,
    environment: Mapping[str, str],
    read_only: Mapping[Path, Path] | None = None,
) -> list[str]:
    """An argv that runs `argv` in the build root, in `work`, which it sees at /build, without network.

    environment is all that it gets beside PATH, HOME and the locale. read_only: further files or directories of this host,
    by where the tree shows them.
    """
    given = {"PATH": "/usr/bin:/usr/sbin", "HOME": os.fspath(WORK), "LANG": "C.UTF-8", **environment}
    clean = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in given.items())]
    binds = ["--bind", os.fspath(work), os.fspath(WORK), "--chdir", os.fspath(WORK)]
    for inside, outside in (read_only or {}).items():
        binds += ["--ro-bind", os.fspath(outside), os.fspath(inside)]
    return [*enter_tree(paths.tools, tree), "--unshare-net", *binds, "--", *clean, *(os.fspath(word) for word in argv)]
