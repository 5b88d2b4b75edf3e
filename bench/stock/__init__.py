"""The stock arm: an ordinary Debian disk image with the same engine and model, built by the same mkosi from a lock.

What is in it stands in recipe.toml and the files beside it; this module fills the templates and runs the build.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.catalog.strict import read_toml
from bedplate.engines.llamacpp import make_launch
from bedplate.errors import BuildError, CommandError
from bedplate.image.build import _mkosi_package
from bedplate.image.engine import engine_tree
from bedplate.image.manifest import EngineLayer, Image
from bedplate.image.packages import Request, ensure_packages, write_repository
from bedplate.image.recipe import architecture
from bedplate.image.render import render_sources
from bedplate.image.tools import Tools
from bedplate.model.host import MemoryFacts
from bedplate.model.launch import ModelRef, Placement
from bedplate.model.progress import Progress
from bedplate.model.units import GIB
from bedplate.plan.limits import plan_limits

HERE = Path(__file__).parent
_SEED_SPACE = uuid.UUID("3d5e5b4e-9a0a-4c39-9a6f-0f6b1a0c5d00")
_MODEL = "/models/model.gguf"
_OPT = "/opt/llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRecipe:
    schema: int
    suite: str
    packages: tuple[str, ...]
    kernel_command_line: tuple[str, ...]
    source_date_epoch: int


def build_stock(
    paths: Paths, tools: Tools, layer: EngineLayer, model: ModelRef, progress: Progress, *, guest_memory_bytes: int
) -> Image:
    """The stock arm's disk, kernel and initrd, built unless its inputs are unchanged.

    They come as an `Image`, so that QEMU's argv is made by the same code for both arms. Raises BuildError.
    """
    recipe = read_toml(HERE / "recipe.toml", StockRecipe)
    request = Request(
        suite=recipe.suite,
        packages=recipe.packages,
        kernel=None,
        accept_expired_release=False,
        architecture=architecture(),
    )
    lock = ensure_packages(paths, tools, request, paths.state / "locks/bench-stock.json", progress)
    arguments, environment = engine_arguments(model, guest_memory_bytes=guest_memory_bytes)
    digest = hashlib.sha256(f"{lock.digest} {tools.digest} {layer.path.name} {model.sha256} {arguments}".encode())
    for file in sorted(HERE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(HERE)}\n".encode() + file.read_bytes())
    version = digest.hexdigest()[:8]
    work = paths.cache / "bench/stock"
    if (image := _read(work, recipe, version)) is not None:
        return image
    for name in ("output", "workspace", "sandbox", "trees", "repository"):
        shutil.rmtree(work / name, ignore_errors=True)
    for name in ("output", "cache", "workspace", "package-cache"):
        (work / name).mkdir(parents=True, exist_ok=True)
    write_repository(paths, lock, work / "repository")
    sources = work / "sandbox/etc/apt/sources.list.d/mkosi.sources"
    sources.parent.mkdir(parents=True)
    sources.write_text(render_sources(work / "repository"))
    values = {
        "suite": recipe.suite,
        "repository": work / "repository",
        "work": work,
        "here": HERE,
        "tools": tools.root,
        "seed": uuid.uuid5(_SEED_SPACE, digest.hexdigest()),
        "epoch": recipe.source_date_epoch,
        "packages": _lines(recipe.packages),
        "trees": _lines((str(HERE / "tree"), str(_write_tree(paths, work, layer, model, arguments, environment)))),
        "command_line": " ".join(recipe.kernel_command_line),
    }
    for name, target in (("mkosi.conf", work / "mkosi.conf"), ("finalize", work / "finalize")):
        target.write_text(Template((HERE / name).read_text()).substitute(values))
    (work / "finalize").chmod(0o755)
    log = paths.logs / "bench-stock.log"
    log.unlink(missing_ok=True)
    mkosi = [sys.executable, "-m", "mkosi", "--directory", os.fspath(work), "--debug", "--force", "build"]
    env = {"PYTHONPATH": os.fspath(_mkosi_package(paths, tools)), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run(mkosi, timeout_s=1800, env=env, cwd=work, log=log, on_line=lambda line: progress.detail(line[:100]))
    except CommandError as error:
        raise BuildError(f"the stock arm could not be built: {error.message}", hint=f"Read {log}") from error
    packages = [{"name": one.name, "version": one.version, "sha256": one.sha256} for one in lock.packages]
    (work / "output/manifest.json").write_text(json.dumps({"version": version, "packages": packages}, indent=1) + "\n")
    for name in ("repository", "workspace", "trees"):
        shutil.rmtree(work / name)
    image = _read(work, recipe, version)
    if image is None:
        raise BuildError(f"the stock arm is not whole: {sorted(one.name for one in (work / 'output').iterdir())}")
    return image


def engine_arguments(model: ModelRef, *, guest_memory_bytes: int) -> tuple[str, str]:
    """(arguments, environment) of llama-server: bedplate's own plan for one CPU, on a port instead of a socket."""
    placement = Placement(cpus=(0,))
    memory = MemoryFacts(total_bytes=guest_memory_bytes, available_bytes=guest_memory_bytes - GIB // 4, engines_bytes=0)
    launch = make_launch(model, placement, plan_limits(model, placement, memory))
    words = list(launch.argv[1:])
    words[words.index("--model") + 1] = _MODEL
    words[words.index("--host") + 1] = "0.0.0.0"
    words += ["--port", "8080"]
    return " ".join(words), " ".join(f"{name}={value}" for name, value in launch.env)


def _write_tree(paths: Paths, work: Path, layer: EngineLayer, model: ModelRef, arguments: str, environment: str) -> Path:
    tree = work / "trees/engine"
    opt = tree / _OPT.lstrip("/")
    shutil.copytree(engine_tree(paths, layer.name), opt, symlinks=True)
    target = opt / _MODEL.lstrip("/")
    target.parent.mkdir()
    shutil.copyfile(model.path, target)
    unit = tree / "etc/systemd/system/llama-server.service"
    unit.parent.mkdir(parents=True)
    text = (HERE / "llama-server.service").read_text()
    unit.write_text(Template(text).substitute(arguments=arguments, environment=environment))
    return tree


def _read(work: Path, recipe: StockRecipe, version: str) -> Image | None:
    output = work / "output"
    manifest = output / "manifest.json"
    if not manifest.is_file() or json.loads(manifest.read_text())["version"] != version:
        return None
    return Image(
        version=f"stock-{version}",
        directory=output,
        raw=output / "debian-stock.raw",
        uki=output / "debian-stock.vmlinuz",  # it has none
        kernel=output / "debian-stock.vmlinuz",
        initrd=output / "debian-stock.initrd",
        cmdline=" ".join(recipe.kernel_command_line),
        manifest=manifest,
    )


def _lines(values: tuple[str, ...]) -> str:
    return "".join(f"\n        {value}" for value in values)
