"""An engine layer: the packages of an engine, unpacked without their scripts, as a verity-protected and signed disk image.

It is what bedplate-layer@.service mounts and an engine has as its root. Engines of different ages live side by side on one
kernel this way, none of them in the base. Why not a sysext or a container: docs/decisions, "engine as a portable layer".
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.image.contents import Contents, find_changed_files, find_differences, read_debs, verify_contents
from bedplate.image.engine_features import find_architectures
from bedplate.image.inputs import digest_builders
from bedplate.image.keys import Keys, ensure_keys
from bedplate.image.layer_disk import make_layer_disk
from bedplate.image.manifest import EngineLayer, hash_range
from bedplate.image.packages import Lock, Request, ensure_packages, pool, read_lock
from bedplate.image.recipe import EngineRecipe, architecture, read_engine_recipe, read_recipe, recipes_directory
from bedplate.image.tools import Tools, ensure_tools, read_tools, tools_command
from bedplate.image.trees import set_modes
from bedplate.model.progress import Progress

_SEED_SPACE = uuid.UUID("0d3cbb4e-5c5b-4c8f-8ef5-7d2b4a5be100")
_SYSTEM_PACKAGE = re.compile(r"^(?:llama\.cpp|vllm|sglang)")


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
            keys = ensure_keys(paths)
            digest = _digest(recipes, recipe, lock, tools, keys, epoch=epoch)
            return _build(paths, progress, recipes, recipe, lock, tools, keys, digest=digest, epoch=epoch)


def find_engine(paths: Paths, name: str = "llamacpp") -> EngineLayer | None:
    """The published layer of the present inputs, or None when something must be built or resolved first. Quick.

    A layer whose file has another size than its record says, or whose unpacked tree is of other inputs, counts as absent.
    """
    recipes = recipes_directory()
    recipe = read_engine_recipe(recipes, name)
    epoch = read_recipe(recipes).source_date_epoch
    tools = read_tools(paths, recipes)
    lock = read_lock(_lock_file(paths, recipe), _request(recipe))
    if tools is None or lock is None or not (paths.keys / "pcr.crt").is_file():
        return None
    digest = _digest(recipes, recipe, lock, tools, ensure_keys(paths), epoch=epoch)
    try:
        record = json.loads((paths.engines / f"{name}.json").read_text())
        path = paths.engines / record["file"]
        if record["digest"] != digest or path.stat().st_size != record["size_bytes"]:
            return None
        if _tree_stamp(paths, name).read_text() != digest or not engine_tree(paths, name).is_dir():
            return None
        known = tuple(record["architectures"])
        return EngineLayer(name=name, version=record["version"], path=path, architectures=known)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def engine_tree(paths: Paths, name: str) -> Path:
    """Where the unpacked tree of a layer lies in the cache, as the last build left it; before one, nothing is there."""
    return paths.cache / "engine-tree" / name


def _tree_stamp(paths: Paths, name: str) -> Path:
    """The digest of the inputs that the unpacked tree was made from: several state directories may share a cache."""
    return paths.cache / "engine-tree" / f"{name}.digest"


def _build(
    paths: Paths,
    progress: Progress,
    recipes: Path,
    recipe: EngineRecipe,
    lock: Lock,
    tools: Tools,
    keys: Keys,
    *,
    digest: str,
    epoch: int,
) -> EngineLayer:
    work = paths.work / f"engine-{recipe.name}"
    if work.exists():
        shutil.rmtree(work)
    tree = work / "tree"
    tree.mkdir(parents=True)
    log = paths.logs / "engine.log"
    version = _version(lock)
    progress.detail("unpacking")
    # base-files first: its links /bin -> usr/bin must be there before anything lands in /bin.
    packages = sorted(lock.packages, key=lambda package: (package.name != "base-files", package.name))
    try:
        for package in packages:
            run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / package.file, tree]), timeout_s=300, log=log)
        held = _read_held(paths, recipe, lock, tree, work / "debs")
        _trim(recipes, recipe, tree)
        progress.detail("EROFS, verity and signature")
        image = work / f"{recipe.name}_{version}.raw"
        make_layer_disk(paths, work, tree, image, keys, seed=uuid.uuid5(_SEED_SPACE, digest), epoch=epoch, log=log)
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
    architectures = find_architectures(kept)
    locked = {package.name: package.sha256 for package in lock.packages}
    record = {
        "schema": 1,
        "name": recipe.name,
        "version": version,
        "digest": digest,
        "file": published.name,
        "size_bytes": published.stat().st_size,
        "sha256": hash_range(published, 0, published.stat().st_size),
        "suite": lock.suite,
        "packages": [{"name": package.name, "version": package.version, "sha256": locked[package.name]} for package in held],
        "architectures": architectures,
    }
    write_whole(paths.engines / f"{recipe.name}.json", json.dumps(record, indent=1) + "\n", sync=True)
    shutil.rmtree(work)
    return EngineLayer(name=recipe.name, version=version, path=published, architectures=architectures)


def _read_held(paths: Paths, recipe: EngineRecipe, lock: Lock, tree: Path, work: Path) -> tuple[Contents, ...]:
    """The packages whose files are in the unpacked tree; raises BuildError where that is not what the lock says."""
    debs = read_debs(paths, lock, work)
    differences = (*find_differences(lock, debs, debs), *find_changed_files(tree, debs))
    verify_contents(f"the layer of {recipe.name}", differences, hint="Build again: bedplate image build --force")
    return debs


def _trim(recipes: Path, recipe: EngineRecipe, tree: Path) -> None:
    additions = recipes / "engines" / recipe.name / "tree"
    if additions.is_dir():
        shutil.copytree(additions, tree, symlinks=True, dirs_exist_ok=True)
        set_modes(tree, like=additions)
    for pattern in recipe.remove:
        for found in sorted(tree.glob(pattern.lstrip("/"))):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()


def _version(lock: Lock) -> str:
    for package in lock.packages:
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
        closure=False,
    )


def _lock_file(paths: Paths, recipe: EngineRecipe) -> Path:
    return paths.state / "locks" / f"engine-{recipe.name}.json"


def _digest(recipes: Path, recipe: EngineRecipe, lock: Lock, tools: Tools, keys: Keys, *, epoch: int) -> str:
    """SHA-256 over everything that decides the layer: packages, tools, recipe, tree, builder, certificate, time."""
    digest = hashlib.sha256(f"{lock.digest} {tools.digest} {epoch}\n".encode())
    for file in sorted((recipes / "engines" / recipe.name).rglob("*")):
        link = file.is_symlink() and file.readlink()
        digest.update(f"{file.relative_to(recipes)} {link} {file.lstat().st_mode & 0o111:o}\n".encode())
        if file.is_file():
            digest.update(file.read_bytes())
    digest.update(digest_builders("engine").encode())
    digest.update(keys.owner_certificate.read_bytes())
    return digest.hexdigest()
