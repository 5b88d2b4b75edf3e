"""Use cases are functions: nothing in flows/ parses arguments, prints, exits or asks."""

from __future__ import annotations

import ast

import pytest
from tests.unit.test_imports import SOURCE, imports_of

FLOWS = sorted((SOURCE / "flows").glob("*.py"))
_FACE_MODULES = {"argparse", "getpass", "optparse", "readline", "curses", "rich"}
_FACE_CALLS = {"print", "input", "exit", "quit", "breakpoint"}
_FACE_ATTRIBUTES = {
    ("sys", "exit"),
    ("sys", "stdout"),
    ("sys", "stderr"),
    ("sys", "stdin"),
    ("sys", "argv"),
    ("os", "_exit"),
}

# What an image runs; it is built without bedplate.image and bedplate.prove.
_IN_IMAGE = (
    *("flows.tune", "flows.audit", "flows.serve", "flows.guard", "flows.measure", "flows.model", "flows.endpoint"),
    *("flows.var", "flows.status", "flows.ask", "flows.record", "flows.explain", "flows.places"),
    *("cli.tune", "cli.serve", "cli.doctor", "cli.inspect", "cli.guard", "cli.var", "cli.measure", "cli.status", "cli.ask"),
    *("cli.record", "cli.explain", "cli.main", "cli.key", "cli.ca", "cli.model", "cli.stack", "cli.catalog", "cli.logs"),
    "cli.fit",
)


def face_of(text: str) -> list[str]:
    """What of a module's source only a face may do."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _FACE_CALLS:
                found.append(f"{node.lineno}: {name}()")
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in _FACE_ATTRIBUTES:
                found.append(f"{node.lineno}: {module}.{name}")
            case ast.Name(id="SystemExit"):
                found.append(f"{node.lineno}: SystemExit")
            case ast.ImportFrom(module="sys", names=names):
                found += [f"{node.lineno}: sys.{alias.name}" for alias in names if ("sys", alias.name) in _FACE_ATTRIBUTES]
    return found


@pytest.mark.parametrize(
    "text",
    ["print(1)", "input()", "exit(1)", "import sys\nsys.exit(1)", "from sys import stderr", "raise SystemExit(1)"],
)
def test_the_rule_sees_each_kind(text: str) -> None:
    assert len(face_of(text)) == 1


def test_flows_have_no_face() -> None:
    assert len(FLOWS) > 3
    wrong = [f"{path.name}:{what}" for path in FLOWS for what in face_of(path.read_text())]
    wrong += [
        f"{path.name}:{line}: imports {name}"
        for path in FLOWS
        for line, name in imports_of(path)
        if name.split(".")[0] in _FACE_MODULES
    ]
    assert wrong == []


def imported_at_once(module: str) -> set[str]:
    """Every module of bedplate that importing one imports, without what functions import when they are called."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        path = SOURCE.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not path.is_file():  # a name of a module, not a module
            continue
        found.add(name)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bedplate"):
                parts = node.module.split(".")
                waiting |= {".".join(parts[:length]) for length in range(2, len(parts) + 1)}
                waiting |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_are_followed() -> None:
    assert {"bedplate.image.machine", "bedplate.errors"} <= imported_at_once("bedplate.flows.preflight")


@pytest.mark.parametrize("name", _IN_IMAGE)
def test_what_the_image_runs_needs_nothing_that_it_is_built_without(name: str) -> None:
    found = imported_at_once(f"bedplate.{name}")
    assert f"bedplate.{name}" in found
    assert [module for module in found if module.startswith(("bedplate.image", "bedplate.prove"))] == []
