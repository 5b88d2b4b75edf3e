"""`bedplate fit` against what llama-server allocates, by its own log: each part, for models whose caches differ."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.catalog.shapes import find_shape
from bedplate.engines.llamacpp import make_launch
from bedplate.flows.fit import read_fit_model
from bedplate.host.kernel.cpuinfo import has_amx, read_cpuinfo
from bedplate.host.root.root import Root
from bedplate.model.fit import FitTarget, MemoryParts
from bedplate.model.launch import Limits, Placement
from bedplate.model.units import MIB
from bedplate.plan.cache import PROCESS_BYTES
from bedplate.plan.fit import memory_parts
from bedplate.weights.random_model import Quant, write_random_model
from bedplate.weights.source import find_source
from tests.effort import wait_until
from tests.serving import cache_zoo, zoo
from tests.serving.conftest import LIBRARIES, in_tree, model_ref
from tests.unit.store_cases import Heard

ENGINES = read_fit_engines()
LLAMACPP = next(row for row in ENGINES.engine if row.id == "llamacpp")
AMX = has_amx(read_cpuinfo(Root()).flags)
HOST = FitTarget(
    name="host",
    row=None,
    count=1,
    memory_bytes=1 << 40,
    engines=("llamacpp",),
    host_memory=True,
    reserve_bytes=1,
    amx=AMX,
)


def write_small(path: Path) -> Path:
    """As SmolLM2 135M, in a quantised type that the engine repacks."""
    write_random_model(path, find_shape("smollm2-135m"), Quant.Q4_0, seed=1, progress=Heard())
    return path


SHAPES: dict[str, Callable[[Path], Path]] = {
    "shipped": lambda path: zoo.write_known_answer(path),
    "grouped queries": cache_zoo.write_grouped,
    "sliding window": cache_zoo.write_windowed,
    "latent attention": cache_zoo.write_latent,
    "recurrent states": cache_zoo.write_hybrid,
    "large vocabulary": write_small,
}


def read(log: Path) -> str:
    return log.read_text(errors="replace")


def allocated(tree: Path, file: Path, limits: Limits, directory: Path) -> dict[str, float]:
    """Bytes by what they are for, as the engine logs them when it is started as bedplate starts it."""
    model = dataclasses.replace(model_ref("m", file), architecture=find_source(file).header.architecture)
    launch = make_launch(model, Placement(cpus=(0, 1), amx=AMX), limits)
    argv = [str(file) if word.endswith("/m") else word for word in launch.argv]
    argv[argv.index("--host") + 1] = str(directory / "s.sock")
    argv[argv.index("--model") + 1] = str(file)
    argv[argv.index("--log-verbosity") + 1] = "4"
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*in_tree(tree, "usr/bin/llama-server", "llama"), *argv[1:]],
            cwd=tree / LIBRARIES / "ggml/backends0",
            env={"PATH": os.defpath, **dict(launch.env)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: "compute buffer size" in read(log) or process.poll() is not None, "it has allocated all")
        assert process.poll() is None, read(log)[-2000:]
    finally:
        process.kill()
        process.wait()
    found: dict[str, float] = {}
    # A CPU with AMX has the weights in a buffer of its own.
    for name, mib in re.findall(r"(?:CPU|AMX)\w* +(\w+|) ?(?:buffer) size = +([\d.]+) MiB", read(log)):
        found[name] = found.get(name, 0.0) + float(mib) * MIB
    return found


def computed(file: Path, limits: Limits) -> MemoryParts:
    model = read_fit_model(str(file), ENGINES)
    return memory_parts(
        model, model.weights[0], HOST, LLAMACPP, context=limits.context, sequences=limits.parallel, devices=1
    )


@pytest.mark.parametrize("context", [512, 8192])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_part_is_what_the_engine_allocates(
    shape: str, context: int, engine_tree: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Within 5 %, and all together within 2 %; the log rounds to a hundredth of a MiB."""
    file = SHAPES[shape](tmp_path / "m")
    limits = Limits(context=context, parallel=4, memory_bytes=1 << 32)
    real = allocated(engine_tree, file, limits, tmp_path_factory.mktemp("s"))
    ours = computed(file, limits)
    rounding = 0.02 * MIB
    assert ours.kv_bytes == pytest.approx(real["KV"], rel=0.001, abs=rounding)
    assert ours.state_bytes == pytest.approx(real.get("RS", 0.0), rel=0.01, abs=rounding)
    assert ours.buffers_bytes == pytest.approx(real["compute"] + real["output"], rel=0.05, abs=rounding)
    assert ours.weights_bytes == pytest.approx(real["model"], rel=0.05, abs=rounding)
    assert ours.runtime_bytes == PROCESS_BYTES
    whole = ours.kv_bytes + ours.state_bytes + ours.buffers_bytes + ours.weights_bytes
    assert whole == pytest.approx(sum(real.values()), rel=0.02)
