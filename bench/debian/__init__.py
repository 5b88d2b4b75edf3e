"""An ordinary Debian disk image, built by the same mkosi, tools tree and package lock as bedplate's own.

What every such image has stands in the files beside this module; a recipe adds packages, services and trees. Two are made
so: bench/stock, the arm that bedplate is compared with, and bench/inplace, the host that bedplate is used on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.image.build import _mkosi_package
from bedplate.image.manifest import Image
from bedplate.image.packages import Lock, Request, ensure_packages, write_repository
from bedplate.image.recipe import Variant, architecture
from bedplate.image.render import render_sources
from bedplate.image.tools import Tools
from bedplate.model.progress import Progress

HERE = Path(__file__).parent
_SEED_SPACE = uuid.UUID("3d5e5b4e-9a0a-4c39-9a6f-0f6b1a0c5d00")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianRecipe:
    schema: int
    suite: str
    packages: tuple[str, ...]
    enable: tuple[str, ...]
    """Units that are enabled beside those that Debian's packages enable by themselves."""
    disable: tuple[str, ...]
    """Units that its packages would start at boot and that are left to whoever wants them."""
    kernel_command_line: tuple[str, ...]
    source_date_epoch: int


def build_debian(
    paths: Paths,
    tools: Tools,
    recipe: DebianRecipe,
    name: str,
    *,
    inputs: str,
    write_tree: Callable[[Path], None],
    progress: Progress,
) -> Image:
    """The disk, kernel and initrd of a recipe, built unless its inputs are unchanged; for direct boots.

    inputs is text that changes when what write_tree puts into its directory does. It comes as an `Image`, so that QEMU's
    argv is made by the same code as bedplate's. Waits for other builds in the same cache. Raises BuildError.
    """
    with hold_cache(paths, progress, what=f"the build of {name}"):
        return _build(paths, tools, recipe, name, inputs=inputs, write_tree=write_tree, progress=progress)


def _build(
    paths: Paths,
    tools: Tools,
    recipe: DebianRecipe,
    name: str,
    *,
    inputs: str,
    write_tree: Callable[[Path], None],
    progress: Progress,
) -> Image:
    request = Request(
        suite=recipe.suite,
        packages=recipe.packages,
        kernel=None,
        accept_expired_release=False,
        architecture=architecture(),
    )
    lock = ensure_packages(paths, tools, request, paths.cache / f"bench/locks/{name}.json", progress)
    digest = hashlib.sha256(f"{lock.digest} {tools.digest} {recipe} {inputs}".encode())
    for file in sorted(HERE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(HERE)}\n".encode() + file.read_bytes())
    version = f"{name}-{digest.hexdigest()[:8]}"
    work = paths.cache / "bench" / name
    if (image := _read(work, recipe, version)) is not None:
        return image
    progress.detail("trees and configuration")
    for part in ("output", "workspace", "sandbox", "trees", "repository", "cache", "package-cache"):
        shutil.rmtree(work / part, ignore_errors=True)
    for part in ("output", "cache", "workspace", "package-cache", "trees"):
        (work / part).mkdir(parents=True, exist_ok=True)
    write_repository(paths, lock, work / "repository")
    sources = work / "sandbox/etc/apt/sources.list.d/mkosi.sources"
    sources.parent.mkdir(parents=True)
    sources.write_text(render_sources(work / "repository"))
    write_tree(work / "trees")
    _fill_templates(work, recipe, tools, seed=uuid.uuid5(_SEED_SPACE, digest.hexdigest()))
    _run_mkosi(paths, tools, work, name, progress)
    _write_manifest(work / "output/manifest.json", version, lock)
    for part in ("repository", "workspace", "trees"):
        shutil.rmtree(work / part)
    image = _read(work, recipe, version)
    if image is None:
        raise BuildError(f"{name}: the image is not whole: {sorted(file.name for file in (work / 'output').iterdir())}")
    return image


def digest_files(directory: Path) -> str:
    """SHA-256 in hex over the names and contents of the files below a directory."""
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(directory)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _fill_templates(work: Path, recipe: DebianRecipe, tools: Tools, *, seed: uuid.UUID) -> None:
    values = {
        "suite": recipe.suite,
        "repository": work / "repository",
        "work": work,
        "here": HERE,
        "tools": tools.root,
        "seed": seed,
        "epoch": recipe.source_date_epoch,
        "packages": _lines(recipe.packages),
        "trees": _lines((str(HERE / "tree"), str(work / "trees"))),
        "command_line": " ".join(recipe.kernel_command_line),
        "enable": " ".join(recipe.enable),
        "disable": " ".join(recipe.disable),
    }
    for name in ("mkosi.conf", "postinst.chroot", "finalize"):
        (work / name).write_text(Template((HERE / name).read_text()).substitute(values))
    for script in ("postinst.chroot", "finalize"):
        (work / script).chmod(0o755)


def _run_mkosi(paths: Paths, tools: Tools, work: Path, name: str, progress: Progress) -> None:
    log = paths.logs / f"bench-{name}.log"
    log.unlink(missing_ok=True)
    mkosi = [sys.executable, "-m", "mkosi", "--directory", os.fspath(work), "--debug", "--force", "build"]
    env = {"PYTHONPATH": os.fspath(_mkosi_package(paths, tools)), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run(mkosi, timeout_s=1800, env=env, cwd=work, log=log, on_line=lambda line: progress.detail(line[:100]))
    except CommandError as error:
        raise BuildError(f"{name}: the image could not be built: {error.message}", hint=f"Read {log}") from error


def _write_manifest(file: Path, version: str, lock: Lock) -> None:
    packages = [{"name": package.name, "version": package.version, "sha256": package.sha256} for package in lock.packages]
    file.write_text(json.dumps({"version": version, "packages": packages}, indent=1) + "\n")


def _read(work: Path, recipe: DebianRecipe, version: str) -> Image | None:
    output = work / "output"
    manifest = output / "manifest.json"
    if not manifest.is_file() or json.loads(manifest.read_text())["version"] != version:
        return None
    if not all((output / f"debian.{suffix}").is_file() for suffix in ("raw", "vmlinuz", "initrd")):
        return None
    return Image(
        version=version,
        variant=Variant.DEVELOPMENT,
        directory=output,
        raw=output / "debian.raw",
        uki=output / "debian.vmlinuz",  # it has none
        kernel=output / "debian.vmlinuz",
        initrd=output / "debian.initrd",
        cmdline=" ".join(recipe.kernel_command_line),
        manifest=manifest,
    )


def _lines(values: tuple[str, ...]) -> str:
    return "".join(f"\n        {value}" for value in values)
