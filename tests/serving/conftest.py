"""Real HAProxy and llama-server from the trees that the build makes, run as this user, without a chroot.

Both are started through their own tree's loader, so that they use their own libraries; llama-server finds its CPU backends
in its working directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import bedplate
from bedplate.act.front_master import parse_former
from bedplate.act.front_socket import ask_front
from bedplate.act.front_stats import read_front
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.catalog.protocol import read_protocol, read_request_script
from bedplate.cli.terminal import terminal_progress
from bedplate.engines.client import Endpoint, fetch
from bedplate.engines.llamacpp import make_launch
from bedplate.front.haproxy import render_haproxy, render_tokens
from bedplate.front.routes import FrontLimits, Route, make_route, without_engine
from bedplate.front.script import render_script
from bedplate.model.instance import instance_of, model_file_of
from bedplate.model.launch import Format, Launch, Limits, ModelRef, Placement
from bedplate.model.supervision import FrontCheck
from tests.effort import wait_until
from tests.serving.tiny_gguf import write_tiny_model

LIBRARIES = "usr/lib/x86_64-linux-gnu"
BODY_LIMIT = 256 * 1024


def in_tree(tree: Path, program: str, *more: str) -> list[str]:
    libraries = tree / LIBRARIES
    path = ":".join(str(libraries / part) for part in ("", *more))
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", path, str(tree / program)]


@pytest.fixture(scope="session")
def haproxy(built: Paths) -> list[str]:
    return in_tree(built.tools, "usr/sbin/haproxy")


@pytest.fixture(scope="session")
def engine_tree(built: Paths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, by hard links where it can be: another worker, whose keys are others, builds the layer again meanwhile and
    replaces the tree, and an engine that starts just then would find no back ends."""
    own = tmp_path_factory.mktemp("engine-tree") / "llamacpp"
    with terminal_progress() as progress, hold_cache(built, progress, what="the copy of an engine's tree"):
        shutil.copytree(built.cache / "engine-tree" / "llamacpp", own, symlinks=True, copy_function=_link_or_copy)
    return own


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A fast one, one of some milliseconds a token, and the one that ships."""
    directory = tmp_path_factory.mktemp("models")
    shipped = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
    files = {"tiny": directory / "tiny", "Lab/slow:v1": directory / "slow", "known-answer": shipped}
    write_tiny_model(files["tiny"], embedding=64, layers=2)
    write_tiny_model(files["Lab/slow:v1"], embedding=512, layers=8)
    return files


def model_ref(name: str, file: Path) -> ModelRef:
    """Of a file as the store would describe it, but for what no test here depends on."""
    return ModelRef(
        name=name,
        sha256="0" * 64,
        path=str(file),
        format=Format.GGUF,
        size_bytes=file.stat().st_size,
        architecture="llama",
        parameters=file.stat().st_size // 2,
        quantisation="F16",
        context_length=8192,
        kv_bytes_per_token=4096,
    )


@dataclasses.dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer that must be one, in OpenAI's form or, with the same members, in Anthropic's."""
        document = self.json
        assert self.headers["content-type"] == "application/json"
        assert set(document) == {"error"} or (set(document) == {"error", "type"} and document["type"] == "error"), document
        error: dict[str, Any] = document["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["code"], str) and error["message"]
        return error

    @property
    def code(self) -> str:
        """error.code of an answer that must be an error."""
        return str(self.error["code"])


def _replace_path(word: str, replaced: dict[str, str]) -> str:
    """A path of the machine as it is here; a file below a model's directory too."""
    for path, here in replaced.items():
        if word == path or word.startswith(f"{path}/"):
            return here + word.removeprefix(path)
    return word


class Stack:
    """A front, and engines that can be started, stopped, frozen and killed."""

    def __init__(
        self,
        directory: Path,
        haproxy: list[str],
        tree: Path,
        models: dict[str, Path | ModelRef],
        cors: Sequence[str],
        **bounds: int,
    ) -> None:
        self._directory, self._haproxy, self._tree, self._models = directory, haproxy, tree, models
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._launches: dict[str, Launch] = {}
        self.stats = directory / "stats.sock"
        limits = Limits(context=bounds.get("context", 8192), parallel=bounds.get("parallel", 2), memory_bytes=1 << 30)
        self._routes: dict[str, Route] = {}
        for index, (name, file) in enumerate(models.items()):
            model = file if isinstance(file, ModelRef) else model_ref(name, file)
            launch = make_launch(model, Placement(cpus=(0, 1)), limits)
            where = str(directory / f"{index}.sock")
            replaced = {launch.socket: where, model_file_of(name): model.path}
            launch = dataclasses.replace(
                launch,
                argv=tuple(_replace_path(word, replaced) for word in launch.argv[1:]),
                socket=where,
                probe=dataclasses.replace(launch.probe, deadline_s=bounds.get("deadline_s", 5)),
            )
            if "verbosity" in bounds:
                argv = list(launch.argv)
                argv[argv.index("--log-verbosity") + 1] = str(bounds["verbosity"])
                launch = dataclasses.replace(launch, argv=tuple(argv))
            if "batch" in bounds:
                argv = list(launch.argv)
                for option in ("--batch-size", "--ubatch-size"):
                    argv[argv.index(option) + 1] = str(bounds["batch"])
                launch = dataclasses.replace(launch, argv=tuple(argv))
            self._launches[name] = launch
            route = make_route(model, launch, limits, created=1_700_000_000)
            self._routes[name] = dataclasses.replace(route, queue=bounds.get("queue", 8))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._limits = FrontLimits(
            body_bytes=BODY_LIMIT, connections=bounds.get("connections", 1024), script_mib=bounds.get("script_mib", 32)
        )
        self._configuration, self._tokens = directory / "haproxy.cfg", directory / "tokens.cfg"
        self._script, self._cors = directory / "request.lua", cors
        self._script.write_text(render_script(read_protocol(), read_request_script()))
        self.master = directory / "master.sock"
        self.configure(list(models))

    def configure(self, names: Sequence[str], *, ready: Sequence[str] = (), exchanged: Sequence[str] = ()) -> None:
        """What the front is started or reloaded with: these models. Some have made a token, others have no engine."""
        routes = [without_engine(self._routes[name]) if name in exchanged else self._routes[name] for name in names]
        text = render_haproxy(
            routes,
            limits=self._limits,
            bind=(f"127.0.0.1:{self.port}",),
            stats_socket=str(self.stats),
            script=str(self._script),
            version="0.0",
            cors=self._cors,
        )
        self._configuration.write_text(text)
        self._tokens.write_text(render_tokens([instance_of(name) for name in ready]))

    def start_front(self) -> None:
        self._spawn("front", [*self._haproxy, "-db", "-f", str(self._configuration)], self._directory)
        self._wait_front()

    def start_front_with_master(self) -> None:
        """As its unit does; the program must find its libraries by itself, since a reload executes it again."""
        files = ("-f", str(self._configuration), "-f", str(self._tokens))
        self._spawn("front", [*self._haproxy, "-W", "-S", f"{self.master},mode,600", *files], self._directory)
        self._wait_front()

    def _wait_front(self) -> None:
        wait_until(lambda: self._listens(), "the front listens")

    def break_configuration(self) -> None:
        """What a reload would refuse."""
        self._configuration.write_text(f"{self._configuration.read_text()}nonsense\n")

    def former_count(self) -> int:
        """Processes of the front that reloads have left."""
        return len(parse_former(ask_front(self.master, "show proc") or ""))

    def checks(self) -> dict[str, FrontCheck] | None:
        """What the front says of its engines."""
        return read_front(self.stats)

    def probe(self, name: str) -> Answer:
        """What the front's health check of a model gets."""
        probe = self._launches[name].probe
        return self.ask(probe.path, probe.body)

    def log(self, name: str) -> str:
        """What an engine, or the front, has written."""
        return self._log_of(name).read_text(errors="replace")

    def end_of_log(self, name: str, size_bytes: int) -> str:
        """The last of what an engine has written."""
        with self._log_of(name).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - size_bytes))
            return log.read().decode(errors="replace")

    def memory_bytes(self, name: str) -> int:
        """Resident memory of an engine, or of the front."""
        status = Path(f"/proc/{self.pid(name)}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def ask_engine(self, name: str, path: str, body: object) -> bytes:
        """The body of what an engine itself answers, past the front."""
        endpoint = Endpoint(host="localhost", port=0, socket=self._launches[name].socket)
        return fetch(endpoint, path, timeout_s=300, body=json.dumps(body).encode()).body

    def start_engine(self, name: str) -> None:
        launch = self._launches[name]
        Path(launch.socket).unlink(missing_ok=True)
        command = [*in_tree(self._tree, "usr/bin/llama-server", "llama"), *launch.argv]
        self._spawn(name, command, self._tree / LIBRARIES / "ggml/backends0", dict(launch.env))

    def has_ended(self, name: str) -> bool:
        """Whether an engine has ended by itself."""
        return self._processes[name].poll() is not None

    def serve_file(self, name: str, path: Path) -> None:
        """Give the engine of a model another file, unasked."""
        launch = self._launches[name]
        argv = list(launch.argv)
        argv[argv.index("--model") + 1] = str(path)
        self._launches[name] = dataclasses.replace(launch, argv=tuple(argv))

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def start_all(self) -> None:
        self.start_front()
        for name in self._models:
            self.start_engine(name)
        wait_until(lambda: self.ask("/health", method="GET").status == 200, "/health is 200")

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=1800)

    def ask(self, path: str, body: object = None, *, method: str = "POST", **headers: str) -> Answer:
        """One request; a body that is no text is sent as JSON."""
        with contextlib.closing(self.connect()) as connection:
            data = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return Answer(
                answer.status,
                {key.lower(): value for key, value in answer.getheaders()},
                answer.read().decode(errors="replace"),
            )

    def complete(self, model: str, tokens: int, **more: object) -> Answer:
        return self.ask("/v1/completions", {"model": model, "prompt": "a", "max_tokens": tokens, "ignore_eos": True, **more})

    def queued(self, backend: str) -> tuple[int, int]:
        """Requests of a backend that wait, and that its engine works on (qcur and scur of `show stat`)."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self.stats))
            stats.sendall(b"show stat\n")
            text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
        head, *rows = text.lstrip("# ").splitlines()
        names = head.split(",")
        for row in rows:
            values = dict(zip(names, row.split(","), strict=False))
            if (values["pxname"], values["svname"]) == (backend, "BACKEND"):
                waiting = int(values["qcur"])
                return waiting, int(values["scur"]) - waiting
        raise AssertionError(text)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _log_of(self, name: str) -> Path:
        return self._directory / f"{name.replace('/', '_')}.log"

    def _spawn(self, name: str, command: list[str], cwd: Path, env: dict[str, str] | None = None) -> None:
        with self._log_of(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=cwd, env={"PATH": os.defpath, **(env or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


@pytest.fixture(scope="session")
def make_stack(
    built: Paths, haproxy: list[str], engine_tree: Path, models: dict[str, Path]
) -> Iterator[Callable[..., contextlib.AbstractContextManager[Stack]]]:
    @contextlib.contextmanager
    def make(*names: str | ModelRef, cors: Sequence[str] = (), in_tools: bool = False, **bounds: int) -> Iterator[Stack]:
        """in_tools: the front runs in the tools tree, where a reload can execute it again."""
        with contextlib.ExitStack() as places:
            # A short path: a Unix socket's has 107 characters.
            directory = places.enter_context(tempfile.TemporaryDirectory(prefix="bp", dir="/tmp"))
            program = haproxy
            if in_tools:  # the same path inside and outside
                inside = places.enter_context(tempfile.TemporaryDirectory(prefix="bp", dir=built.tools / "tmp"))
                directory = f"/tmp/{Path(inside).name}"
                Path(directory).symlink_to(inside)
                places.callback(Path(directory).unlink)
                program = ["/usr/sbin/chroot", str(built.tools), "/usr/sbin/haproxy"]
            chosen = {
                name if isinstance(name, str) else name.name: models[name] if isinstance(name, str) else name
                for name in names
            }
            stack = Stack(Path(directory), program, engine_tree, chosen, cors, **bounds)
            try:
                yield stack
            finally:
                stack.stop()

    yield make


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., contextlib.AbstractContextManager[Stack]]) -> Iterator[Stack]:
    """Both models up: for tests that leave it as it was."""
    with make_stack("tiny", "Lab/slow:v1") as running:
        running.start_all()
        yield running


@pytest.fixture(scope="module")
def make_front(built: Paths, engine_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Machines whose front end is closed (tests/serving/closed_front.py), each with a machine.toml; the image's openssl."""
    from tests.serving.closed_front import ClosedFront

    programs = tmp_path_factory.mktemp("programs")
    argv = " ".join(in_tree(built.tools, "usr/bin/openssl"))
    (programs / "openssl").write_text(f'#!/bin/sh\nexec {argv} "$@"\n')
    (programs / "openssl").chmod(0o755)
    made: list[ClosedFront] = []
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_PATH_PREFIX", str(programs))

        def make(text: str = "") -> ClosedFront:
            # A short path: a Unix socket's has 107 characters.
            top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bp")))
            front = ClosedFront(top, built.tools, engine_tree)
            front.configure(text)
            made.append(front)
            return front

        try:
            yield make
        finally:
            for front in made:
                front.stop()
