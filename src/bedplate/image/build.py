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
from dataclasses import replace
from pathlib import Path
from typing import Any

import bedplate
from bedplate.act.files import digest_file, write_whole
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import last_lines, run
from bedplate.catalog.bundle import parse_trusted_keys
from bedplate.catalog.client_keys import parse_client_keys
from bedplate.catalog.protocol import read_protocol, read_request_script
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.front.script import render_script
from bedplate.host.system.booted import IMAGE_RECORD
from bedplate.image.base import base_key, prepare_base
from bedplate.image.contents import (
    Contents,
    find_differences,
    parse_checksums,
    parse_status,
    parse_verify,
    read_debs,
    verify_contents,
)
from bedplate.image.initrd import make_initrd
from bedplate.image.inputs import digest_builders
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
from bedplate.image.published import find_published
from bedplate.image.recipe import Recipe, Variant, architecture, read_recipe, recipes_directory
from bedplate.image.recovery import render_recovery
from bedplate.image.render import (
    Layout,
    render_boot_partitions,
    render_build_partitions,
    render_finalize,
    render_mkosi,
    render_postinst,
    render_sources,
)
from bedplate.image.tools import Tools, ensure_tools, read_tools
from bedplate.image.trees import set_modes
from bedplate.model.client_key import IMAGE_KEYS
from bedplate.model.instance import IMAGE_SCRIPT
from bedplate.model.machine_config import CONFIG_KEYS
from bedplate.model.progress import Progress

_SEED_SPACE = uuid.UUID("5f0c0f6e-2f0b-4d0c-9e0a-0b0d91a7e000")
# Of the work directory, what each build makes again; and what earlier versions of bedplate left there.
_MADE_AGAIN = ("output", "workspace", "sandbox", "repart", "trees", "repository", "initrd", "debs")
_OF_OLDER_VERSIONS = ("cache", "package-cache")
_NOT_IN_IMAGE = ("*.gguf", "__pycache__", "image", "lab")


def build_image(
    paths: Paths,
    progress: Progress,
    *,
    variant: Variant | None = None,
    force: bool = False,
    update: bool = False,
    mirror: str | None = None,
) -> Image:
    """The image of the recipe as it stands now, built unless its inputs are unchanged; as `variant` instead of the recipe's.

    force builds even then (and installs the packages anew); update takes newer packages from the archive, the build tools'
    too. Raises BuildError, DataError or ReadError; nothing is published then.
    """
    recipes = recipes_directory()
    recipe = read_recipe(recipes, variant=variant)
    if not (force or update) and (image := find_current(paths, variant=variant)) is not None:
        return image
    with hold_cache(paths, progress, what="the build of an image"):
        return _build_held(paths, progress, recipes, recipe, force=force, update=update, mirror=mirror)


def _build_held(
    paths: Paths,
    progress: Progress,
    recipes: Path,
    recipe: Recipe,
    *,
    force: bool,
    update: bool,
    mirror: str | None,
) -> Image:
    with progress.phase("tools"):
        tools = ensure_tools(paths, recipes, progress, mirror=mirror, update=update)
    with progress.phase("packages"):
        lock = ensure_packages(paths, tools, request_of(recipe), _lock_file(paths, recipe), progress, update=update)
    with progress.phase("image"):
        keys = ensure_keys(paths)
        digest = inputs_digest(recipes, recipe, tools, lock, keys)
        version = f"{recipe.version}~{digest[:8]}"
        if not force and (image := find_published(paths, version, digest)) is not None:
            return image
        try:
            return _build(paths, progress, recipes, recipe, tools, lock, keys, version=version, digest=digest, clean=force)
        except CommandError as error:
            raise _explain(error, paths.logs / "build.log") from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise _no_space(error.filename or paths.cache) from error


def find_current(paths: Paths, *, variant: Variant | None = None) -> Image | None:
    """The published image of the present inputs, or None when something must be built or resolved first. Quick."""
    recipes = recipes_directory()
    recipe = read_recipe(recipes, variant=variant)
    tools = read_tools(paths, recipes)
    lock_file = _lock_file(paths, recipe)
    if tools is None or not lock_file.is_file() or not (paths.keys / "pcr.crt").is_file():
        return None
    lock = read_lock(lock_file, request_of(recipe))
    if lock is None:
        return None
    digest = inputs_digest(recipes, recipe, tools, lock, ensure_keys(paths))
    return find_published(paths, f"{recipe.version}~{digest[:8]}", digest)


