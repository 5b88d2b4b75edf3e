"""Recipe -> mkosi -> artefacts -> manifest: the build of the operating system image.

Inputs are digested first: an image whose inputs have not changed is not built again. A build happens in the cache and is
published into the state by one rename, so a killed build leaves no half image.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bedplate
from bedplate.act.paths import Paths
from bedplate.act.run import last_lines, run
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.image.initrd import make_initrd
from bedplate.image.keys import Keys, ensure_keys
from bedplate.image.manifest import (
    Image,
    hash_range,
    predict_pcr11,
    read_image,
    read_partitions,
    read_sections,
    write_manifest,
)
from bedplate.image.packages import Lock, Request, ensure_packages, read_lock, write_repository
from bedplate.image.recipe import Recipe, architecture, read_recipe, recipes_directory
from bedplate.image.render import (
    Layout,
    render_boot_partitions,
    render_build_partitions,
    render_finalize,
    render_mkosi,
    render_sources,
)
from bedplate.image.tools import Tools, ensure_tools, read_tools
from bedplate.model.progress import Progress

_SEED_SPACE = uuid.UUID("5f0c0f6e-2f0b-4d0c-9e0a-0b0d91a7e000")
_NOT_IN_IMAGE = ("*.gguf", "__pycache__", "image", "prove")


def build_image(
    paths: Paths,
    progress: Progress,
    *,
    variant: str | None = None,
    force: bool = False,
    update: bool = False,
    mirror: str | None = None,
) -> Image:
    """The image of the recipe as it stands now, built unless its inputs are unchanged.

    force builds even then (and without the incremental cache); update takes newer packages from the archive. Raises
    BuildError, DataError or ReadError; nothing is published then.
    """
    recipes = recipes_directory()
    recipe = read_recipe(recipes)
    if not (force or update) and (image := find_current(paths)) is not None:
        return image
    with progress.phase("tools"):
        tools = ensure_tools(paths, recipes, progress, mirror=mirror)
    with progress.phase("packages"):
        lock = ensure_packages(paths, tools, request_of(recipe), _lock_file(paths, recipe), progress, update=update)
    with progress.phase("image"):
        keys = ensure_keys(paths)
        digest = inputs_digest(recipes, tools, lock, keys)
        version = f"{recipe.version}~{digest[:8]}"
        published = paths.images / version
        if published.exists() and not force:
            return read_image(published)
        try:
            return _build(paths, progress, recipes, recipe, tools, lock, keys, version=version, digest=digest, clean=force)
        except CommandError as error:
            raise _explain(error, paths.logs / "build.log") from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise _no_space(error.filename or paths.cache) from error


def find_current(paths: Paths) -> Image | None:
    """The published image of the present inputs, or None when something must be built or resolved first. Quick."""
    recipes = recipes_directory()
    recipe = read_recipe(recipes)
    tools = read_tools(paths, recipes)
    lock_file = _lock_file(paths, recipe)
    if tools is None or not lock_file.is_file() or not (paths.keys / "pcr.crt").is_file():
        return None
    lock = read_lock(lock_file, request_of(recipe))
    if lock is None:
        return None
    digest = inputs_digest(recipes, tools, lock, ensure_keys(paths))
    published = paths.images / f"{recipe.version}~{digest[:8]}"
    return read_image(published) if (published / "manifest.json").is_file() else None


def list_images(paths: Paths) -> list[Image]:
    """All published images, newest first."""
    found = [directory for directory in paths.images.glob("*") if (directory / "manifest.json").is_file()]
    return [read_image(one) for one in sorted(found, key=lambda one: one.stat().st_mtime, reverse=True)]


def inputs_digest(recipes: Path, tools: Tools, lock: Lock, keys: Keys) -> str:
    """SHA-256 over everything that decides the image: recipe, trees, bedplate's source, packages, tools, certificates."""
    digest = hashlib.sha256()

    def add(name: str, content: bytes) -> None:
        digest.update(f"{name} {len(content)}\n".encode() + content)

    for root, label in ((recipes / "os", "recipe"), (_source(), "source")):
        for file in sorted(root.rglob("*")):
            if label == "source" and _left_out(file.relative_to(root)):
                continue
            if file.is_symlink():
                add(f"{label}/{file.relative_to(root)}", os.fspath(file.readlink()).encode())
            elif file.is_file():
                add(f"{label}/{file.relative_to(root)} {file.stat().st_mode & 0o111:o}", file.read_bytes())
    for builder in sorted(Path(__file__).parent.glob("*.py")):  # how it is built is an input too
        if builder.name in ("build.py", "initrd.py", "render.py"):
            add(builder.name, builder.read_bytes())
    add("packages", lock.digest.encode())
    add("tools", tools.digest.encode())
    for certificate in (keys.owner_certificate, keys.pcr_certificate):
        add(certificate.name, certificate.read_bytes())
    return digest.hexdigest()


