"""One name, one meaning: what a reader may rely on when a class is named."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bedplate

SOURCE = Path(bedplate.__file__).parent
CHECKOUT = SOURCE.parents[1]


def classes() -> dict[str, list[str]]:
    """Each class's name, private and nested ones too, with the places that define it."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    return found


def test_no_class_name_is_defined_twice() -> None:
    found = classes()
    assert len(found) > 300
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def loops_over_one(path: Path) -> list[int]:
    """Lines whose loop, comprehension or lambda calls what it holds `one`."""
    lines: list[int] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            lines += [name.lineno for name in ast.walk(node.target) if isinstance(name, ast.Name) and name.id == "one"]
        elif isinstance(node, ast.Lambda):
            lines += [argument.lineno for argument in node.args.args if argument.arg == "one"]
    return lines


@pytest.mark.parametrize("root", [SOURCE, CHECKOUT / "bench", CHECKOUT / "tests"], ids=lambda root: root.name)
def test_loop_variables_say_what_they_hold(root: Path) -> None:
    files = sorted(root.rglob("*.py"))
    assert len(files) > 20
    assert [f"{file.relative_to(root)}:{line}" for file in files for line in loops_over_one(file)] == []
