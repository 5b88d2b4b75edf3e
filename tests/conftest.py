"""Real builds and real boots: everything is driven as a user drives it, by the `bedplate` command, in a state directory of
its own. The cache is the user's, so that tools and packages are fetched once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import bedplate as bedplate_package
from bedplate.act.paths import Paths, find_paths
from bedplate.image.manifest import Image, read_image
from tests.serving.tiny_gguf import write_tiny_model

pytest_plugins = ["tests.reporting"]

# The limits of Hypothesis are of the clock on the wall: beside other programs they fail what is right.
settings.register_profile("bedplate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bedplate")

SECOND_NAME = "known-answer-again"
"""The model that ships under another name."""
ONE_WORD_MODELS = {"one-word": "alpha", "Other_word.v2": "beta"}
"""Model -> the word that each of its tokens is."""
RECOVERY = Path(__file__).parent / "vm/recovery"
BUILD_S, BOOT_S = 1500, 900  # seconds; emulated machines on a loaded host


MOST_AT_ONCE = 8
BOOT_BYTES = 6 << 30  # what a guest, its build and their caches take of memory, with room to spare


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many files of tests run at once with -n auto: one for each CPU; of those that boot two, if memory allows."""
    cpus = min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))
    if not any("tests/vm" in str(argument) for argument in config.args):
        return cpus
    fitting = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // BOOT_BYTES
    return max(1, min(2, cpus, fitting))


def pytest_configure() -> None:
    """A shell that starts the tests in the background ignores SIGINT, nohup SIGHUP; what they start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass(frozen=True)
class Bedplate:
    """The command, with a state directory of this test run."""

    paths: Paths
    port: int

    def engine_layer(self) -> Path:
        """The layer that a build of this state directory has made. Asked by its record: another run in the same cache may
        have unpacked its own tree there meanwhile; for `find_engine` a layer whose tree is of other inputs is absent."""
        record = json.loads((self.paths.engines / "llamacpp.json").read_text())
        return self.paths.engines / str(record["file"])

    def __call__(self, *arguments: str, timeout_s: float = 120, ok: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "BEDPLATE_STATE_DIR": str(self.paths.state),
            "BEDPLATE_CACHE_DIR": str(self.paths.cache),
            "PYTHONUNBUFFERED": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "bedplate.cli.main", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        if ok and done.returncode != 0:
            pytest.fail(f"bedplate {' '.join(arguments)}: status {done.returncode}\n{done.stdout}\n{done.stderr[-6000:]}")
        return done

    def shell(self, command: str) -> str:
        """What a command prints in the guest; fails the test when its status is not 0."""
        return self("shell", "--timeout", str(BOOT_S), "-c", command, timeout_s=2 * BOOT_S).stdout

    def wait_answer(self, question: str, *, limit_s: float) -> str:
        """Ask until an answer comes or the time is over."""
        deadline = time.monotonic() + limit_s
        while True:
            endpoint = f"http://127.0.0.1:{self.port}"
            done = self("ask", "--endpoint", endpoint, "--model", "known-answer", question, ok=False)
            if done.returncode == 0:
                return done.stdout.strip()
            assert time.monotonic() < deadline, done.stderr
            time.sleep(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def bedplate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bedplate]:
    if os.geteuid() != 0:
        pytest.skip("building an image needs root")
    state = tmp_path_factory.mktemp("state")
    command = Bedplate(paths=Paths(cache=find_paths().cache, state=state), port=free_port())
    yield command
    command("down", ok=False)


@pytest.fixture(scope="session")
def image(bedplate: Bedplate) -> Image:
    """The image of the recipe, built now, with a recovery certificate whose private key lies beside it."""
    bedplate.paths.keys.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(RECOVERY / "recovery.crt", bedplate.paths.keys)
    record = json.loads(bedplate("image", "build", "--json", timeout_s=BUILD_S).stdout)
    return read_image(Path(record["manifest"]).parent)


@pytest.fixture(scope="session")
def built(bedplate: Bedplate, image: Image) -> Paths:
    """The directories after a build: the tools tree (HAProxy among it) and the engine's unpacked layer are there."""
    assert (bedplate.paths.tools / "usr/sbin/haproxy").is_file()
    assert (bedplate.paths.cache / "engine-tree/llamacpp/usr/bin/llama-server").is_file()
    return bedplate.paths


@pytest.fixture(scope="session")
def manifest(image: Image) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(image.manifest.read_text())
    return record


@pytest.fixture(scope="session")
def machine(bedplate: Bedplate, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Bedplate:
    """The machine with four models, booted through the whole chain: firmware with Secure Boot, enrolled keys, signed image,
    TPM. Two names are of one file; two models say one word each, so that a request that reached another engine is seen."""
    shipped = Path(bedplate_package.__file__).parent / "catalog/known_answer/known-answer.gguf"
    bedplate("model", "add", str(shipped), "--name", SECOND_NAME)
    for name, word in ONE_WORD_MODELS.items():
        file = tmp_path_factory.mktemp("model") / "model.gguf"
        write_tiny_model(file, embedding=64, layers=1, context=512, says=word)
        bedplate("model", "add", str(file), "--name", name)
    names = ("known-answer", SECOND_NAME, *ONE_WORD_MODELS)
    arguments = ("--secure-boot", "--json", "--port", str(bedplate.port), "--timeout", str(BOOT_S), "--image", image.version)
    record = json.loads(
        bedplate("up", *arguments, *(f"--model={name}" for name in names), timeout_s=BUILD_S + BOOT_S).stdout
    )
    assert record["answer"].startswith("Bedplate is an open Linux distribution"), record
    return bedplate