def inputs_digest(recipes: Path, recipe: Recipe, tools: Tools, lock: Lock, keys: Keys) -> str:
    """SHA-256 over everything that decides the image: recipe, trees, bedplate's source, packages, tools, certificates."""
    digest = hashlib.sha256()

    def add(name: str, content: bytes) -> None:
        digest.update(f"{name} {len(content)}\n".encode() + content)

    for root, label in ((recipes / "os", "recipe"), (_source(), "source")):
        for file in sorted(root.rglob("*")):
            if label == "source" and is_left_out(file.relative_to(root)):
                continue
            if file.is_symlink():
                add(f"{label}/{file.relative_to(root)}", os.fspath(file.readlink()).encode())
            elif file.is_file():
                add(f"{label}/{file.relative_to(root)} {file.stat().st_mode & 0o111:o}", file.read_bytes())
    add("builders", digest_builders("build").encode())  # how it is built is an input too
    add("variant", recipe.variant.encode())
    add("packages", lock.digest.encode())
    add("tools", tools.digest.encode())
    certificates = (keys.owner_certificate, keys.pcr_certificate, keys.recovery_certificate)
    for given in (*certificates, keys.client_keys, keys.config_keys):
        if given is not None:
            add(given.name, given.read_bytes())
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
    for name in (*_MADE_AGAIN, *_OF_OLDER_VERSIONS):
        if (work / name).exists():
            shutil.rmtree(work / name)
    for name in ("output", "workspace"):
        (work / name).mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")

    progress.detail("initrd")
    initrd = work / "initrd.cpio.zst"
    _make_initrd_once(paths, tools, recipe, recipes, lock, work, initrd)

    progress.detail("trees and configuration")
    write_repository(paths, lock, work / "repository")
    base = prepare_base(work, base_key(recipe, lock, tools, kernel_release=_kernel_release(lock)))
    for name in ("tree", "packages"):
        (base / name).mkdir(exist_ok=True)
    layout = Layout(
        work=work,
        tools=tools.root,
        base=base,
        initrd=initrd,
        trees=_write_trees(paths, recipes, recipe, keys, work / "trees", version),
        image_version=version,
        seed=str(uuid.uuid5(_SEED_SPACE, digest)),
        keys=keys,
        repository=work / "repository",
        kernel_release=_kernel_release(lock),
        incremental=True,
    )
    _write_configuration(recipe, layout)

    mkosi = [
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
    try:
        held = _read_held(paths, lock, layout)
    except BuildError:
        shutil.rmtree(base)
        raise
    return _publish(paths, recipe, tools, lock, held, work / "output", version=version, digest=digest)


def _read_held(paths: Paths, lock: Lock, layout: Layout) -> tuple[Contents, ...]:
    """The packages that the root holds, by what the build noted of it; raises BuildError where that is not the lock's."""
    output = layout.work / "output"
    checksums = parse_checksums((output / "root.checksums").read_text())
    held = tuple(
        replace(package, checksums=checksums.get(package.name, ""))
        for package in parse_status((output / "root.status").read_text())
    )
    ours = {os.fspath(file.relative_to(tree)) for tree in layout.trees for file in tree.rglob("*") if not file.is_dir()}
    changed = parse_verify((output / "root.verify").read_text(), ours=ours)
    differences = find_differences(lock, held, read_debs(paths, lock, layout.work / "debs"))
    verify_contents(
        "the root of the image",
        (*differences, *changed),
        hint="The cached base was removed; run: bedplate image build",
    )
    return held


def _publish(
    paths: Paths,
    recipe: Recipe,
    tools: Tools,
    lock: Lock,
    held: tuple[Contents, ...],
    output: Path,
    *,
    version: str,
    digest: str,
) -> Image:
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
            _manifest(recipe, tools, lock, held, partial, stem, sections, version=version, digest=digest),
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
    held: tuple[Contents, ...],
    directory: Path,
    stem: str,
    sections: dict[str, bytes],
    *,
    version: str,
    digest: str,
) -> dict[str, Any]:
    raw = directory / f"{stem}.raw"
    partitions = read_partitions(raw)
    locked = {package.name: package.sha256 for package in lock.packages}
    files = {}
    for kind, suffix in (("raw", "raw"), ("qcow2", "qcow2"), ("uki", "efi"), ("kernel", "vmlinuz"), ("initrd", "initrd")):
        file = directory / f"{stem}.{suffix}"
        files[kind] = {
            "name": file.name,
            "size_bytes": file.stat().st_size,
            "disk_bytes": file.stat().st_blocks * 512,
        }
        if kind != "qcow2":  # its compressed clusters are laid out by qemu-img's threads: not reproducible
            files[kind]["sha256"] = digest_file(file)
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
                "label": partition.label,
                "uuid": partition.uuid,
                "type": partition.type,
                "offset_bytes": partition.offset_bytes,
                "size_bytes": partition.size_bytes,
                "sha256": hash_range(raw, partition.offset_bytes, partition.size_bytes),
            }
            for partition in partitions
        ],
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "architecture": package.architecture,
                "sha256": locked[package.name],
            }
            for package in held
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
    for name, text in (("postinst", render_postinst()), ("finalize", render_finalize(recipe))):
        (work / name).write_text(text)
        (work / name).chmod(0o755)


