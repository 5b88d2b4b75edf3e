"""An engine layer: the packages of an engine, unpacked without their scripts, as a verity-protected and signed disk image.

It is what bedplate-layer@.service mounts and an engine has as its root. Engines of different ages live side by side on one
kernel this way, none of them in the base. Why not a sysext or a container: docs/decisions, "engine as a portable layer".
An engine that is a Python program has a part of wheels as well (engine_python.py).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.act.files import digest_file, write_whole
from bedplate.act.layer_record import layer_record_file, read_layer_record
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.errors import BuildError, CommandError
from bedplate.image.contents import Contents
from bedplate.image.engine_features import find_architectures, find_gpu_code
from bedplate.image.engine_python import add_python, ensure_wheel_lock
from bedplate.image.engine_root import add_files, remove_globs, unpack_root
from bedplate.image.inputs import digest_builders
from bedplate.image.keys import Keys, ensure_keys
from bedplate.image.layer_disk import make_layer_disk
from bedplate.image.manifest import EngineLayer
from bedplate.image.packages import Lock, Request, ensure_packages, read_lock
from bedplate.image.recipe import EngineRecipe, architecture, read_engine_recipe, read_recipe, recipes_directory
from bedplate.image.tools import Tools, ensure_tools, read_tools
from bedplate.image.wheels import WheelLock, normalise, read_wheel_lock
from bedplate.model.layer import GpuCode
from bedplate.model.progress import Progress

_SEED_SPACE = uuid.UUID("0d3cbb4e-5c5b-4c8f-8ef5-7d2b4a5be100")
_SYSTEM_PACKAGE = re.compile(r"^(?:llama\.cpp|vllm|sglang)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that decides a layer, resolved: two builds of equal inputs are equal."""

    recipe: EngineRecipe
    lock: Lock
    wheels: WheelLock | None
    """None for an engine that is no Python program."""
    tools: Tools
    keys: Keys
    epoch: int
    """Seconds since 1970, the newest time of a file."""


def build_engine(
    paths: Paths,
    progress: Progress,
    name: str = "llamacpp",
    *,
    force: bool = False,
    update: bool = False,
    mirror: str | None = None,
) -> EngineLayer:
    """The layer of the engine recipe `name` as it stands now, built unless its inputs are unchanged.

    The unpacked tree stays in the cache too (`engine_tree`): tests use it. Raises
    BuildError, DataError or ReadError; nothing is published then.
    """
    recipes = recipes_directory()
    recipe = read_engine_recipe(recipes, name)
    epoch = read_recipe(recipes).source_date_epoch
    if not (force or update) and (layer := find_engine(paths, name)) is not None:
        return layer
    with hold_cache(paths, progress, what=f"the build of the engine {name}"):
        if not (force or update) and (layer := find_engine(paths, name)) is not None:  # made while this one waited
            return layer
        with progress.phase("tools"):
            tools = ensure_tools(paths, recipes, progress, mirror=mirror)
        with progress.phase(f"engine {name}"):
            lock = ensure_packages(paths, tools, _request(recipe), _lock_file(paths, recipe), progress, update=update)
            wheels = None
            if recipe.python is not None:
                file = _wheels_file(paths, recipe)
                wheels = ensure_wheel_lock(paths, name, recipe.python, file, progress, update=update)
            inputs = Inputs(recipe=recipe, lock=lock, wheels=wheels, tools=tools, keys=ensure_keys(paths), epoch=epoch)
            return _build(paths, progress, recipes, inputs)


def find_engine(paths: Paths, name: str = "llamacpp") -> EngineLayer | None:
    """The published layer of the present inputs, or None when something must be built or resolved first. Quick.

    A layer whose file has another size than its record says, or whose unpacked tree is of other inputs, counts as absent.
    """
    recipes = recipes_directory()
    recipe = read_engine_recipe(recipes, name)
    epoch = read_recipe(recipes).source_date_epoch
    tools = read_tools(paths, recipes)
    lock = read_lock(_lock_file(paths, recipe), _request(recipe))
    wheels = read_wheel_lock(_wheels_file(paths, recipe), recipe.python) if recipe.python is not None else None
    if tools is None or lock is None or (recipe.python is not None and wheels is None):
        return None
    if not (paths.keys / "pcr.crt").is_file():
        return None
    inputs = Inputs(recipe=recipe, lock=lock, wheels=wheels, tools=tools, keys=ensure_keys(paths), epoch=epoch)
    digest = digest_inputs(recipes, inputs)
    record = read_layer_record(paths, name)
    if record is None or record.digest != digest:
        return None
    path = paths.engines / record.file
    try:
        if path.stat().st_size != record.size_bytes or _tree_stamp(paths, name).read_text() != digest:
            return None
    except (OSError, ValueError):
        return None
    if not engine_tree(paths, name).is_dir():
        return None
    return EngineLayer(name=name, version=record.version, path=path, architectures=record.architectures, gpu=record.gpu)


def engine_tree(paths: Paths, name: str) -> Path:
    """Where the unpacked tree of a layer lies in the cache, as the last build left it; before one, nothing is there."""
    return paths.cache / "engine-tree" / name


def _tree_stamp(paths: Paths, name: str) -> Path:
    """The digest of the inputs that the unpacked tree was made from: several state directories may share a cache."""
    return paths.cache / "engine-tree" / f"{name}.digest"


