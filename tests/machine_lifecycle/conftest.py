"""A host with fake QEMU and swtpm in front of PATH, and an image, an engine and a model that only look like some."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.host.system.port import find_free_port
from tests.effort import PATIENCE_S

FAKES = Path(__file__).parent / "fakes"
VERSION = "0.1~fake"
# Enters the fake tools tree: runs what stands after "--", where the real one builds mount namespaces first.
SANDBOX = """import os, sys
argv = sys.argv[sys.argv.index("--") + 1:]
os.execvp(argv[0], argv)
"""


class FakeHost:
    """`bedplate` as a real process on this host."""

    def __init__(self, root: Path, *, cache: Path | None = None) -> None:
        self.root = root
        self.state, self.cache, self.home = root / "state", cache or root / "cache", root / "fake"
        self.machine = self.state / "machine"
        self.port = find_free_port()
        shutil.copytree(FAKES, self.home / "bin")
        self._make_image()
        self._make_tools()
        self.engine = root / "engine.raw"
        self.engine.write_text("no engine")
        self.write_models(size_bytes=1024)
        self.env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.env |= {
            "BEDPLATE_STATE_DIR": str(self.state),
            "BEDPLATE_CACHE_DIR": str(self.cache),
            "BEDPLATE_PATH_PREFIX": str(self.home / "bin"),
            "LANG": "C.UTF-8",
        }

    def write_models(self, *, size_bytes: int) -> None:
        row = {
            "name": "tiny",
            "sha256": "0" * 64,
            "path": f"sha256/{'0' * 64}",
            "format": "gguf",
            "size_bytes": size_bytes,
            "architecture": "llama",
            "parameters": 512,
            "quantisation": "F16",
            "context_length": 512,
            "kv_bytes_per_token": 64,
        }
        (self.state / "models/sha256").mkdir(parents=True, exist_ok=True)
        (self.state / "models/sha256" / ("0" * 64)).write_bytes(bytes(16))
        (self.state / "models/index.json").write_text(json.dumps({"schema": 1, "models": [row]}))

    def behave(self, how: str) -> None:
        (self.home / "behaviour").write_text(how)

    def up_argv(self, *more: str) -> list[str]:
        words = ["up", "--image", VERSION, "--engine", str(self.engine), "--model", "tiny", "--port", str(self.port)]
        return [*words, "--memory", "1G", "--accel", "tcg", "--no-install", *more]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "bedplate.cli.main", *argv]
        return subprocess.Popen(
            words, env=self.env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*argv)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(argv, process.returncode, output, errors)

    def up(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.up_argv(*more))

    def calls(self, program: str) -> list[list[str]]:
        log = self.home / "calls.log"
        rows: list[list[str]] = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [row[1:] for row in rows if row[0] == program and "--version" not in row]

    def processes(self) -> list[int]:
        """Ids of all fake programs of this host that run."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if not dead and any(word.startswith(str(self.home / "bin").encode()) for word in words):
                found.append(int(entry.name))
        return found

    def wait_for(self, what: Path, *, process: subprocess.Popen[str] | None = None) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what.exists():
            assert process is None or process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, f"{what} did not appear"
            time.sleep(0.02)

    def _make_image(self) -> None:
        directory = self.state / "images" / VERSION
        directory.mkdir(parents=True)
        files: dict[str, dict[str, Any]]
        files = {kind: {"name": f"bedplate.{kind}", "size_bytes": 4} for kind in ("raw", "uki", "kernel", "initrd")}
        for file in files.values():
            (directory / file["name"]).write_text("fake")
        record = {"version": VERSION, "variant": "development", "files": files, "kernel_command_line": "console=ttyS0 quiet"}
        (directory / "manifest.json").write_text(json.dumps(record))

    def _make_tools(self) -> None:
        sandbox = self.cache / "tools/usr/lib/python3/dist-packages/mkosi/sandbox.py"
        sandbox.parent.mkdir(parents=True, exist_ok=True)
        sandbox.write_text(SANDBOX)

    def kill_left(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    # A directory longer than the path of a Unix socket may be: everything must work there too.
    root = tmp_path / ("a-long-name-" * 9)
    root.mkdir()
    fake = FakeHost(root)
    yield fake
    fake.kill_left()


@pytest.fixture
def other_host(host: FakeHost, tmp_path: Path) -> Iterator[FakeHost]:
    """Another state directory, with a machine of its own, that shares the first one's cache."""
    root = tmp_path / "other"
    root.mkdir()
    fake = FakeHost(root, cache=host.cache)
    yield fake
    fake.kill_left()