def _build(
    paths: Paths,
    progress: Progress,
    recipes: Path,
    recipe: Recipe,
    tools: Tools,
    lock: Lock,
    keys: Keys,
    *,
    version: str,
    digest: str,
    clean: bool,
) -> Image:
    work = paths.work / "os"
    log = paths.logs / "build.log"
    if clean and work.exists():
        shutil.rmtree(work)
    for name in ("output", "workspace", "sandbox", "repart", "trees", "repository", "initrd"):
        if (work / name).exists():
            shutil.rmtree(work / name)
    for name in ("output", "cache", "workspace", "package-cache"):
        (work / name).mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")

    progress.detail("initrd")
    initrd = work / "initrd.cpio.zst"
    _make_initrd_once(paths, tools, recipe, recipes, lock, work, initrd)

    progress.detail("trees and configuration")
    write_repository(paths, lock, work / "repository")
    layout = Layout(
        work=work,
        tools=tools.root,
        package_cache=work / "package-cache",
        initrd=initrd,
        trees=_write_trees(recipes, recipe, keys, work / "trees", version),
        image_version=version,
        seed=str(uuid.uuid5(_SEED_SPACE, digest)),
        keys=keys,
        repository=work / "repository",
        kernel_release=_kernel_release(lock),
        incremental=True,
    )
    _write_configuration(recipe, layout)

    # Killed, we take mkosi along: it would go on in a directory that the next build clears.
    mkosi = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        "--",
        sys.executable,
        "-m",
        "mkosi",
        "--directory",
        os.fspath(work),
        "--debug",
        "--force",
        "build",
    ]
    environment = {"PYTHONPATH": os.fspath(_mkosi_package(paths, tools)), "PYTHONDONTWRITEBYTECODE": "1"}
    run(mkosi, timeout_s=3600, env=environment, cwd=work, log=log, on_line=_mkosi_detail(progress))
    progress.detail("qcow2 and manifest")
    return _publish(paths, recipe, tools, lock, work / "output", version=version, digest=digest)


def _publish(paths: Paths, recipe: Recipe, tools: Tools, lock: Lock, output: Path, *, version: str, digest: str) -> Image:
    partial = paths.images / f".partial-{os.getpid()}"
    paths.images.mkdir(parents=True, exist_ok=True)
    for left_over in paths.images.glob(".partial-*"):
        shutil.rmtree(left_over)
    partial.mkdir()
    stem = f"{recipe.id}_{version}"
    raw, uki = partial / f"{stem}.raw", partial / f"{stem}.efi"
    try:
        for suffix, target in ((".raw", raw), (".efi", uki), (".vmlinuz", partial / f"{stem}.vmlinuz")):
            source = output / f"{stem}{suffix}"
            if not source.is_file():
                raise BuildError(
                    f"mkosi made no {source.name}; it made: {', '.join(sorted(p.name for p in output.iterdir()))}"
                )
            shutil.move(source, target)
        sections = read_sections(uki)
        (partial / f"{stem}.initrd").write_bytes(sections[".initrd"])
        qcow2 = partial / f"{stem}.qcow2"
        run(["qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-O", "qcow2", raw, qcow2], timeout_s=600)
        write_manifest(
            partial / "manifest.json",
            _manifest(recipe, tools, lock, partial, stem, sections, version=version, digest=digest),
        )
        published = paths.images / version
        if published.exists():
            shutil.rmtree(published)
        partial.rename(published)
    except CommandError as error:
        raise BuildError(f"the image could not be published: {error.message}", hint="Is the disk full?") from error
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    return read_image(published)


