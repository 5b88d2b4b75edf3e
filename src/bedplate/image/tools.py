"""The tools tree: a Debian tree made once by mmdebstrap, in which every build tool runs.

The host gives only Python, mmdebstrap and its kernel; mkosi, systemd-repart, ukify and mkfs come from the tree, entered
through mkosi's own sandbox (mount namespaces; no loop device, no bubblewrap, no systemd on the host).

Its packages are trusted by Debian's archive keyring alone, not by whatever keyrings the host has for third parties. A tree
that lost a file counts as absent and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import digest_file
from bedplate.act.paths import Paths
from bedplate.act.run import find_program, run
from bedplate.catalog.strict import read_toml
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.host.system.buildhost import find_mirror_timeout
from bedplate.image.mirror import check_mirror, find_reason
from bedplate.image.recipe import REFERENCE
from bedplate.model.progress import Progress
from bedplate.plan.rules.needs import FEDORA_KEYRING, KEYRING

# apt.conf(5): a mirror that falls silent ends a build in minutes. It is written into the tree too, so it must not vary.
ACQUIRE = {"Acquire::Retries": "2", "Acquire::http::Timeout": "30", "Acquire::https::Timeout": "30"}
_ROLLING = ("sid", "unstable", "testing", "experimental")
_RECORD = ".bedplate-tools.json"
_DPKG_NOISE = ("Selecting", "Preparing", "Unpacking", "Setting up", "Get:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsRecipe:
    """image/tools.toml, key by key. Dependencies of its packages come too."""

    schema: int
    suite: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools tree that is there and whole: `read_tools` or `ensure_tools` has seen it."""

    root: Path
    digest: str
    """SHA-256 over its packages' versions and files (`_digest_tree`): an input of every build."""


