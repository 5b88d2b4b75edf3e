"""An engine layer: the packages of an engine, unpacked without their scripts, as a verity-protected and signed disk image.

It is what `RootImage=` of the engine's unit mounts. Engines of different ages live side by side on one kernel this way,
none of them in the base. Why not a sysext or a container: docs/decisions, "engine as a portable layer".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.image.keys import Keys, ensure_keys
from bedplate.image.manifest import EngineLayer
from bedplate.image.packages import Lock, Request, ensure_packages, pool, read_lock
from bedplate.image.recipe import EngineRecipe, architecture, read_engine_recipe, read_recipe, recipes_directory
from bedplate.image.tools import Tools, ensure_tools, read_tools, tools_command
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
    with progress.phase("tools"):
        tools = ensure_tools(paths, recipes, progress, mirror=mirror)
    with progress.phase(f"engine {name}"):
        lock = ensure_packages(paths, tools, _request(recipe), _lock_file(paths, recipe), progress, update=update)
        keys = ensure_keys(paths)
        digest = _digest(recipes, recipe, lock, tools, keys)
        return _build(paths, progress, recipes, recipe, lock, tools, keys, digest=digest, epoch=epoch)


def find_engine(paths: Paths, name: str = "llamacpp") -> EngineLayer | None:
    """The published layer of the present inputs, or None when something must be built or resolved first. Quick."""
    recipes = recipes_directory()
    recipe = read_engine_recipe(recipes, name)
    tools = read_tools(paths, recipes)
    lock = read_lock(_lock_file(paths, recipe), _request(recipe))
    if tools is None or lock is None or not (paths.keys / "pcr.crt").is_file():
        return None
    digest = _digest(recipes, recipe, lock, tools, ensure_keys(paths))
    try:
        record = json.loads((paths.engines / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    path = paths.engines / str(record.get("file"))
    if record.get("digest") != digest or not path.is_file() or not engine_tree(paths, name).is_dir():
        return None
    return EngineLayer(name=name, version=record["version"], path=path)


def engine_tree(paths: Paths, name: str) -> Path:
    """Where the unpacked tree of a layer lies."""
    return paths.cache / "engine-tree" / name


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
    packages = sorted(lock.packages, key=lambda one: (one.name != "base-files", one.name))
    try:
        for package in packages:
            run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / package.file, tree]), timeout_s=300, log=log)
        _trim(recipes, recipe, tree)
        progress.detail("EROFS, verity and signature")
        image = work / f"{recipe.name}_{version}.raw"
        _make_disk(paths, work, tree, image, keys, seed=uuid.uuid5(_SEED_SPACE, digest), epoch=epoch, log=log)
    except CommandError as error:
        raise BuildError(f"the layer of {recipe.name} could not be built: {error.message}", hint=f"Read {log}") from error
    paths.engines.mkdir(parents=True, exist_ok=True)
    published = paths.engines / image.name
    shutil.move(image, published.with_suffix(".partial"))
    published.with_suffix(".partial").rename(published)
    kept = engine_tree(paths, recipe.name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        shutil.rmtree(kept)
    tree.rename(kept)
    record = {
        "schema": 1,
        "name": recipe.name,
        "version": version,
        "digest": digest,
        "file": published.name,
        "suite": lock.suite,
        "packages": [{"name": one.name, "version": one.version, "sha256": one.sha256} for one in lock.packages],
    }
    partial = paths.engines / f".{recipe.name}.json.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.rename(paths.engines / f"{recipe.name}.json")
    shutil.rmtree(work)
    return EngineLayer(name=recipe.name, version=version, path=published)


def _trim(recipes: Path, recipe: EngineRecipe, tree: Path) -> None:
    additions = recipes / "engines" / recipe.name / "tree"
    if additions.is_dir():
        shutil.copytree(additions, tree, symlinks=True, dirs_exist_ok=True)
    for pattern in recipe.remove:
        for found in sorted(tree.glob(pattern.lstrip("/"))):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()


def _make_disk(
    paths: Paths, work: Path, tree: Path, image: Path, keys: Keys, *, seed: uuid.UUID, epoch: int, log: Path
) -> None:
    definitions = work / "repart"
    definitions.mkdir()
    head = "[Partition]\n"
    (definitions / "10-root.conf").write_text(
        head + "Type=root\nFormat=erofs\nCompression=lz4hc\nCompressionLevel=9\nCopyFiles=/\nMinimize=best\n"
        "Verity=data\nVerityMatchKey=root\n"
    )
    (definitions / "20-verity.conf").write_text(head + "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n")
    (definitions / "30-signature.conf").write_text(head + "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n")
    argv: list[str | os.PathLike[str]] = ["systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no"]
    argv += ["--seed", str(seed), "--definitions", definitions, "--copy-source", tree, "--no-pager"]
    argv += ["--private-key", keys.owner_key, "--certificate", keys.owner_certificate, image]
    words = tools_command(paths, argv)
    run(words, timeout_s=900, log=log, env={"SOURCE_DATE_EPOCH": str(epoch)})


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


def _digest(recipes: Path, recipe: EngineRecipe, lock: Lock, tools: Tools, keys: Keys) -> str:
    digest = hashlib.sha256(f"{lock.digest} {tools.digest}\n".encode())
    for file in sorted((recipes / "engines" / recipe.name).rglob("*")):
        digest.update(f"{file.relative_to(recipes)} {file.is_symlink() and file.readlink()}\n".encode())
        if file.is_file():
            digest.update(file.read_bytes())
    digest.update(Path(__file__).read_bytes())
    digest.update(keys.owner_certificate.read_bytes())
    return digest.hexdigest()