def _manifest(
    recipe: Recipe,
    tools: Tools,
    lock: Lock,
    directory: Path,
    stem: str,
    sections: dict[str, bytes],
    *,
    version: str,
    digest: str,
) -> dict[str, Any]:
    raw = directory / f"{stem}.raw"
    partitions = read_partitions(raw)
    files = {}
    for kind, suffix in (("raw", "raw"), ("qcow2", "qcow2"), ("uki", "efi"), ("kernel", "vmlinuz"), ("initrd", "initrd")):
        file = directory / f"{stem}.{suffix}"
        files[kind] = {
            "name": file.name,
            "size_bytes": file.stat().st_size,
            "disk_bytes": file.stat().st_blocks * 512,
        }
        if kind != "qcow2":  # its compressed clusters are laid out by qemu-img's threads: not reproducible
            files[kind]["sha256"] = hash_range(file, 0, file.stat().st_size)
    return {
        "schema": 1,
        "id": recipe.id,
        "version": version,
        "variant": str(recipe.variant),
        "suite": recipe.suite,
        "kernel": _kernel_release(lock),
        "kernel_command_line": sections[".cmdline"].decode().rstrip("\0\n"),
        "pcr11": predict_pcr11(sections),
        "inputs": {"digest": digest, "packages": lock.digest, "tools": tools.digest, "bedplate": bedplate.__version__},
        "files": files,
        "partitions": [
            {
                "label": one.label,
                "uuid": one.uuid,
                "type": one.type,
                "offset_bytes": one.offset_bytes,
                "size_bytes": one.size_bytes,
                "sha256": hash_range(raw, one.offset_bytes, one.size_bytes),
            }
            for one in partitions
        ],
        "packages": [
            {"name": one.name, "version": one.version, "architecture": one.architecture, "sha256": one.sha256}
            for one in lock.packages
        ],
    }


def _write_configuration(recipe: Recipe, layout: Layout) -> None:
    work = layout.work
    (work / "mkosi.conf").write_text(render_mkosi(recipe, layout))
    sources = work / "sandbox/etc/apt/sources.list.d/mkosi.sources"
    sources.parent.mkdir(parents=True)
    sources.write_text(render_sources(layout.repository))
    (work / "repart").mkdir()
    for name, text in render_build_partitions(recipe, layout).items():
        (work / "repart" / name).write_text(text)
    (work / "finalize").write_text(render_finalize(recipe))
    (work / "finalize").chmod(0o755)


def _write_trees(recipes: Path, recipe: Recipe, keys: Keys, directory: Path, version: str) -> tuple[Path, ...]:
    """Copies of the recipe's trees, what is rendered from the recipe, and bedplate itself."""
    trees = [directory / "common"]
    shutil.copytree(recipes / "os/common", trees[0], symlinks=True)
    variant = recipes / "os" / str(recipe.variant)
    if variant.is_dir():
        trees.append(directory / str(recipe.variant))
        shutil.copytree(variant, trees[-1], symlinks=True)
    rendered = directory / "rendered"
    (rendered / "usr/lib/repart.d").mkdir(parents=True)
    for name, text in render_boot_partitions(recipe).items():
        (rendered / "usr/lib/repart.d" / name).write_text(text)
    (rendered / "usr/lib/bedplate").mkdir()
    (rendered / "usr/lib/bedplate/image.json").write_text(json.dumps({"version": version, "variant": str(recipe.variant)}))
    _write_environment(rendered / "usr/lib/bedplate", recipe)
    # What signs an engine layer; the kernel knows the key only where the firmware's db holds it (Secure Boot).
    (rendered / "usr/lib/verity.d").mkdir()
    shutil.copyfile(keys.owner_certificate, rendered / "usr/lib/verity.d/owner.crt")
    (rendered / "usr/bin").mkdir()
    (rendered / "usr/bin/bedplate").symlink_to("../lib/bedplate/bin/bedplate")
    trees.append(rendered)
    return tuple(trees)


