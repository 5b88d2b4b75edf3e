"""The stock arm: an ordinary Debian with the same engine and model as bedplate's image, built by the same mkosi."""

from __future__ import annotations

import shutil
from pathlib import Path
from string import Template

from bedplate.act.files import digest_file
from bedplate.act.paths import Paths
from bedplate.catalog.strict import read_toml
from bedplate.engines.llamacpp import make_launch
from bedplate.image.engine import engine_tree
from bedplate.image.manifest import EngineLayer, Image
from bedplate.image.tools import Tools
from bedplate.model.launch import ModelRef, Placement
from bedplate.model.progress import Progress
from bedplate.model.serving_host import MemoryBudget
from bedplate.model.units import GIB
from bedplate.plan.limits import plan_limits
from bench.debian import DebianRecipe, build_debian, digest_files

HERE = Path(__file__).parent
MODEL = "/models/model.gguf"
OPT = "/opt/llama.cpp"


def build_stock(
    paths: Paths, tools: Tools, layer: EngineLayer, model: ModelRef, progress: Progress, *, guest_memory_bytes: int
) -> Image:
    """The stock arm's disk, kernel and initrd, built unless its inputs are unchanged. Raises BuildError."""
    recipe = read_toml(HERE / "recipe.toml", DebianRecipe)
    arguments, environment = engine_arguments(model, cpus=(0,), guest_memory_bytes=guest_memory_bytes)

    def write_tree(tree: Path) -> None:
        copy_engine(paths, layer, model, tree)
        unit = tree / "etc/systemd/system/llama-server.service"
        unit.parent.mkdir(parents=True)
        text = (HERE / "llama-server.service").read_text()
        unit.write_text(Template(text).substitute(arguments=arguments, environment=environment))

    inputs = f"{digest_file(layer.path)} {model.sha256} {arguments} {environment} {digest_files(HERE)}"
    return build_debian(paths, tools, recipe, "stock", inputs=inputs, write_tree=write_tree, progress=progress)


def engine_arguments(model: ModelRef, *, cpus: tuple[int, ...], guest_memory_bytes: int) -> tuple[str, str]:
    """(arguments, environment) of llama-server: bedplate's own plan for these CPUs, on a port instead of a socket."""
    placement = Placement(cpus=cpus)
    memory = MemoryBudget(total_bytes=guest_memory_bytes, available_bytes=guest_memory_bytes - GIB // 4, engines_bytes=0)
    launch = make_launch(model, placement, plan_limits(model, placement, memory))
    words = list(launch.argv[1:])
    words[words.index("--model") + 1] = MODEL
    words[words.index("--host") + 1] = "0.0.0.0"
    words += ["--port", "8080"]
    return " ".join(words), " ".join(f"{name}={value}" for name, value in launch.env)


def copy_engine(paths: Paths, layer: EngineLayer, model: ModelRef, tree: Path) -> None:
    """Put the engine's files and the model into a tree, in a root of their own: they need a newer C library."""
    opt = tree / OPT.lstrip("/")
    shutil.copytree(engine_tree(paths, layer.name), opt, symlinks=True)
    target = opt / MODEL.lstrip("/")
    target.parent.mkdir()
    shutil.copyfile(model.path, target)
