"""The generated pages of docs/reference are what the code says now."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])


def load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"loaded_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load(REPOSITORY / "scripts/make_reference.py")


@pytest.mark.parametrize("name", sorted(GENERATOR.PAGES))
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    assert (REPOSITORY / name).read_text() == GENERATOR.PAGES[name](), "run: make docs"


def test_every_verb_and_every_key_of_the_recipe_is_there() -> None:
    command = (REPOSITORY / "docs/reference/cli.md").read_text()
    recipe = (REPOSITORY / "docs/reference/recipe.md").read_text()
    assert all(f"### bedplate {verb}\n" in command for verbs in GENERATOR.VERBS.values() for verb in verbs)
    assert all(f"| `{key}` |" in recipe for key in GENERATOR.Recipe.__dataclass_fields__)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_index_names_every_decision() -> None:
    directory = REPOSITORY / "docs/decisions"
    index = (directory / "README.md").read_text()
    assert [page.name for page in sorted(directory.glob("0*.md")) if f"({page.name})" not in index] == []


def test_rooms_of_the_architecture_page_are_those_of_the_source() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text().split("src/bedplate/\n")[1].split("\nimage/\n")[0]
    told = set(re.findall(r"^  (\w+)(?:/|\.py) ", text, re.MULTILINE))
    there = {path.stem for path in (REPOSITORY / "src/bedplate").iterdir() if not path.name.startswith("__")}
    assert told == there


def test_arrows_of_the_architecture_page_are_those_the_import_test_holds() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text().split("| package | may import |")[1].split("\n\n")[0]
    told = {
        room: set(may.split(", ")) - {"nothing"}
        for rooms, may in re.findall(r"^\| ([a-z/, ]+) \| ([a-z/, ]+) \|$", text, re.MULTILINE)
        for room in rooms.split(", ")
    }
    assert told == load(REPOSITORY / "tests/unit/test_imports.py").MAY_IMPORT


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of all subcommands below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


VERBS = sorted(module for verbs in GENERATOR.VERBS.values() for module, _ in verbs.values())


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_command_has_an_example_and_a_phrase_for_each_argument(verb: str) -> None:
    module = importlib.import_module(f"bedplate.cli.{verb}")
    parser = argparse.ArgumentParser(prog=f"bedplate {verb}", description=module.__doc__)
    module.add_arguments(parser)
    for command in parsers(parser):
        assert f"examples:\n  {command.prog}" in (command.description or ""), command.prog
        silent = [action.dest for action in command._actions if not action.help and not action.choices]
        assert silent == [], command.prog
