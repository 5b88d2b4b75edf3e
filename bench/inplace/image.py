"""The guest's disk, kernel and initrd."""

from __future__ import annotations

import shutil
from pathlib import Path

import bedplate
from bedplate.act.files import digest_file
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.catalog.strict import read_toml
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.engine import build_engine
from bedplate.image.manifest import Image
from bedplate.image.recipe import recipes_directory
from bedplate.image.tools import ensure_tools
from bedplate.model.progress import Progress
from bedplate.weights.store import Store
from bench.debian import DebianRecipe, build_debian, digest_files
from bench.stock import OPT, copy_engine

HERE = Path(__file__).parent
_MOUNT_POINTS = ("scratch", "share", "data", f"{OPT[1:]}/scratch", f"{OPT[1:]}/data")


def build_inplace(paths: Paths, progress: Progress) -> Image:
    """The image, built unless its inputs are unchanged, with the tools and the engine that it needs. Raises BuildError."""
    recipe = read_toml(HERE / "recipe.toml", DebianRecipe)
    layer = build_engine(paths, progress, mirror=find_mirror())
    with hold_cache(paths, progress, what="the making of the build tools"):
        tools = ensure_tools(paths, recipes_directory(), progress, mirror=find_mirror())
    shipped = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
    model = Store(paths.cache / "bench/models").add(shipped, progress=progress, name="known-answer", overwrite=True)

    def write_tree(tree: Path) -> None:
        copy_engine(paths, layer, model, tree)
        shutil.copytree(HERE / "tree", tree, symlinks=True, dirs_exist_ok=True)
        for point in _MOUNT_POINTS:
            (tree / point).mkdir(parents=True)

    inputs = f"{digest_file(layer.path)} {model.sha256} {digest_files(HERE / 'tree')} {_MOUNT_POINTS}"
    with progress.phase("an ordinary Debian 13"):
        return build_debian(paths, tools, recipe, "inplace", inputs=inputs, write_tree=write_tree, progress=progress)
