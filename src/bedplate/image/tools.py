"""The tools tree: a Debian tree made once by mmdebstrap, in which every build tool runs.

The host gives only Python, mmdebstrap and its kernel; mkosi, systemd-repart, ukify and mkfs come from the tree, entered
through mkosi's own sandbox (mount namespaces; no loop device, no bubblewrap, no systemd on the host).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.catalog.strict import read_toml
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.model.progress import Progress

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DPKG_NOISE = ("Selecting", "Preparing", "Unpacking", "Setting up", "Get:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsRecipe:
    schema: int
    suite: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    root: Path
    digest: str
    """SHA-256 over names and versions of its packages: an input of every build."""


def read_tools(paths: Paths, recipes: Path) -> Tools | None:
    """The cached tree if it is complete and made from the present list of packages, else None."""
    recipe = read_toml(recipes / "tools.toml", ToolsRecipe)
    try:
        record = json.loads((paths.tools / ".bedplate-tools.json").read_text())
    except (OSError, ValueError):
        return None
    if record.get("recipe") != _recipe_digest(recipe):
        return None
    return Tools(root=paths.tools, digest=str(record["digest"]))


def ensure_tools(paths: Paths, recipes: Path, progress: Progress, *, mirror: str | None = None) -> Tools:
    """The tools tree, made now if it is not there; an interrupted making leaves nothing that looks complete."""
    if (tools := read_tools(paths, recipes)) is not None:
        return tools
    recipe = read_toml(recipes / "tools.toml", ToolsRecipe)
    paths.cache.mkdir(parents=True, exist_ok=True)
    for left_over in paths.cache.glob("tools.partial-*"):
        _remove_tree(left_over)
    partial = paths.cache / f"tools.partial-{os.getpid()}"
    progress.detail(f"Debian {recipe.suite} tree with {len(recipe.packages)} tools, made once")
    argv = [_mmdebstrap(), "--mode=root", "--variant=apt", "--keyring=/usr/share/keyrings"]
    argv += [f"--include={','.join(recipe.packages)}", recipe.suite, os.fspath(partial)]
    if mirror is not None:
        argv.append(mirror)
    try:
        run(argv, timeout_s=3600, log=paths.logs / "tools.log", on_line=_apt_detail(progress))
        listing = run(
            ["dpkg-query", "--admindir", partial / "var/lib/dpkg", "-W", "-f", "${Package} ${Version}\\n"], timeout_s=60
        ).output
        _wrap_programs(partial)
        record = {"recipe": _recipe_digest(recipe), "digest": hashlib.sha256(f"{listing}{_WRAPPERS}".encode()).hexdigest()}
        (partial / ".bedplate-tools.json").write_text(json.dumps(record | {"packages": listing.split("\n")}))
        if paths.tools.exists():
            _remove_tree(paths.tools)
        partial.rename(paths.tools)
    except CommandError as error:
        raise BuildError(
            f"the tools tree could not be made: {error.message}",
            hint=f"Read {paths.logs / 'tools.log'}; if the mirror is not reachable, set BEDPLATE_MIRROR to one that is.",
        ) from error
    finally:
        if partial.exists():
            _remove_tree(partial)
    return Tools(root=paths.tools, digest=str(record["digest"]))


def tools_command(
    paths: Paths, argv: Sequence[str | os.PathLike[str]], *, network: bool = False, root: Path | None = None
) -> list[str]:
    """An argv that runs `argv` in the tools tree; cache, state and the recipes are at their own paths in it."""
    tree = root or paths.tools
    sandbox = tree / "usr/lib/python3/dist-packages/mkosi/sandbox.py"
    if not sandbox.is_file():
        raise ReadError(f"{tree}: no complete tools tree", hint="Run: bedplate image build")
    words = [sys.executable, "-I", os.fspath(sandbox), "--ro-bind", os.fspath(tree / "usr"), "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--bind", os.fspath(tree / "etc"), "/etc", "--bind", os.fspath(tree / "var"), "/var"]
    words += ["--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys", "--tmpfs", "/tmp", "--dir", "/run"]
    if network:
        words += ["--ro-bind-try", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"]
    else:
        words += ["--unshare-net"]
    for directory in (paths.cache, paths.state):
        directory.mkdir(parents=True, exist_ok=True)
        words += ["--bind", os.fspath(directory), os.fspath(directory)]
    return [*words, "--", *(os.fspath(word) for word in argv)]


def read_mirrors(tools: Path) -> tuple[str, str]:
    """(main, security) archive addresses that the tree was made from."""
    addresses = [
        (words[1], words[2])
        for file in ((tools / "etc/apt/sources.list"), *sorted((tools / "etc/apt/sources.list.d").glob("*.list")))
        if file.is_file()
        for line in file.read_text().splitlines()
        if line.startswith("deb ") and len(words := [word for word in line.split() if not word.startswith("[")]) > 2
    ]
    main = next((address for address, suite in addresses if "security" not in suite), None)
    if main is None:
        raise ReadError(f"{tools}/etc/apt/sources.list: no archive in it", hint="Run: bedplate clean, then build again.")
    security = next((address for address, suite in addresses if suite.endswith("-security")), None)
    return main.rstrip("/"), (security or main.rstrip("/") + "-security").rstrip("/")


def _recipe_digest(recipe: ToolsRecipe) -> str:
    text = f"{recipe.suite} {' '.join(recipe.packages)} {_WRAPPERS}"
    return hashlib.sha256(text.encode()).hexdigest()


def _mmdebstrap() -> str:
    found = shutil.which("mmdebstrap")
    if found is None:
        raise ReadError("mmdebstrap: not found on PATH", hint="Install it: apt install mmdebstrap debian-archive-keyring")
    return found


_WRAPPERS = {
    # systemd-sbsign 257 writes the current time into each Authenticode signature.
    "usr/lib/systemd/systemd-sbsign": """#!/bin/sh
exec faketime -f "$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" '+%Y-%m-%d %H:%M:%S')" /usr/lib/systemd/systemd-sbsign.real "$@"
""",
    # Without --phase, systemd-measure takes the phases of a systemd initrd. Ours measures none: the UKI alone comes first.
    "usr/lib/systemd/systemd-measure": """#!/bin/sh
exec /usr/lib/systemd/systemd-measure.real "$@" --phase= --phase=sysinit --phase=sysinit:ready
""",
}


def _wrap_programs(tree: Path) -> None:
    for name, text in _WRAPPERS.items():
        target = tree / name
        target.rename(target.with_name(target.name + ".real"))
        target.write_text(text)
        target.chmod(0o755)


def _apt_detail(progress: Progress) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        if line.startswith("I: ") or line.startswith(_DPKG_NOISE):
            progress.detail(line.removeprefix("I: ")[:100])

    return on_line


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path)
