"""The initrd: busybox, dmsetup, the modules that find and verify the root, and one script. A few MB, made from the same
.debs as the root.

mkosi's default initrd is a second operating system (38 MB, 51 s of an emulated boot); what ours leaves out and why is in
docs/decisions/0004-own-initrd.md.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError
from bedplate.image.packages import Lock, pool
from bedplate.image.recipe import Recipe, Variant
from bedplate.image.tools import Tools, tools_command

_APPLETS = ("cat", "cut", "echo", "grep", "insmod", "ln", "mkdir", "mount", "od", "reboot", "sed", "sh", "sha256sum") + (
    "sleep",
    "switch_root",
)
_PACKAGES = re.compile(
    r"busybox|dmsetup|libc6|libdevmapper.*|libudev1|libselinux1|libpcre2-8-0|libcap2|linux-(modules|base)-.*"
)
_DIRECTORIES = ("bin", "dev", "proc", "sys", "run", "sysroot", "modules", "usr/lib")


def make_initrd(paths: Paths, tools: Tools, recipe: Recipe, recipes: Path, lock: Lock, work: Path, output: Path) -> None:
    """Write the compressed cpio archive to output; the same inputs give the same bytes.

    work is an empty directory. Raises BuildError when a module or program named in the recipe is not in the packages.
    """
    unpacked = work / "packages"
    tree = work / "tree"
    for directory in _DIRECTORIES:
        (tree / directory).mkdir(parents=True, exist_ok=True)
    for package in lock.packages:
        if _PACKAGES.fullmatch(package.name):
            run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / package.file, unpacked]), timeout_s=300)
    _copy_programs(paths, unpacked, tree)
    _copy_modules(unpacked, tree, recipe)
    init = tree / "init"
    shutil.copyfile(recipes / "os/initrd/init", init)
    init.chmod(0o755)
    if recipe.variant is Variant.PRODUCTION:  # the initrd then refuses to start with any other command line
        (tree / "cmdline").write_text(" ".join(recipe.command_line) + "\n")
    _pack(paths, tools, tree, recipe.source_date_epoch, output)


def _copy_programs(paths: Paths, unpacked: Path, tree: Path) -> None:
    """busybox with its applets' links, dmsetup, and the libraries that the packages' own dynamic loader names."""
    programs = [_find(unpacked, "busybox"), _find(unpacked, "dmsetup")]
    for program in programs:
        _install(program, tree / "bin" / program.name)
    for applet in _APPLETS:
        (tree / "bin" / applet).symlink_to("busybox")
    loader = next(iter(sorted((unpacked / "usr").glob("lib*/**/ld-linux*.so.*"))), None)
    if loader is None:
        raise BuildError("initrd: libc6 holds no dynamic loader")
    (tree / "lib").symlink_to("usr/lib")
    (tree / "lib64").symlink_to("usr/lib")
    libraries = unpacked / "usr/lib" / loader.resolve().parent.name
    for program in programs:
        argv: list[str | os.PathLike[str]] = [loader, "--library-path", libraries, "--list", program]
        listing = run(tools_command(paths, argv), timeout_s=60).output
        for found in re.findall(r"=> (/\S+) ", listing):
            if not Path(found).is_relative_to(unpacked):
                raise BuildError(f"initrd: {program.name} needs {found}, which is in none of the packages it is made from")
            _install(Path(found), tree / "usr/lib" / Path(found).name)
    _install(loader, tree / "usr/lib" / loader.name)


def _install(source: Path, target: Path) -> None:
    shutil.copyfile(source.resolve(), target)
    target.chmod(0o755)


def _copy_modules(unpacked: Path, tree: Path, recipe: Recipe) -> None:
    """Modules and what they need, uncompressed (the archive is compressed as a whole), and the order to load them in."""
    (directory,) = (unpacked / "usr/lib/modules").iterdir()
    files = {_module_name(file): file for file in directory.rglob("*.ko*")}
    builtin = {_module_name(Path(line)) for line in (directory / "modules.builtin").read_text().splitlines()}
    done: set[str] = set()

    def add(order: list[str], name: str, wanted_by: str, parameters: str = "") -> None:
        if name in builtin or name in done:
            return
        if name not in files:
            raise BuildError(
                f"initrd_modules: {wanted_by}: the kernel {directory.name} has no module {name}",
                hint="Correct initrd_modules in the recipe; names are those of `modinfo`.",
            )
        image = _read_module(files[name])
        for needed in _module_dependencies(image):
            add(order, needed, wanted_by)
        (tree / "modules" / f"{name}.ko").write_bytes(image)
        done.add(name)
        order.append(f"{name}.ko {parameters}".strip())

    for file, modules in (("first", recipe.initrd_modules), ("more", recipe.initrd_disk_modules)):
        order: list[str] = []
        for module in modules:
            name, _, parameters = module.partition(" ")
            add(order, name.replace("-", "_"), name, parameters)
        (tree / "modules" / file).write_text("".join(f"{line}\n" for line in order))


def _read_module(file: Path) -> bytes:
    data = file.read_bytes()
    return lzma.decompress(data) if file.suffix == ".xz" else data


def _module_dependencies(image: bytes) -> list[str]:
    """Names in the `depends=` entry of .modinfo, soft dependencies (`softdep=pre:`) first."""
    found = []
    for match in re.finditer(rb"\0softdep=pre: ([^\0]*)", image):
        found += [name for name in match[1].decode().split() if not name.startswith(("post:", "pre:", "crypto-"))]
    depends = re.search(rb"\0depends=([^\0]*)", image)
    found += depends[1].decode().split(",") if depends and depends[1] else []
    return [name.replace("-", "_") for name in found]


def _module_name(file: Path) -> str:
    return file.name.split(".ko")[0].replace("-", "_")


def _find(root: Path, name: str) -> Path:
    for directory in ("usr/bin", "usr/sbin", "bin", "sbin"):
        if (found := root / directory / name).exists():
            return found
    raise BuildError(f"initrd: {name} is in none of the packages it is made from")


def _pack(paths: Paths, tools: Tools, tree: Path, epoch: int, output: Path) -> None:
    names = sorted(os.fspath(path.relative_to(tree)) for path in tree.rglob("*"))
    for name in [*names, "."]:
        os.utime(tree / name, (epoch, epoch), follow_symlinks=False)
        os.chown(tree / name, 0, 0, follow_symlinks=False)
    (tree.parent / "names").write_text("".join(f"{name}\n" for name in names))
    script = 'cd "$1" && cpio --quiet --reproducible -o -H newc -R 0:0 <../names | zstd -q -19 -T1 -o "$2"'
    run(tools_command(paths, ["sh", "-euc", script, "sh", tree, output], root=tools.root), timeout_s=600)