def _write_trees(paths: Paths, recipes: Path, recipe: Recipe, keys: Keys, directory: Path, version: str) -> tuple[Path, ...]:
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
    record = {
        "id": recipe.id,
        "version": version,
        "variant": str(recipe.variant),
        "on_var_failure": str(recipe.on_var_failure),
    }
    (rendered / IMAGE_RECORD.lstrip("/")).write_text(json.dumps(record))
    # Made now, so that no boot has to read the rows.
    (rendered / IMAGE_SCRIPT.lstrip("/")).write_text(render_script(read_protocol(), read_request_script()))
    if keys.recovery_certificate is not None:
        (rendered / "usr/lib/bedplate/recovery.json").write_text(render_recovery(paths, keys.recovery_certificate))
    if keys.client_keys is not None:
        text = keys.client_keys.read_text()
        parse_client_keys(text, name=str(keys.client_keys))  # a damaged file would close the front end of every machine
        (rendered / IMAGE_KEYS.lstrip("/")).write_text(text)
    if keys.config_keys is not None:
        text = keys.config_keys.read_text()
        parse_trusted_keys(text, name=str(keys.config_keys))  # with a damaged file no machine would take a configuration
        (rendered / CONFIG_KEYS.lstrip("/")).write_text(text)
    _write_environment(rendered / "usr/lib/bedplate", recipe)
    # What signs an engine layer; the kernel knows the key only where the firmware's db holds it (Secure Boot).
    (rendered / "usr/lib/verity.d").mkdir()
    shutil.copyfile(keys.owner_certificate, rendered / "usr/lib/verity.d/owner.crt")
    (rendered / "usr/bin").mkdir()
    (rendered / "usr/bin/bedplate").symlink_to("../lib/bedplate/bin/bedplate")
    trees.append(rendered)
    for tree in trees:
        set_modes(tree, like=tree)
    return tuple(trees)


def _write_environment(home: Path, recipe: Recipe) -> None:
    """bedplate's own virtual environment, as `python3 -m venv --without-pip` would lay it out; no third-party package."""
    site = home / "lib/python3.13/site-packages"
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13\n")
    script = home / "bin/bedplate"
    script.write_text("#!/usr/lib/bedplate/bin/python3 -I\nfrom bedplate.cli.start import start\nstart()\n")
    script.chmod(0o755)
    for file in sorted(_source().rglob("*")):
        inside = file.relative_to(_source())
        if file.is_file() and not is_left_out(inside):
            target = site / "bedplate" / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _make_initrd_once(
    paths: Paths, tools: Tools, recipe: Recipe, recipes: Path, lock: Lock, work: Path, output: Path
) -> None:
    key = hashlib.sha256()
    key.update(
        repr(
            (
                lock.digest,
                tools.digest,
                recipe.initrd_modules,
                recipe.initrd_disk_modules,
                recipe.source_date_epoch,
                recipe.variant,
                recipe.command_line,
            )
        ).encode()
    )
    key.update((recipes / "os/initrd/init").read_bytes())
    key.update(digest_builders("initrd").encode())
    stamp = output.with_suffix(".key")  # of its inputs, and of the file itself
    if output.is_file() and stamp.is_file() and stamp.read_text() == f"{key.hexdigest()} {digest_file(output)}":
        return
    stamp.unlink(missing_ok=True)
    output.unlink(missing_ok=True)
    try:
        make_initrd(paths, tools, recipe, recipes, lock, work / "initrd", output)
    finally:
        shutil.rmtree(work / "initrd", ignore_errors=True)
    write_whole(stamp, f"{key.hexdigest()} {digest_file(output)}", sync=False)


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
    """What the recipe asks of the archive, for this machine's architecture; kernel is the metapackage of the recipe's
    flavour."""
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


def is_left_out(inside: Path) -> bool:
    """Whether the image is built without this file of the package, given by its path in it."""
    return any(inside.match(pattern) or pattern in inside.parts for pattern in _NOT_IN_IMAGE)


def _mkosi_detail(progress: Progress) -> Callable[[str], None]:
    step = re.compile(r"^(?:\x1b\[[0-9;]*m)*+(?:‣\s+|  )?(?:\x1b\[[0-9;]*m)*+([A-Z][a-z]+ing .*?…?)$")

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
        hint=(
            "Free some space, or move cache and state with BEDPLATE_CACHE_DIR and BEDPLATE_STATE_DIR. Finished steps"
            " are kept."
        ),
    )
