"""Unmodified clients against the front and an engine: chat, streams, tools, and how each maps an error.

They come from their registries into an environment of this test's own, pinned with hashes (requirements/clients.lock and
requirements/node). Each program in client_programs/ is what a user of that library would write.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import Stack, model_ref
from tests.serving.scripted_gguf import GREETING, write_scripted_model

pytestmark = [pytest.mark.build, pytest.mark.long]

PROGRAMS = Path(__file__).parent / "client_programs"
REQUIREMENTS = Path(__file__).parents[2] / "requirements"
MODEL = "scripted"
LONG = "a b " * 3000
"""More than the context of the model."""
TOOL = ["wait", {"day": 1}]
STAY = {"day": 1, "sunny": True}
UNREACHABLE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN")

EXPECTED: dict[str, dict[str, Any]] = {
    "openai_python": {
        "models": [MODEL],
        "chat": GREETING,
        "stream": GREETING,
        "usage": True,
        "tool": TOOL,
        "after the tool": GREETING,
        "structured": 1,
        "response": GREETING,
        "missing": ["NotFoundError", 404, "model_not_found"],
        "overflow": ["BadRequestError", 400, "context_length_exceeded"],
        "unsupported": ["BadRequestError", 400, "unsupported_parameter"],
    },
    "anthropic_python": {
        "chat": GREETING,
        "stream": GREETING,
        "tool": TOOL,
        "after the tool": GREETING,
        "tokens": True,
        "missing": ["NotFoundError", 404, "not_found_error"],
        "overflow": ["BadRequestError", 400, "invalid_request_error"],
    },
    "litellm_python": {
        "chat": GREETING,
        "stream": GREETING,
        "tool": TOOL,
        "missing": ["NotFoundError", 404],
        "overflow": ["ContextWindowExceededError", 400],
    },
    "langchain_python": {
        "chat": GREETING,
        "stream": GREETING,
        "tool": TOOL,
        "structured": 1,
        "missing": [404, "model_not_found"],
        "overflow": [400, "context_length_exceeded"],
    },
    "llm_python": {
        "chat": GREETING,
        "stream": GREETING,
        "tool": TOOL,
        "after the tool": GREETING,
        "missing": ["NotFoundError"],
        "overflow": ["BadRequestError"],
    },
    "instructor_python": {"structured": STAY, "stream": STAY, "missing": True, "overflow": True},
    "pydantic_ai_python": {
        "chat": GREETING,
        "stream": GREETING,
        "after the tool": GREETING,
        "called": [1],
        "structured": STAY,
        "missing": [404, "model_not_found"],
        "overflow": [400, "context_length_exceeded"],
    },
}


@pytest.fixture(scope="module")
def stack(
    make_stack: Callable[..., contextlib.AbstractContextManager[Stack]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    file = write_scripted_model(tmp_path_factory.mktemp("model") / "scripted")
    with make_stack(model_ref(MODEL, file), parallel=2, context=2048) as running:
        running.start_all()
        yield running


def install(command: list[str], directory: Path) -> None:
    """Run the installer; a registry that cannot be reached skips the test, any other failure fails it."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0 and any(sign in said for sign in UNREACHABLE):
        pytest.skip("the registry of the clients cannot be reached")
    assert done.returncode == 0, said[-3000:]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment that has the clients."""
    directory = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    interpreter = str(directory / "bin/python")
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--no-deps", "--require-hashes"]
    install([interpreter, "-m", "pip", "install", *options, "-r", str(REQUIREMENTS / "clients.lock")], directory)
    return interpreter


def run(command: list[str], stack: Stack, home: Path) -> dict[str, Any]:
    """What a program printed: one JSON object. It sees no settings of the user."""
    endpoint = f"http://127.0.0.1:{stack.port}"
    done = subprocess.run(
        [*command, endpoint, MODEL, LONG],
        env={"PATH": os.defpath, "HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


@pytest.mark.parametrize("program", EXPECTED)
def test_a_client_for_python(stack: Stack, python: str, tmp_path: Path, program: str) -> None:
    printed = run([python, str(PROGRAMS / f"{program}.py")], stack, tmp_path)
    if program == "instructor_python":  # its own exceptions: their text has the code
        printed["missing"] = "model_not_found" in printed["missing"]
        printed["overflow"] = "context_length_exceeded" in printed["overflow"]
    assert printed == EXPECTED[program]


def test_openai_s_client_for_node(stack: Stack, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(REQUIREMENTS / "node" / file, tmp_path)
    install(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], tmp_path)
    program = str(shutil.copy(PROGRAMS / "openai_node.mjs", tmp_path))
    assert run(["node", program], stack, tmp_path) == {
        "chat": GREETING,
        "stream": GREETING,
        "tool": TOOL,
        "missing": ["NotFoundError", 404, "model_not_found"],
        "overflow": ["BadRequestError", 400, "context_length_exceeded"],
    }
