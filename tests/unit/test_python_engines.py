"""Engines in Python: their launches, which model goes to which engine, and what the image adds to their processes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.golden_file import compare

from bedplate.act.serving import compare_serving, read_plans, remove_engines, render_environment, write_engines
from bedplate.catalog.protocol import read_protocol
from bedplate.engines import ENGINES, engines_for
from bedplate.engines.vllm import compute_threads
from bedplate.errors import ModelRefused
from bedplate.flows.serve import choose_engine, find_serving
from bedplate.front.routes import ENGINE_PATHS
from bedplate.host.kernel.engines import find_engine
from bedplate.host.root.root import Root
from bedplate.model.engine_names import ENGINE_NAMES
from bedplate.model.instance import ENGINE_SETTINGS
from bedplate.model.launch import Format, Limits, ModelRef, ModelTask, Placement
from bedplate.model.serving_host import MemoryBudget
from bedplate.model.units import GIB, MIB
from bedplate.plan.limits import plan_limits
from bedplate.weights.index import render_index

IMAGE = Path(__file__).parents[2] / "image/os/common"
HOST = Path(__file__).parents[1] / "machines/serving-host"
PYTHON_ENGINES = ("vllm", "transformers")
FOUR = Placement(cpus=(0, 1, 2, 3))


def make_model(**wished: object) -> ModelRef:
    fields: dict[str, object] = {
        "name": "Qwen/Qwen3-0.6B",
        "sha256": "1" * 64,
        "path": "trees/" + "1" * 64,
        "format": Format.SAFETENSORS,
        "size_bytes": 1_503_300_328,
        "architecture": "qwen3",
        "parameters": 751_632_384,
        "quantisation": "BF16",
        "context_length": 40960,
        "kv_bytes_per_token": 114_688,
    }
    return ModelRef(**{**fields, **wished})  # type: ignore[arg-type]


def make_limits(engine: str, model: ModelRef, available_bytes: int = 16 * GIB) -> Limits:
    memory = MemoryBudget(total_bytes=32 * GIB, available_bytes=available_bytes, engines_bytes=0)
    return plan_limits(model, FOUR, memory, footprint=ENGINES[engine].footprint)


@pytest.mark.parametrize("engine", PYTHON_ENGINES)
def test_the_launch_is_as_it_was_reviewed(engine: str) -> None:
    model = make_model()
    launch = ENGINES[engine].make_launch(model, FOUR, make_limits(engine, model))
    text = [
        f"drop-in: {launch.drop_in}",
        f"memory: {launch.memory_bytes}",
        f"probe: POST {launch.probe.path} {launch.probe.body}",
        f"heartbeat: GET {launch.probe.heartbeat} within {launch.probe.deadline_s:.1f} s",
        *launch.argv,
        *(f"{name}={value}" for name, value in launch.env),
    ]
    compare(f"launch-{engine}.txt", "\n".join(text) + "\n")
    assert render_environment(launch), "systemd takes it"
    assert find_engine(launch.argv) == engine, "doctor and tune find it by its command line"
    assert launch.probe.expect in '{"usage":{"completion_tokens":1,"prompt_tokens":2}}'


def test_vllm_is_given_the_cache_that_was_planned_and_room_for_the_probe() -> None:
    model = make_model(kv_bytes_per_token=1000)
    limits = make_limits("vllm", model)
    argv = ENGINES["vllm"].make_launch(model, FOUR, limits).argv
    assert (limits.context, limits.parallel) == (8192, 4)
    assert limits.kv_bytes == 1000 * (4 * 8192 + 2 * 128)
    assert argv[argv.index("--kv-cache-memory-bytes") + 1] == str(limits.kv_bytes)
    assert argv[argv.index("--max-num-seqs") + 1] == "5"
    assert limits.memory_bytes > limits.kv_bytes + model.size_bytes + 1700 * MIB


@pytest.mark.parametrize(
    ("cpus", "quota", "threads"), [(1, None, 1), (2, None, 2), (3, None, 2), (64, None, 63), (8, 4.0, 3)]
)
def test_vllm_leaves_a_cpu_to_its_server_where_there_are_three(cpus: int, quota: float | None, threads: int) -> None:
    assert compute_threads(Placement(cpus=tuple(range(cpus)), cpu_quota=quota)) == threads


def test_transformers_gets_one_request_at_once_and_time_for_a_whole_prompt() -> None:
    model = make_model()
    limits = make_limits("transformers", model)
    assert limits.parallel == 1
    launch = ENGINES["transformers"].make_launch(model, FOUR, limits)
    stuck_s = float(launch.argv[launch.argv.index("--stuck-s") + 1])
    assert stuck_s == pytest.approx(10 + 2 * model.parameters * limits.context / (5e9 * 4), abs=1)
    assert launch.probe.deadline_s < 60 < stuck_s, "a process that is stopped is seen sooner: nothing answers"


def test_engine_names_and_paths_are_those_of_the_table_and_of_the_protocol() -> None:
    assert tuple(ENGINES) == ENGINE_NAMES == tuple(ENGINE_PATHS)
    for engine, tasks in ENGINE_PATHS.items():
        rows = {path for row in read_protocol() if row.engine == engine for path in row.paths}
        assert rows == {path for paths in tasks.values() for path in paths}, engine


@pytest.mark.parametrize(
    ("wished", "wanted", "says"),
    [
        ({"format": Format.GGUF}, "vllm", "vllm does not read gguf: llamacpp reads gguf; vllm reads safetensors"),
        ({}, "llamacpp", "llamacpp does not read safetensors"),
        ({}, "sglang", "got the engine 'sglang', expected one of llamacpp, vllm, transformers"),
    ],
)
def test_an_engine_that_cannot_read_a_model_is_refused_by_name(wished: dict[str, object], wanted: str, says: str) -> None:
    with pytest.raises(ModelRefused, match=says) as refused:
        engines_for(make_model(**wished), wanted=wanted)
    assert refused.value.hint


@pytest.mark.parametrize("engine", PYTHON_ENGINES)
@pytest.mark.parametrize(
    ("wished", "known", "says"),
    [
        ({"architecture": "unknown"}, (), "is a single safetensors file"),
        ({"architecture": "bert"}, (), "'bert' makes vectors"),
        ({"task": ModelTask.RERANK}, (), "makes vectors"),
        ({}, ("llama",), "does not know the architecture 'qwen3'"),
    ],
)
def test_a_model_that_an_engine_cannot_serve_is_refused(
    engine: str, wished: dict[str, object], known: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ModelRefused, match=says):
        ENGINES[engine].check_model(make_model(**wished), known, {"BF16"})
    ENGINES[engine].check_model(make_model(), known and ("qwen3",), {"BF16"})


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The recorded host with one directory of safetensors, whose memory suffices."""
    host = Path(shutil.copytree(HOST, tmp_path / "host"))
    small = make_model(size_bytes=5_000_000, parameters=2_500_000, kv_bytes_per_token=1536, context_length=512)
    (host / "run/bedplate/models/index.json").write_text(render_index([small]))
    (host / "run/bedplate/models" / small.path).mkdir(parents=True)
    meminfo = host / "proc/meminfo"
    lines = [
        f"{line.split(':')[0]}: 16000000 kB" if line.startswith(("MemTotal", "MemAvail")) else line
        for line in meminfo.read_text().splitlines()
    ]
    meminfo.write_text("\n".join(lines) + "\n")
    return host


