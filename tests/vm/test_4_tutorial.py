"""The tutorial, run: its commands are read out of docs/tutorial.md and typed in their order, on one state directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bedplate.image.manifest import Image
from bedplate.image.recipe import read_recipe, recipes_directory
from tests.conftest import BOOT_S, BUILD_S, Bedplate, free_port

pytestmark = [pytest.mark.vm, pytest.mark.long]

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"
COMMAND = re.compile(r" {4}((?:bedplate|export|make|sed|systemctl|systemd-analyze|touch) .*?)(?: {2,}#.*)?")
IN_THE_SHELL = "In the shell"

# What is not typed as it stands. Each must be in the tutorial.
SECURE_BOOT, RECIPE = "the machine of test_1_machine is booted so", "test_0_build builds images of other recipes"
LEFT_OUT = {
    'export PATH="$PWD/.venv/bin:$PATH"': "the environment of this test has it",
    "bedplate selftest": "210 questions take an emulated processor minutes",
    "bedplate shell": "an interactive shell; what is typed in it is run by shell -c",
    "bedplate up --secure-boot": SECURE_BOOT,
    'bedplate ask --model random-smollm2-135m-q4_0 --max-tokens 8 "Hello"': "emulated, two engines miss each other's probes",
    "bedplate clean --cache": "it would remove what all tests share",
    "bedplate clean": "it asks",
}
RECIPE_STEP = "sed -i 's/^hostname = .*/hostname = \"my-bedplate\"/' image/os/recipe.toml"
FAILS = {"touch /usr/x": "Read-only file system"}


@dataclass(frozen=True)
class Command:
    """A line of the tutorial that a reader types."""

    text: str
    section: str
    inside: bool
    """It is typed into the guest's shell."""


def read_commands(text: str) -> list[Command]:
    """Commands of the tutorial's indented blocks; what such a block shows of an output is no command."""
    found = []
    section = paragraph = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line and not line.startswith(" "):
            paragraph = line
        elif (match := COMMAND.fullmatch(line)) is not None:
            found.append(Command(text=match[1], section=section, inside=paragraph.startswith(IN_THE_SHELL)))
    return found


@pytest.fixture
def state(bedplate: Bedplate, image: Image, tmp_path: Path) -> Iterator[Path]:
    """A state directory as after the build, of hard links, without models and machines."""
    for name in ("images", "engines", "keys", "locks"):
        shutil.copytree(bedplate.paths.state / name, tmp_path / "state" / name, copy_function=os.link)
    yield tmp_path / "state"
    subprocess.run(
        [sys.executable, "-m", "bedplate.cli.main", "down"], env=environment(bedplate, tmp_path / "state"), check=False
    )


def environment(bedplate: Bedplate, state: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    directories = {"BEDPLATE_STATE_DIR": str(state), "BEDPLATE_CACHE_DIR": str(bedplate.paths.cache)}
    return os.environ | directories | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def test_each_step_does_what_the_tutorial_says(bedplate: Bedplate, state: Path) -> None:
    commands = read_commands(TUTORIAL.read_text())
    texts = [command.text for command in commands]
    assert len(texts) > 25, texts
    assert [text for text in (*LEFT_OUT, *FAILS, RECIPE_STEP) if text not in texts] == []
    port = str(free_port())
    outputs: dict[str, str] = {}
    for command in commands:
        if command.text in LEFT_OUT or command.section.startswith(("5.", "6.")):
            continue
        text = command.text.replace("make up", "bedplate up")
        if text.startswith("bedplate up"):
            text += f" --port {port} --timeout {BOOT_S}"
        if text.startswith("bedplate ask"):
            text += f" --timeout {BOOT_S}"
        argv = ["bedplate", "shell", "--timeout", str(BOOT_S), "-c", text] if command.inside else ["sh", "-euc", text]
        done = subprocess.run(
            argv,
            env=environment(bedplate, state),
            cwd=TUTORIAL.parents[1],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_S + BOOT_S,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == (command.text in FAILS), f"{text}: status {done.returncode}\n{said[-4000:]}"
        assert FAILS.get(command.text, "") in said, said
        outputs.setdefault(command.text, done.stdout)
    assert "Bedplate is an open Linux distribution built for one job" in outputs["make up"]
    assert "The machine is already running" in outputs["bedplate up"]
    assert "memory" in outputs['bedplate ask "What is NUMA?"'].lower()
    assert "verity on" in outputs['bedplate shell -c "bedplate status"']
    two = "bedplate up --model known-answer --model random-smollm2-135m-q4_0"
    assert "serves known-answer, random-smollm2-135m-q4_0 at" in outputs[two]


def test_the_change_of_the_recipe_is_one_that_the_recipe_takes(tmp_path: Path) -> None:
    """Section 6 without the build and the boot of another image."""
    recipes = tmp_path / "image"
    shutil.copytree(recipes_directory(), recipes, symlinks=True)
    subprocess.run(["sh", "-euc", RECIPE_STEP], cwd=tmp_path, check=True)
    assert read_recipe(recipes).hostname == "my-bedplate"
