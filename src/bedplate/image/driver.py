"""A driver layer: kernel modules for exactly one kernel, their firmware and user space, as a signed system extension.

It is merged into the host's /usr, since modules and firmware belong there; the user space of the same version lies beside
them where the host's loader does not look, and is shown to engines in their own roots. Whether the catalogue has a yes for
driver and kernel is decided before; the layer says what it said. Why: docs/decisions, "driver layer".
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from bedplate.act.files import digest_file, write_whole
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.image.build_root import build_command, make_build_root
from bedplate.image.driver_modules import (
    ModuleInfo,
    compile_modules,
    find_module_problems,
    link_headers,
    read_module,
    read_signer,
    strip_and_sign,
    verify_signature,
)
from bedplate.image.driver_recipe import COMPONENTS, DriverRecipe
from bedplate.image.driver_source import DriverSource, LockedSource
from bedplate.image.driver_tree import DRIVERS, write_extension
from bedplate.image.inputs import digest_builders
from bedplate.image.keys import Keys, ensure_keys
from bedplate.image.layer_disk import make_layer_disk
from bedplate.image.packages import Lock, Request, ensure_packages
from bedplate.image.recipe import architecture, read_recipe, recipes_directory
from bedplate.image.tools import Tools, ensure_tools, tools_command
from bedplate.model.progress import Progress
from bedplate.plan.resolve.module_verdict import ModuleVerdict

_SEED_SPACE = uuid.UUID("b6d7bd1a-6a1f-4f57-9f51-6a6ed1d5c300")
# What the scripts of packages would have made in the build root: awk by update-alternatives.
_LINKS = {"usr/bin/awk": "mawk"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLayer:
    """A built driver layer: `path` is the signed system extension."""

    name: str
    version: str
    kernel: str
    verified: bool
    """Whether the catalogue has a yes for driver and kernel."""
    because: str
    """What the catalogue says of the pair."""
    path: Path
    size_bytes: int
    sha256: str
    modules: tuple[str, ...]
    cpu_s: float | None
    """CPU seconds of the compiler; None where nothing was compiled now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    recipe: DriverRecipe
    source: DriverSource
    root: Lock
    keys: Keys
    verdict: ModuleVerdict
    digest: str
    epoch: int


def build_driver(
    paths: Paths,
    progress: Progress,
    recipe: DriverRecipe,
    verdict: ModuleVerdict,
    *,
    source: DriverSource | None = None,
    force: bool = False,
    update: bool = False,
    mirror: str | None = None,
) -> DriverLayer:
    """The layer of a recipe as it stands now, built unless its inputs are unchanged.

    source: where modules, firmware and user space come from; None for the archive's packages, as the recipe names them. The
    caller has judged the verdict. Raises BuildError, DataError or ReadError; nothing is published then.
    """
    recipes = recipes_directory()
    epoch = read_recipe(recipes).source_date_epoch
    with hold_cache(paths, progress, what=f"the build of the driver {recipe.name}"):
        with progress.phase("tools"):
            tools = ensure_tools(paths, recipes, progress, mirror=mirror)
        with progress.phase("packages"):
            root = ensure_packages(
                paths, tools, _root_request(recipe), _lock_file(paths, recipe, "root"), progress, update=update
            )
            if source is None:
                request = _driver_request(recipe)
                locked = ensure_packages(paths, tools, request, _lock_file(paths, recipe, "driver"), progress, update=update)
                source = LockedSource(recipe=recipe, lock=locked)
        with progress.phase(f"driver {recipe.name}"):
            keys = ensure_keys(paths)
            inputs = _Inputs(
                recipe=recipe,
                source=source,
                root=root,
                keys=keys,
                verdict=verdict,
                digest=_digest(recipes, recipe, source, root, tools, keys, verdict, epoch=epoch),
                epoch=epoch,
            )
            if not (force or update) and (layer := _find(paths, inputs)) is not None:
                return layer
            return _build(paths, progress, recipes, inputs)