def add_layer(host: Path, engine: str) -> None:
    layers = host / "var/lib/bedplate/engines"
    layers.mkdir(parents=True, exist_ok=True)
    (layers / f"{engine}_1.0.raw").write_text("")


def served_by(host: Path) -> list[str]:
    return [service.engine for service in find_serving(Root(host), port=8080, affinity=None).services]


def test_the_engine_whose_layer_is_there_serves_and_vllm_is_preferred(host: Path) -> None:
    root, model = Root(host), make_model()
    with pytest.raises(ModelRefused) as refused:
        choose_engine(root, model)
    message = refused.value.message
    assert "no engine of this host can serve safetensors" in message
    assert "no disk has the serial bp-vllm" in message and "no disk has the serial bp-transformers" in message
    add_layer(host, "transformers")
    assert choose_engine(root, model)[0].name == "transformers"
    add_layer(host, "vllm")
    assert choose_engine(root, model) == (ENGINES["vllm"], "/var/lib/bedplate/engines/vllm_1.0.raw")
    assert choose_engine(root, model, wanted="transformers")[0].name == "transformers"


def test_machine_toml_chooses_the_engine_of_a_model(host: Path) -> None:
    for engine in PYTHON_ENGINES:
        add_layer(host, engine)
    assert served_by(host) == ["vllm"]
    config = host / "etc/bedplate/machine.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[[serve.model]]\nname = "Qwen/Qwen3-0.6B"\nengine = "transformers"\n')
    assert served_by(host) == ["transformers"]
    config.write_text('[[serve.model]]\nname = "Qwen/Qwen3-0.6B"\nengine = "llamacpp"\n')
    found = find_serving(Root(host), port=8080, affinity=None)
    assert [problem.message for problem in found.problems if "does not read" in problem.message]