def _write_environment(home: Path, recipe: Recipe) -> None:
    """bedplate's own virtual environment, as `python3 -m venv --without-pip` would lay it out; no third-party package."""
    site = home / "lib/python3.13/site-packages"
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13\n")
    script = home / "bin/bedplate"
    script.write_text("#!/usr/lib/bedplate/bin/python3 -I\nfrom bedplate.cli.main import entry\nentry()\n")
    script.chmod(0o755)
    for file in sorted(_source().rglob("*")):
        inside = file.relative_to(_source())
        if file.is_file() and not _left_out(inside):
            target = site / "bedplate" / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _make_initrd_once(
    paths: Paths, tools: Tools, recipe: Recipe, recipes: Path, lock: Lock, work: Path, output: Path
) -> None:
    key = hashlib.sha256()
    key.update(
        repr(
            (lock.digest, tools.digest, recipe.initrd_modules, recipe.initrd_disk_modules, recipe.source_date_epoch)
        ).encode()
    )
    key.update((recipes / "os/initrd/init").read_bytes())
    key.update((Path(__file__).parent / "initrd.py").read_bytes())
    stamp = output.with_suffix(".key")
    if output.is_file() and stamp.is_file() and stamp.read_text() == key.hexdigest():
        return
    output.unlink(missing_ok=True)
    try:
        make_initrd(paths, tools, recipe, recipes, lock, work / "initrd", output)
    finally:
        shutil.rmtree(work / "initrd", ignore_errors=True)
    stamp.write_text(key.hexdigest())


def _mkosi_package(paths: Paths, tools: Tools) -> Path:
    """A directory that holds nothing but mkosi's Python package, for the host's own interpreter."""
    directory = paths.work / "mkosi-package"
    source = tools.root / "usr/lib/python3/dist-packages/mkosi"
    link = directory / "mkosi"
    directory.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.readlink() != source:
        link.unlink(missing_ok=True)
        link.symlink_to(source)
    return directory


def request_of(recipe: Recipe) -> Request:
    """What the recipe asks of the archive."""
    machine = architecture()
    return Request(
        suite=recipe.suite,
        packages=recipe.packages,
        kernel=f"linux-image-cloud-{machine}" if recipe.kernel == "cloud" else f"linux-image-{machine}",
        accept_expired_release=recipe.accept_expired_release,
        architecture=machine,
    )


def _lock_file(paths: Paths, recipe: Recipe) -> Path:
    return paths.state / "locks" / f"{recipe.id}-{recipe.kernel}.json"


def _kernel_release(lock: Lock) -> str:
    for package in lock.packages:
        if package.name.startswith("linux-binary-"):
            return package.name.removeprefix("linux-binary-")
    raise ReadError("the package lock holds no kernel", hint="Check `kernel` in the recipe.")


def _source() -> Path:
    return Path(bedplate.__file__).parent


def _left_out(inside: Path) -> bool:
    return any(inside.match(pattern) or pattern in inside.parts for pattern in _NOT_IN_IMAGE)


def _mkosi_detail(progress: Progress) -> Callable[[str], None]:
    step = re.compile(r"^(?:\x1b\[[0-9;]*m)*(?:‣\s+|  )?(?:\x1b\[[0-9;]*m)*([A-Z][a-z]+ing .*?…?)$")

    def on_line(line: str) -> None:
        text = re.sub(r"\x1b\[[0-9;]*m", "", line).strip("‣ ").strip()
        if step.match(line) or text.endswith("…"):
            progress.detail(text.rstrip("….")[:100])

    return on_line


def _explain(error: CommandError, log: Path) -> BuildError:
    text = (log.read_text(errors="replace")[-200_000:] if log.is_file() else "") + error.tail
    if "No space left on device" in text:
        return _no_space(log.parent)
    told = re.findall(r"^.*(?:‣ |error: |E: |Error|failed).*$", text, re.MULTILINE)[-6:]
    return BuildError(
        "the image could not be built: " + (last_lines("\n".join(told), 6) or error.message), hint=f"Read {log}"
    )


def _no_space(where: object) -> BuildError:
    return BuildError(
        f"the image could not be built: no space left on the device ({where})",
        hint="Free space, or put cache and state elsewhere: BEDPLATE_CACHE_DIR, BEDPLATE_STATE_DIR. What was done is kept.",
    )