def read_driver(paths: Paths, name: str) -> DriverLayer | None:
    """The published layer of a name, whatever inputs it is of; None where there is none, or not a whole one."""
    try:
        record = json.loads((paths.drivers / f"{name}.json").read_text())
        path = paths.drivers / record["file"]
        if path.stat().st_size != record["size_bytes"]:
            return None
        return DriverLayer(
            name=record["name"],
            version=record["version"],
            kernel=record["kernel"],
            verified=record["verified"],
            because=record["because"],
            path=path,
            size_bytes=record["size_bytes"],
            sha256=record["sha256"],
            modules=tuple(module["file"] for module in record["modules"]),
            cpu_s=None,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _find(paths: Paths, inputs: _Inputs) -> DriverLayer | None:
    layer = read_driver(paths, inputs.recipe.name)
    if layer is None:
        return None
    record = json.loads((paths.drivers / f"{layer.name}.json").read_text())
    return layer if record["digest"] == inputs.digest else None


def _build(paths: Paths, progress: Progress, recipes: Path, inputs: _Inputs) -> DriverLayer:
    recipe, log = inputs.recipe, paths.logs / "driver.log"
    work = paths.work / f"driver-{recipe.name}"
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    try:
        progress.detail("build root")
        root = work / "root"
        make_build_root(paths, inputs.root, root, links=_LINKS, log=log)
        link_headers(root, recipe.kernel)
        progress.detail("source of the modules")
        unpacked = inputs.source.unpack(paths, root, work / "source", log=log)
        _apply_patches(paths, root, recipes, recipe, unpacked.modules, log=log)
        progress.detail(f"compiling for the kernel {recipe.kernel}; this takes minutes, `bedplate logs driver` shows it")
        cpu_s = compile_modules(
            paths, root, unpacked.modules, kernel=recipe.kernel, compiler=recipe.compiler, epoch=inputs.epoch, log=log
        )
        progress.detail("stripping and signing")
        made = work / "modules"
        made.mkdir()
        for file in sorted(unpacked.modules.rglob("*.ko")):
            shutil.copyfile(file, made / file.name)
        strip_and_sign(paths, root, made, inputs.keys, log=log)
        modules = _verify_modules(paths, made, recipe, inputs.keys, work=work)
        progress.detail("EROFS, verity and signature")
        tree = work / "tree"
        write_extension(tree, recipe, made, modules, unpacked, verified=inputs.verdict.builds is True)
        libraries = tree / DRIVERS / recipe.name / "lib"
        if libraries.is_dir():  # libcuda.so.1 -> libcuda.so.535.274.02: the names that programs ask for
            run(tools_command(paths, ["ldconfig", "-n", libraries]), timeout_s=60, log=log)
        image = work / f"{recipe.name}_{recipe.version}_{recipe.kernel}.raw"
        seed = uuid.uuid5(_SEED_SPACE, inputs.digest)
        make_layer_disk(paths, work, tree, image, inputs.keys, seed=seed, epoch=inputs.epoch, log=log)
    except CommandError as error:
        raise BuildError(f"the driver {recipe.name} could not be built: {error.message}", hint=f"Read {log}") from error
    layer = _publish(paths, inputs, image, made, modules, cpu_s=cpu_s)
    shutil.rmtree(work)
    return layer


def _publish(
    paths: Paths, inputs: _Inputs, image: Path, made: Path, modules: dict[str, ModuleInfo], *, cpu_s: float
) -> DriverLayer:
    recipe = inputs.recipe
    paths.drivers.mkdir(parents=True, exist_ok=True)
    published = paths.drivers / image.name
    shutil.move(image, published.with_suffix(".partial"))
    published.with_suffix(".partial").rename(published)
    files = [made / f"{name}.ko" for name in recipe.modules]
    record = {
        "schema": 1,
        "name": recipe.name,
        "version": recipe.version,
        "flavour": recipe.flavour,
        "source": recipe.source,
        "kernel": recipe.kernel,
        "verified": inputs.verdict.builds is True,
        "because": inputs.verdict.because,
        "digest": inputs.digest,
        "file": published.name,
        "size_bytes": published.stat().st_size,
        "sha256": digest_file(published),
        "modules": [
            {
                "file": file.name,
                "size_bytes": file.stat().st_size,
                "sha256": digest_file(file),
                **asdict(modules[file.stem]),
            }
            for file in files
        ],
        "packages": [asdict(part) for part in inputs.source.parts()],
        "build_packages": [
            {"name": package.name, "version": package.version, "sha256": package.sha256} for package in inputs.root.packages
        ],
    }
    write_whole(paths.drivers / f"{recipe.name}.json", json.dumps(record, indent=1) + "\n", sync=True)
    for older in paths.drivers.glob(f"{recipe.name}_*.raw"):
        if older != published:
            older.unlink()
    layer = read_driver(paths, recipe.name)
    if layer is None:
        raise BuildError(f"{published}: was published and is not whole", hint="Is the disk full?")
    return DriverLayer(**{**{key: getattr(layer, key) for key in DriverLayer.__slots__}, "cpu_s": cpu_s})


def _verify_modules(paths: Paths, made: Path, recipe: DriverRecipe, keys: Keys, *, work: Path) -> dict[str, ModuleInfo]:
    """What the modules are, by name; raises BuildError unless they are those of the lock, signed by the owner."""
    modules = {file.stem: read_module(paths, file) for file in sorted(made.glob("*.ko"))}
    signer = read_signer(paths, keys.owner_certificate)
    problems = find_module_problems(modules, recipe.modules, kernel=recipe.kernel, version=recipe.upstream, signer=signer)
    if problems:
        raise BuildError(
            f"the modules of {recipe.name} are not what the recipe says: {'; '.join(problems)}",
            hint="Correct `kernel`, `version` and `modules` of the recipe, or use the source that they are of.",
        )
    for file in sorted(made.glob("*.ko")):
        verify_signature(paths, file, keys.owner_certificate, work=work)
    return modules


def _apply_patches(paths: Paths, root: Path, recipes: Path, recipe: DriverRecipe, source: Path, *, log: Path) -> None:
    patches = recipes / "drivers" / recipe.name / "patches"
    for patch in sorted(patches.glob("*.patch")):
        shown = {Path("/tmp") / patch.name: patch}
        argv = ["patch", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", "--forward", f"--input=/tmp/{patch.name}"]
        words = build_command(paths, root, argv, work=source, environment={}, read_only=shown)
        try:
            run(words, timeout_s=120, log=log)
        except CommandError as error:
            raise BuildError(
                f"{patch.name} does not apply to the source of {recipe.name} {recipe.version}: {error.message}",
                hint="The source has changed: remove the patch if the repair is in it, or adapt the patch.",
            ) from error


def _root_request(recipe: DriverRecipe) -> Request:
    return Request(
        suite=recipe.build_suite,
        packages=(*recipe.build_packages, f"linux-headers-{recipe.kernel}"),
        kernel=None,
        accept_expired_release=False,
        architecture=architecture(),
    )


def _driver_request(recipe: DriverRecipe) -> Request:
    more = (*recipe.firmware_packages, *recipe.user_packages) if recipe.include_nonfree else ()
    return Request(
        suite=recipe.suite,
        packages=tuple(f"{name}={recipe.version}" for name in (recipe.modules_package, *more)),
        kernel=None,
        accept_expired_release=recipe.accept_expired_release,
        architecture=architecture(),
        closure=False,
        components=COMPONENTS,
    )


def _lock_file(paths: Paths, recipe: DriverRecipe, what: str) -> Path:
    return paths.state / "locks" / f"driver-{recipe.name}-{what}.json"


def _digest(
    recipes: Path,
    recipe: DriverRecipe,
    source: DriverSource,
    root: Lock,
    tools: Tools,
    keys: Keys,
    verdict: ModuleVerdict,
    *,
    epoch: int,
) -> str:
    """SHA-256 over all that decides the layer: packages, source, tools, recipe, patches, builder, certificate, time."""
    digest = hashlib.sha256(f"{root.digest} {source.digest} {tools.digest} {epoch} {verdict}\n".encode())
    digest.update(repr(recipe).encode())
    for file in sorted((recipes / "drivers" / recipe.name).rglob("*.patch")):
        digest.update(file.name.encode() + file.read_bytes())
    digest.update(digest_builders("driver").encode())
    digest.update(keys.owner_certificate.read_bytes())
    return digest.hexdigest()
