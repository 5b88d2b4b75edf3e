"""vLLM and transformers serve behind the real HAProxy: known answers, each row of the protocol, errors, and a stuck engine.

They are no part of an image here: BEDPLATE_PYTHON_ENGINES names a directory with the site directories `vllm` and
`transformers` (docs/how-to/python-engines.md makes it), which the Python that runs them can import.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.paths import find_paths
from bedplate.catalog.facts import read_facts
from bedplate.catalog.protocol import read_protocol, read_request_script
from bedplate.engines import ENGINES
from bedplate.engines.client import Chat, Endpoint, fetch, list_models, stream_answer
from bedplate.engines.python_site import PROGRAM, SITE
from bedplate.front.haproxy import render_haproxy
from bedplate.front.routes import FrontLimits, make_route
from bedplate.front.script import render_script
from bedplate.model.instance import ENGINE_SETTINGS, SHOWN_SETTINGS, model_file_of
from bedplate.model.launch import Format, Launch, ModelRef, Placement
from bedplate.model.protocol import ParameterEffect, ParameterRow
from bedplate.model.serving_host import MemoryBudget
from bedplate.model.units import GIB
from bedplate.plan.limits import plan_limits
from bedplate.weights.known_answer_transformers import convert_known_answer
from bedplate.weights.safetensors import read_safetensors_directory
from tests.effort import wait_until
from tests.golden_file import compare
from tests.serving.conftest import Answer, in_tree
from tests.serving.test_protocol import OF_ANOTHER_KIND, answer_of, find, with_value

SITES = Path(os.environ.get("BEDPLATE_PYTHON_ENGINES", "/nonexistent"))
pytestmark = [
    pytest.mark.long,
    pytest.mark.build,
    pytest.mark.skipif(not SITES.is_dir(), reason="BEDPLATE_PYTHON_ENGINES names no directory with vllm and transformers"),
]

NAMES = {"vllm": "known-answer", "transformers": "Lab/known:v1"}
"""Engine -> the model that it serves; the second has an instance name that is not its own."""
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTION = "What is TTFT?"
FACTS = read_facts()
IMAGE = Path(__file__).parents[2] / "image/os/common"
ROWS = [(path, row) for row in read_protocol() if row.engine in NAMES for path in row.paths]


def request_of(engine: str, path: str) -> dict[str, object]:
    """The smallest request of a path, whose answer is a fact."""
    base: dict[str, object] = {"model": NAMES[engine], "max_tokens": 48, "temperature": 0}
    if path == CHAT:
        return {**base, "messages": [{"role": "user", "content": QUESTION}]}
    return {**base, "prompt": f"<|user|>{QUESTION}<|answer|>"}


class Bench:
    """Both engines with the launches that a machine would have, and the front before them."""

    def __init__(self, directory: Path, haproxy: list[str]) -> None:
        self._directory = directory
        self.launches: dict[str, Launch] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        model_directory = directory / "model"
        convert_known_answer(model_directory)
        header = read_safetensors_directory(model_directory)
        routes = []
        for number, (engine, name) in enumerate(NAMES.items()):
            model = ModelRef(
                name=name,
                sha256="0" * 64,
                path=str(model_directory),
                format=Format.SAFETENSORS,
                size_bytes=header.size_bytes,
                architecture=header.architecture,
                parameters=header.parameters,
                quantisation=header.quantisation,
                context_length=header.context_length,
                kv_bytes_per_token=header.kv_bytes_per_token,
            )
            placement = Placement(cpus=(0, 1))
            memory = MemoryBudget(total_bytes=16 * GIB, available_bytes=12 * GIB, engines_bytes=0)
            limits = plan_limits(model, placement, memory, footprint=ENGINES[engine].footprint)
            launch = ENGINES[engine].make_launch(model, placement, limits)
            where = str(directory / f"{number}.sock")
            replaced = {
                launch.socket: where,
                model_file_of(name): str(model_directory),
                PROGRAM: sys.executable,
                f"{SHOWN_SETTINGS}/bedplate_transformers.py": f"{IMAGE}{ENGINE_SETTINGS}/bedplate_transformers.py",
            }
            path = f"{SITES / engine}:{IMAGE}{ENGINE_SETTINGS}"
            env = {**dict(launch.env), "PYTHONPATH": path, "HOME": str(directory), "TMPDIR": str(directory)}
            assert dict(launch.env)["PYTHONPATH"] == f"{SITE}:{SHOWN_SETTINGS}"
            self.launches[engine] = replace(
                launch,
                argv=tuple(replaced.get(word, word) for word in launch.argv),
                env=tuple(env.items()),
                socket=where,
                probe=replace(launch.probe, deadline_s=10),
            )
            routes.append(make_route(model, self.launches[engine], limits, created=1_700_000_000, engine=engine))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        script, configuration = directory / "request.lua", directory / "haproxy.cfg"
        script.write_text(render_script(read_protocol(), read_request_script()))
        limits_of_front = FrontLimits(body_bytes=256 * 1024, connections=256, script_mib=32)
        bind = (f"127.0.0.1:{self.port}",)
        configuration.write_text(
            render_haproxy(routes, limits=limits_of_front, bind=bind, stats_socket=None, script=str(script), version="0.0")
        )
        self._spawn("front", [*haproxy, "-db", "-f", str(configuration)], {})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        for engine, launch in self.launches.items():
            self._spawn(engine, list(launch.argv), dict(launch.env))

    def _spawn(self, name: str, command: list[str], env: dict[str, str]) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env={"PATH": os.defpath, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an engine of several processes ends as a whole, as by its control group
            )

    def is_ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, (self._directory / f"{name}.log").read_text(errors="replace")[-4000:]
        try:
            return self.ask("/health", method="GET").status == 200
        except ConnectionRefusedError:  # the front does not listen yet
            return False

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def ask(self, path: str, body: object = None, *, method: str = "POST") -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            headers = {key.lower(): value for key, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read().decode(errors="replace"))


@pytest.fixture(scope="module")
def front_program(request: pytest.FixtureRequest) -> list[str]:
    """HAProxy of the tools tree, which is built where it is not there."""
    tools = find_paths().tools
    if (tools / "usr/sbin/haproxy").is_file():
        return in_tree(tools, "usr/sbin/haproxy")
    program: list[str] = request.getfixturevalue("haproxy")
    return program


@pytest.fixture(scope="module")
def bench(front_program: list[str]) -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="bp", dir="/tmp"))  # a short path: a Unix socket's has 107 characters
    running = Bench(directory, front_program)
    try:
        running.start()
        wait_until(running.is_ready, "both engines have made a token", patience_s=900)
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory)


@pytest.mark.parametrize("engine", NAMES)
def test_every_fact_comes_back_to_the_character(bench: Bench, engine: str) -> None:
    """Through the front, streamed, by the client that `bedplate ask` and the self-test use."""
    assert set(list_models(bench.url, timeout_s=60)) == set(NAMES.values())
    wrong = {}
    for fact in FACTS.fact:
        chat = Chat(endpoint=bench.url, model=NAMES[engine], question=fact.question, max_tokens=128)
        answer = "".join(stream_answer(chat))
        if answer != fact.answer:
            wrong[fact.question] = answer
    assert wrong == {}


@pytest.mark.parametrize(
    ("path", "row"), [pytest.param(path, row, id=f"{row.engine}-{path}-{row.name}") for path, row in ROWS]
)
def test_a_parameter_does_what_its_row_says(bench: Bench, path: str, row: ParameterRow) -> None:
    base = {**request_of(row.engine, path), **json.loads(row.request)}
    without = bench.ask(path, base)
    assert without.status == 200, without.text
    if row.example:
        body = with_value(base, row.name, json.loads(row.example))
        answer = bench.ask(path, body)
        if row.effect is ParameterEffect.REFUSED:
            assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_parameter", row.name)
            return
        assert answer.status == 200, answer.text
        if row.shows:
            place, _, wanted = row.shows.partition("=")
            shown = find(answer_of(answer.text), place)
            assert shown not in (None, "", [], {}) if not wanted else shown == json.loads(wanted)
        if row.changes:
            changed = find(answer_of(answer.text), row.changes)
            assert changed != find(answer_of(without.text), row.changes)
            assert changed == find(answer_of(bench.ask(path, body).text), row.changes)
    answer = bench.ask(path, with_value(base, row.name, OF_ANOTHER_KIND[row.kinds[0]]))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_type", row.name)
    if row.other:
        answer = bench.ask(path, with_value(base, row.name, json.loads(row.other)))
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_value", row.name)


@pytest.mark.parametrize("engine", NAMES)
def test_what_the_engine_does_not_know_is_refused_by_the_front(bench: Bench, engine: str) -> None:
    answer = bench.ask(CHAT, {**request_of(engine, CHAT), "frobnicate": 1})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unknown_parameter", "frobnicate")
    answer = bench.ask("/v1/embeddings", {"model": NAMES[engine], "input": "a"})
    assert (answer.status, answer.error["code"]) == (400, "unsupported_endpoint")


@pytest.mark.parametrize("engine", NAMES)
def test_a_prompt_that_does_not_fit_has_the_code_that_clients_read(bench: Bench, engine: str) -> None:
    answer = bench.ask(COMPLETIONS, {"model": NAMES[engine], "prompt": "what is ttft " * 1500, "max_tokens": 1})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert "2048 tokens" in answer.error["message"]


@pytest.mark.parametrize("engine", NAMES)
def test_the_engine_itself_answers_as_it_is_written_down(bench: Bench, engine: str) -> None:
    """Status and form of what the engine says of itself, past the front: what an upgrade changes shows here first."""
    endpoint = Endpoint(host="localhost", port=0, socket=bench.launches[engine].socket)
    lines = []
    for path in ("/health", "/bedplate/heartbeat", "/v1/models", "/metrics", "/docs"):
        reply = fetch(endpoint, path, timeout_s=60, limit_bytes=1 << 22)
        lines.append(f"GET {path} -> {reply.status} {_form(path, reply.body)}".rstrip())
    wrong: list[tuple[str, Any]] = [
        ("another model", {**request_of(engine, COMPLETIONS), "model": "other"}),
        ("a type that is wrong", {**request_of(engine, COMPLETIONS), "prompt": {"a": 1}}),
        ("a parameter that is unknown", {**request_of(engine, COMPLETIONS), "max_tokens": 1, "frobnicate": 1}),
    ]
    for what, body in wrong:
        reply = fetch(endpoint, COMPLETIONS, timeout_s=60, body=json.dumps(body).encode())
        lines.append(f"POST {COMPLETIONS} with {what} -> {reply.status} {_form(COMPLETIONS, reply.body)}".rstrip())
    compare(f"engine-{engine}.txt", "\n".join(lines) + "\n")


def _form(path: str, body: bytes) -> str:
    """The members of a JSON object, or the families of metrics, without values."""
    if path == "/metrics" and not body.startswith(b"{"):
        families = {line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE vllm:")}
        return "\n  " + "\n  ".join(sorted(family for family in families if not family.endswith("_created")))
    if not body.startswith(b"{"):
        return ""
    document = json.loads(body)
    return json.dumps(
        {key: sorted(value) if isinstance(value, dict) else type(value).__name__ for key, value in document.items()}
    )


@pytest.mark.parametrize("engine", NAMES)
def test_an_engine_that_is_stopped_is_not_healthy_and_comes_back(bench: Bench, engine: str) -> None:
    """The last test: a frozen core is seen by the heartbeat while the server of vLLM still answers its own /health."""
    health = f"/health/{NAMES[engine]}"
    assert bench.ask(health, method="GET").status == 200
    leader = bench.processes[engine].pid
    frozen = _core_of(leader) if engine == "vllm" else leader
    os.kill(frozen, signal.SIGSTOP)
    try:
        wait_until(lambda: bench.ask(health, method="GET").status == 503, "the front sees it")
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_until(lambda: bench.ask(health, method="GET").status == 200, "it serves again")


def _core_of(leader: int) -> int:
    """The process of vLLM's engine core."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    return next(int(child) for child in children if "EngineCore" in Path(f"/proc/{child}/cmdline").read_text())