def test_the_unit_gets_the_drop_in_of_its_engine_and_loses_it_with_another(host: Path) -> None:
    root = Root(host)
    add_layer(host, "transformers")
    served = find_serving(root, port=8080, affinity=None).served
    write_engines(root, served)
    (directory,) = host.glob("run/systemd/system/bedplate-engine@Qwen_Qwen3-0.6B-*.service.d")
    link = directory / "10-engine.conf"
    assert str(link.readlink()) == f"{ENGINE_SETTINGS}/transformers.conf"
    (plan,) = read_plans(root).values()
    assert (plan.engine, plan.limits.parallel) == ("transformers", 1)
    assert len(compare_serving(root, served).same) == 1
    add_layer(host, "vllm")
    other = find_serving(root, port=8080, affinity=None).served
    assert len(compare_serving(root, other).changed) == 1
    assert other[0].plan.limits.parallel > 1, "the limits of one engine are not those of another"
    write_engines(root, other)
    assert str(link.readlink()) == f"{ENGINE_SETTINGS}/vllm.conf"
    write_engines(root, [replace(other[0], launch=replace(other[0].launch, drop_in=""))])
    assert not link.is_symlink()
    write_engines(root, other)
    remove_engines(root, [link.parent.name.removeprefix("bedplate-engine@").removesuffix(".service.d")])
    assert not link.is_symlink()


@pytest.mark.parametrize("engine", PYTHON_ENGINES)
def test_the_files_that_a_launch_names_are_in_the_image(engine: str) -> None:
    launch = ENGINES[engine].make_launch(make_model(), FOUR, make_limits(engine, make_model()))
    settings = (IMAGE / launch.drop_in.lstrip("/")).read_text()
    assert f"BindReadOnlyPaths={ENGINE_SETTINGS}:/run/bedplate/engine.d" in settings
    assert f"ExecStart=@{launch.argv[0]} $BEDPLATE_ENGINE_ARGV" in settings
    for word in launch.argv:
        if word.startswith("/run/bedplate/engine.d/"):
            assert (IMAGE / ENGINE_SETTINGS.lstrip("/") / Path(word).name).is_file()


def load(name: str) -> ModuleType:
    """A module that runs in an engine's process, with what it has of the standard library alone."""
    spec = importlib.util.spec_from_file_location(name, IMAGE / ENGINE_SETTINGS.lstrip("/") / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(app: Callable[..., Awaitable[None]], path: str, state: object = None) -> list[dict[str, Any]]:
    """What an ASGI application sends for a GET."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {}

    scope = {"type": "http", "path": path, "app": SimpleNamespace(state=state)}
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize(("raises", "status"), [(None, 200), (RuntimeError("EngineDeadError"), 503)])
def test_the_heartbeat_of_vllm_asks_the_core_and_passes_everything_else_on(raises: Exception | None, status: int) -> None:
    asked: list[str] = []

    async def is_sleeping() -> bool:
        asked.append("core")
        if raises is not None:
            raise raises
        return False

    async def server(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])

    app = load("bedplate_vllm").Heartbeat(server)
    state = SimpleNamespace(engine_client=SimpleNamespace(is_sleeping=is_sleeping))
    assert ask(app, "/bedplate/heartbeat", state)[0]["status"] == status
    assert ask(app, "/health", state) == []
    assert asked == ["core", "/health"]


def test_a_stream_of_transformers_ends_with_done_and_other_answers_do_not() -> None:
    def server(kind: bytes) -> Callable[..., Awaitable[None]]:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return answer

    module = load("bedplate_transformers")

    def body(kind: bytes) -> bytes:
        return b"".join(message.get("body", b"") for message in ask(module.Ending(server(kind)), "/"))

    assert body(b"text/event-stream; charset=utf-8") == b"data: {}\n\ndata: [DONE]\n\n"
    assert body(b"application/json") == b"data: {}\n\n"


def test_transformers_is_stuck_when_it_generates_and_no_pass_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("bedplate_transformers")
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    progress = module.Progress(12.0)
    seen = []

    def generate() -> str:
        nonlocal now
        seen.append(progress.is_stuck())
        now += 13
        seen.append(progress.is_stuck())
        progress.tick()
        seen.append(progress.is_stuck())
        return "text"

    now += 1000
    assert not progress.is_stuck(), "nothing is generated"
    assert progress.watch(generate)() == "text"
    now += 1000
    assert (seen, progress.is_stuck()) == ([False, True, False], False)
    with pytest.raises(ZeroDivisionError):
        progress.watch(lambda: 1 / 0)()
    now += 1000
    assert not progress.is_stuck(), "what failed does not run any more"


def test_the_record_of_serving_names_the_engine(host: Path) -> None:
    add_layer(host, "vllm")
    found = find_serving(Root(host), port=8080, affinity=None)
    (row,) = json.loads(json.dumps(found.make_record()))["models"]
    assert (row["engine"], row["layer"], row["argv"][0]) == (
        "vllm",
        "/var/lib/bedplate/engines/vllm_1.0.raw",
        "/usr/bin/python3.11",
    )
