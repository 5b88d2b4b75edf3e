"""A machine with a closed front end, run here: `serve prepare` writes its files below a directory; the real HAProxy and an
engine run on them.

HAProxy has a mount namespace of its own in which the directory's /run/bedplate lies at its true path, so that the
configuration, the maps and the runtime API are what they are in the image, to the letter.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bedplate.flows import ca, key, serve
from bedplate.flows.key import KeyRequest, open_key_store
from bedplate.host.root.root import Root
from bedplate.model.instance import model_file_of, socket_of
from bedplate.weights.index import render_index
from tests.conftest import free_port
from tests.effort import wait_until
from tests.serving.conftest import LIBRARIES, Answer, in_tree, model_ref
from tests.serving.tiny_gguf import write_tiny_model

OS = Path(__file__).parents[2] / "image/os"
HOST = Path(__file__).parents[1] / "machines/serving-host"
SERVED, OTHER = "tiny", "org/other"
"""The model whose engine runs, and one whose engine does not."""
FILE = f"sha256/{'0' * 64}"
COMPLETIONS = "/v1/completions"


class Notes:
    """A Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, name: str) -> Any:
        raise NotImplementedError(name)

    def detail(self, text: str) -> None:
        self.notes.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


class ClosedFront:
    """The machine below `top`: its files, HAProxy and the engine of one model."""

    def __init__(self, top: Path, tools: Path, engine_tree: Path) -> None:
        self.top, self._tools, self._engine_tree = top, tools, engine_tree
        shutil.copytree(HOST, top, dirs_exist_ok=True, symlinks=True)
        self.port, self.client_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        models = top / "run/bedplate/models"
        shutil.rmtree(models)
        (models / "sha256").mkdir(parents=True)
        file = models / FILE
        write_tiny_model(file, embedding=64, layers=2)
        rows = [model_ref(name, file) for name in (SERVED, OTHER)]
        (models / "index.json").write_text(render_index([_relative(row) for row in rows]))
        (top / "run/bedplate/haproxy").mkdir(parents=True)
        (top / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
        (top / "proc/sys/kernel/hostname").write_text("box\n")

    # -- the machine's files

    def configure(self, text: str = "", *, where: str = "var/lib/bedplate") -> None:
        """Write a machine.toml; {port} and {client_port} are filled in."""
        file = self.top / where / "machine.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{port}", str(self.port)).replace("{client_port}", str(self.client_port)))

    def prepare(self) -> tuple[serve.Serving, list[str]]:
        """What is served, and what was noted meanwhile."""
        notes = Notes()
        return serve.prepare(self.top, notes, port=self.port), notes.notes

    def become_image(self, variant: str) -> None:
        """Be a booted image of this variant, whose /var is not open yet."""
        shutil.rmtree(self.top / "var", ignore_errors=True)
        shutil.copytree(OS / variant / "usr/lib/bedplate", self.top / "usr/lib/bedplate", dirs_exist_ok=True)
        (self.top / "usr/lib/bedplate/image.json").write_text(json.dumps({"id": "bedplate", "variant": variant}))
        (self.top / "usr/lib/os-release").write_text("ID=bedplate\n")

    def open_var(self) -> None:
        """What bedplate-front-var.service waits for."""
        (self.top / "proc/self").mkdir(parents=True, exist_ok=True)
        mount = "36 25 254:3 / /var rw,nosuid shared:1 - ext4 /dev/mapper/varcrypt rw\n"
        (self.top / "proc/self/mountinfo").write_text(mount)

    def add_key(self, id: str | None = None, **bounds: Any) -> str:
        made = key.add_key(open_key_store(Root(self.top)), KeyRequest(id=id, **bounds), now_s=int(time.time()))
        return made.secret

    def renew(self, *, now_s: int) -> bool:
        return ca.renew(Notes(), now_s=now_s, root=Root(self.top))

    @property
    def ca(self) -> Path:
        return self.top / "var/lib/bedplate/front/ca/ca.pem"

    # -- its programs

    def start(self) -> None:
        """HAProxy on what `prepare` has written."""
        self.prepare()
        tree, run = shlex.quote(str(self._tools)), shlex.quote(str(self.top / "run/bedplate"))
        # Its own root, since HAProxy starts itself again at a reload, and then finds its libraries as it does in the image.
        mounts = f"mount -t tmpfs none {tree}/run && mkdir {tree}/run/bedplate && mount --bind {run} {tree}/run/bedplate"
        haproxy = f"exec chroot {tree} /usr/sbin/haproxy -Ws -f /run/bedplate/haproxy.cfg"
        self._spawn("front", ["unshare", "--mount", "sh", "-c", f"{mounts} && {haproxy}"])
        wait_until(lambda: self._answers(), "HAProxy listens on its own socket")

    def reload(self) -> None:
        """As the unit's ExecReload= does it."""
        before = self.pid_of_worker()
        self._processes["front"].send_signal(12)  # SIGUSR2
        wait_until(lambda: self.pid_of_worker() not in (before, 0), "another worker answers")

    def pid_of_worker(self) -> int:
        """Process id of the worker that answers on the admin socket; 0 while none does."""
        try:
            rows = dict(line.split(": ", 1) for line in self.admin("show info").splitlines() if ": " in line)
        except OSError:
            return 0
        return int(rows.get("Pid", "0"))

    def admin(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.top / "run/bedplate/haproxy/admin.sock"))
            client.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def start_engine(self) -> None:
        directory = self.top / "run/bedplate/engine" / SERVED
        directory.mkdir(parents=True, exist_ok=True)
        lines = dict(
            line.split("=", 1) for line in (self.top / f"run/bedplate/engine/{SERVED}.env").read_text().splitlines()
        )
        argv = lines.pop("BEDPLATE_ENGINE_ARGV").strip('"').split()[1:]
        here = {
            model_file_of(SERVED): str(self.top / "run/bedplate/models" / FILE),
            socket_of(SERVED): f"{self.top}{socket_of(SERVED)}",
        }
        command = [
            *in_tree(self._engine_tree, "usr/bin/llama-server", "llama"),
            *(here.get(word, word) for word in argv),
        ]
        self._spawn("engine", command, cwd=self._engine_tree / LIBRARIES / "ggml/backends0", env=lines)
        wait_until(lambda: self.local(f"/health/{SERVED}").status == 200, "the engine has made a token")

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = {}

    def log(self) -> str:
        return (self.top / "front.log").read_text(errors="surrogateescape")

    def access_lines(self) -> list[dict[str, Any]]:
        """The access log, each line of it as JSON; lines of HAProxy itself do not begin with a brace."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def _spawn(
        self, name: str, command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        with (self.top / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=cwd or self.top,
                env={"PATH": os.defpath + ":/usr/sbin:/sbin", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        process = self._processes["front"]
        assert process.poll() is None, self.log()
        try:
            return self.local("/health").status in (200, 503)
        except OSError:
            return False

    # -- its clients

    def trusting(self, *, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client that trusts the machine's CA, and shows a certificate where one is given (certificate, key)."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if client is not None:
            context.load_cert_chain(*client)
        return context

    def connect(self, *, tls: ssl.SSLContext | None = None, port: int | None = None) -> http.client.HTTPConnection:
        if tls is None:
            return http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=120)
        return http.client.HTTPSConnection("127.0.0.1", port or self.port, context=tls, timeout=120)

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = self.connect(tls=tls, port=port)
        return _request(connection, path, body, {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})})

    def local(self, path: str, body: object = None) -> Answer:
        """A request by root of the machine, on its Unix socket."""
        return _request(UnixConnection(str(self.top / "run/bedplate/haproxy/local.sock")), path, body, {})

    def complete(self, model: str = SERVED, **more: Any) -> dict[str, Any]:
        return {"model": model, "prompt": "a", "max_tokens": 2, **more}


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket; its host is localhost."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _request(connection: http.client.HTTPConnection, path: str, body: object, headers: Mapping[str, str]) -> Answer:
    data = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
    try:
        connection.request("GET" if data is None else "POST", path, data, dict(headers))
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, answer.read().decode(errors="replace"))
    finally:
        connection.close()


def _relative(model: Any) -> Any:
    from dataclasses import replace

    return replace(model, path=FILE)


MakeFront = Callable[..., ClosedFront]