def read_tools(paths: Paths, recipes: Path) -> Tools | None:
    """The cached tree if it is complete and made from the present list of packages, else None.

    Complete means: each file and link below usr that the making left there has the size it had then.
    """
    recipe = read_toml(recipes / "tools.toml", ToolsRecipe, reference=REFERENCE)
    try:
        record = json.loads((paths.tools / _RECORD).read_text())
        if record["recipe"] != _recipe_digest(recipe):
            return None
        for name, size in record["files"].items():  # ten thousand: plain strings, since every `up` comes by
            if os.lstat(f"{paths.tools}/{name}").st_size != size:
                return None
        return Tools(root=paths.tools, digest=str(record["digest"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def ensure_tools(
    paths: Paths, recipes: Path, progress: Progress, *, mirror: str | None = None, update: bool = False
) -> Tools:
    """The tools tree, made now if it is not there or not whole; update makes it again with the archive's present packages.

    An interrupted making leaves nothing that looks complete. Raises BuildError, and the old tree stays then.
    """
    if not update and (tools := read_tools(paths, recipes)) is not None:
        return tools
    recipe = read_toml(recipes / "tools.toml", ToolsRecipe, reference=REFERENCE)
    paths.cache.mkdir(parents=True, exist_ok=True)
    for left_over in paths.cache.glob("tools.partial-*"):
        _remove_tree(left_over)
    partial = paths.cache / f"tools.partial-{os.getpid()}"
    archive = mirror.rstrip("/") if mirror is not None else "mmdebstrap's own mirror"
    if mirror is not None:
        check_mirror(archive, recipe.suite, progress, timeout_s=find_mirror_timeout())
    progress.detail(f"Debian {recipe.suite} tree with {len(recipe.packages)} tools from {archive}, made once")
    try:
        argv = [_mmdebstrap(), *mmdebstrap_arguments(recipe, partial, mirror=mirror, keyring=_find_keyring())]
        run(argv, timeout_s=3600, log=paths.logs / "tools.log", on_line=_apt_detail(progress))
        listing = run(
            ["dpkg-query", "--admindir", partial / "var/lib/dpkg", "-W", "-f", "${Package} ${Version}\\n"], timeout_s=60
        ).output
        _wrap_programs(partial)
        record = {
            "recipe": _recipe_digest(recipe),
            "digest": _digest_tree(partial, listing),
            "packages": listing.splitlines(),
            "files": dict(_read_sizes(partial)),
        }
        (partial / _RECORD).write_text(json.dumps(record))
        if paths.tools.exists():
            _remove_tree(paths.tools)
        partial.rename(paths.tools)
    except CommandError as error:
        raise _explain(error, paths.logs / "tools.log", archive) from error
    finally:
        if partial.exists():
            _remove_tree(partial)
    return Tools(root=paths.tools, digest=str(record["digest"]))


def _explain(error: CommandError, log: Path, archive: str) -> BuildError:
    unsigned = re.search(r"The repository '([^']*)' is not signed", error.tail)
    if unsigned is not None:
        return BuildError(
            f"the tools tree could not be made: {unsigned[1]} is not signed by a key of Debian that this host knows",
            hint="Update the host's package debian-archive-keyring; if it is up to date, do not use this mirror.",
        )
    reason = find_reason(error.tail)
    return BuildError(
        f"the tools tree could not be made from {archive}: {reason or error.message}",
        hint=f"Read {log}; if the mirror does not work, set BEDPLATE_MIRROR to one that does.",
    )


def mmdebstrap_arguments(recipe: ToolsRecipe, tree: Path, *, mirror: str | None, keyring: str) -> list[str]:
    """What mmdebstrap is called with. Each source names the keyring that alone may sign it (sources.list(5), Signed-By).

    mirror: None where neither the user nor the host's apt configuration names one; then mmdebstrap takes its own, with the
    suite's updates and security, and the keyring is the only one that apt trusts.
    """
    options = [f'--aptopt={key} "{value}"' for key, value in ACQUIRE.items()]
    arguments = ["--mode=root", "--variant=apt", f"--include={','.join(recipe.packages)}", recipe.suite, os.fspath(tree)]
    if mirror is None:
        return [*options, f"--keyring={keyring}", *arguments]
    main = mirror.rstrip("/")
    return [*options, *arguments, *render_archives(recipe.suite, main, f"{main}-security", keyring=keyring)]


def render_archives(
    suite: str,
    main: str,
    security: str,
    *,
    keyring: str = KEYRING,
    backports: bool = False,
    components: Sequence[str] = ("main",),
) -> list[str]:
    """Lines of sources.list for a suite of Debian: with updates and security where it has them, signed by Debian's keys."""
    suites = [(main, suite)]
    if suite not in _ROLLING:
        suites += [(main, f"{suite}-updates"), (security, f"{suite}-security")]
        suites += [(main, f"{suite}-backports")] if backports else []
    return [f"deb [signed-by={keyring}] {address} {name} {' '.join(components)}" for address, name in suites]


def tools_command(
    paths: Paths, argv: Sequence[str | os.PathLike[str]], *, network: bool = False, root: Path | None = None
) -> list[str]:
    """An argv that runs `argv` in the tools tree; cache, state and the recipes are at their own paths in it."""
    tree = root or paths.tools
    words = enter_tree(tree, tree)
    if network:
        words += ["--ro-bind-try", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"]
    else:
        words += ["--unshare-net"]
    for directory in (paths.cache, paths.state):
        directory.mkdir(parents=True, exist_ok=True)
        words += ["--bind", os.fspath(directory), os.fspath(directory)]
    return [*words, "--", *(os.fspath(word) for word in argv)]


def find_sandbox(tree: Path) -> Path:
    """mkosi's own sandbox in a tools tree, which any Python runs. Raises ReadError where the tree is not complete."""
    sandbox = tree / "usr/lib/python3/dist-packages/mkosi/sandbox.py"
    if not sandbox.is_file():
        raise ReadError(f"{tree}: no complete tools tree", hint="Run: bedplate image build")
    return sandbox


def enter_tree(tools: Path, tree: Path) -> list[str]:
    """The begin of an argv that enters `tree` through the sandbox of the tools tree `tools`.

    The program sees its /usr read-only, its /etc and /var, devices, /proc, /sys and /tmp. The caller adds what else it sees,
    and "--" before it. Raises ReadError when `tools` has no sandbox.
    """
    words = [sys.executable, "-I", os.fspath(find_sandbox(tools)), "--ro-bind", os.fspath(tree / "usr"), "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--bind", os.fspath(tree / "etc"), "/etc", "--bind", os.fspath(tree / "var"), "/var"]
    return [*words, "--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys", "--tmpfs", "/tmp", "--dir", "/run"]


def read_mirrors(tools: Path) -> tuple[str, str]:
    """(main, security) addresses of the archives that the tree was made from, without a slash at their end.

    Where the tree names no security archive, it is the main one with "-security". Raises ReadError when it names none at
    all.
    """
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
    """Over all that decides how the tree is made, its sources and their keyring among it."""
    sources = render_archives(recipe.suite, "main", "security")
    text = f"{recipe.suite} {' '.join(recipe.packages)} {_WRAPPERS} {sources}"
    return hashlib.sha256(text.encode()).hexdigest()


def _read_sizes(tree: Path) -> Iterator[tuple[str, int]]:
    """(path in the tree, size in bytes) of each file and link below usr, which nothing writes to after the making."""
    for folder, _, files in os.walk(tree / "usr"):
        for name in files:
            file = Path(folder) / name
            yield os.fspath(file.relative_to(tree)), file.lstat().st_size


def _digest_tree(tree: Path, listing: str) -> str:
    """SHA-256 over the packages' versions and over each file and link of theirs, as it lies in the tree.

    Files that no package owns (byte code, caches) are left out: they hold times, and follow from the others.
    """
    digest = hashlib.sha256(f"{listing}{_WRAPPERS}".encode())
    owned = {
        line.lstrip("/")
        for file in (tree / "var/lib/dpkg/info").glob("*.list")
        for line in file.read_text().splitlines()
        if line.startswith(("/usr/", "/etc/"))
    }
    owned |= {f"{name}.real" for name in _WRAPPERS}
    for name in sorted(owned):
        file = tree / name
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:  # dpkg moved it aside, or a package's script removed it
            continue
        if stat.S_ISLNK(mode):
            digest.update(f"{name} -> {file.readlink()}\n".encode())
        elif stat.S_ISREG(mode):
            digest.update(f"{name} {stat.S_IMODE(mode):o} {digest_file(file)}\n".encode())
    return digest.hexdigest()


def _mmdebstrap() -> str:
    found = find_program("mmdebstrap")
    if found is None:
        raise ReadError("mmdebstrap: not found on PATH", hint="Install it: apt install mmdebstrap debian-archive-keyring")
    return found


def _find_keyring() -> str:
    for file in (KEYRING, FEDORA_KEYRING):
        if Path(file).is_file():
            return file
    raise ReadError(f"{KEYRING}: not found", hint="Install Debian's archive keys: apt install debian-archive-keyring")


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
    path.unlink() if path.is_symlink() else shutil.rmtree(path)