def _build(paths: Paths, progress: Progress, recipes: Path, inputs: Inputs) -> EngineLayer:
    recipe = inputs.recipe
    digest = digest_inputs(recipes, inputs)
    work = paths.work / f"engine-{recipe.name}"
    if work.exists():
        shutil.rmtree(work)
    tree = work / "tree"
    tree.mkdir(parents=True)
    log = paths.logs / "engine.log"
    version = _version(inputs)
    image = work / f"{recipe.name}_{version}.raw"
    try:
        progress.detail("unpacking")
        held = unpack_root(paths, recipe, inputs.lock, tree, work / "debs", log)
        add_files(recipes, recipe, tree)
        remove_globs(tree, recipe.remove)
        if recipe.python is not None and inputs.wheels is not None:
            progress.detail(f"{len(inputs.wheels.wheels)} Python packages")
            add_python(paths, recipe, recipe.python, inputs.wheels, tree, work, log, epoch=inputs.epoch)
        progress.detail("EROFS, verity and signature")
        seed = uuid.uuid5(_SEED_SPACE, digest)
        make_layer_disk(paths, work, tree, image, inputs.keys, seed=seed, epoch=inputs.epoch, log=log)
    except CommandError as error:
        raise BuildError(f"the layer of {recipe.name} could not be built: {error.message}", hint=f"Read {log}") from error
    paths.engines.mkdir(parents=True, exist_ok=True)
    published = paths.engines / image.name
    shutil.move(image, published.with_suffix(".partial"))
    published.with_suffix(".partial").rename(published)
    kept, stamp = engine_tree(paths, recipe.name), _tree_stamp(paths, recipe.name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    if kept.exists():
        shutil.rmtree(kept)
    tree.rename(kept)
    write_whole(stamp, digest, sync=False)
    architectures, gpu = find_architectures(kept), find_gpu_code(recipe.name, kept, inputs.lock)
    layer = EngineLayer(name=recipe.name, version=version, path=published, architectures=architectures, gpu=gpu)
    record = _record(inputs, held, layer, gpu, digest=digest)
    write_whole(layer_record_file(paths, recipe.name), json.dumps(record, indent=1) + "\n", sync=True)
    shutil.rmtree(work)
    return layer


def _record(inputs: Inputs, held: tuple[Contents, ...], layer: EngineLayer, gpu: GpuCode, *, digest: str) -> dict[str, Any]:
    """The record of a layer: what its file is, and what was found in it."""
    locked = {package.name: package.sha256 for package in inputs.lock.packages}
    record: dict[str, Any] = {
        "schema": 1,
        "name": inputs.recipe.name,
        "version": layer.version,
        "digest": digest,
        "file": layer.path.name,
        "size_bytes": layer.path.stat().st_size,
        "sha256": digest_file(layer.path),
        "suite": inputs.lock.suite,
        "packages": [{"name": package.name, "version": package.version, "sha256": locked[package.name]} for package in held],
        "architectures": layer.architectures,
        "gpu": {
            "apis": gpu.apis,
            "binaries": [asdict(binary) for binary in gpu.binaries],
            "driver_floors": gpu.driver_floors,
            "toolkit": gpu.toolkit,
        },
    }
    if inputs.recipe.python is not None and inputs.wheels is not None:
        record["python"] = {
            "version": inputs.recipe.python.version,
            "packages": [asdict(wheel) for wheel in inputs.wheels.wheels],
        }
    return record


def _version(inputs: Inputs) -> str:
    """Of the engine among the packages, as upstream calls it."""
    if inputs.recipe.python is not None and inputs.wheels is not None:
        engine = normalise(re.split(r"[\[=]", inputs.recipe.python.requirements[0])[0])
        return next(wheel.version for wheel in inputs.wheels.wheels if wheel.name == engine)
    for package in inputs.lock.packages:
        if _SYSTEM_PACKAGE.match(package.name):
            return re.sub(r"^\d+:|[-+~].*$", "", package.version)
    return "0"


def _request(recipe: EngineRecipe) -> Request:
    return Request(
        suite=recipe.suite,
        packages=recipe.packages,
        kernel=None,
        accept_expired_release=recipe.accept_expired_release,
        architecture=architecture(),
        components=recipe.components,
        closure=False,
    )


def _lock_file(paths: Paths, recipe: EngineRecipe) -> Path:
    return paths.state / "locks" / f"engine-{recipe.name}.json"


def _wheels_file(paths: Paths, recipe: EngineRecipe) -> Path:
    return paths.state / "locks" / f"engine-{recipe.name}.wheels.json"


def digest_inputs(recipes: Path, inputs: Inputs) -> str:
    """SHA-256, in hex, over all that decides the layer: packages, wheels, tools, recipe, builder, certificate, time."""
    digest = hashlib.sha256(f"{inputs.lock.digest} {inputs.tools.digest} {inputs.epoch}\n".encode())
    if inputs.wheels is not None:
        digest.update(f"{inputs.wheels.digest}\n".encode())
    for file in sorted((recipes / "engines" / inputs.recipe.name).rglob("*")):
        link = file.is_symlink() and file.readlink()
        digest.update(f"{file.relative_to(recipes)} {link} {file.lstat().st_mode & 0o111:o}\n".encode())
        if file.is_file():
            digest.update(file.read_bytes())
    digest.update(digest_builders("engine").encode())
    digest.update(inputs.keys.owner_certificate.read_bytes())
    return digest.hexdigest()
