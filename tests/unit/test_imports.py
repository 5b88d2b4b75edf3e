"""Who may import whom: the arrows of docs/architecture.md, read from the source."""

from __future__ import annotations

import argparse
import ast
import graphlib
import importlib
from collections.abc import Sequence
from pathlib import Path

import pytest

import bedplate
from bedplate.cli.main import VERBS

SOURCE = Path(bedplate.__file__).parent

# What each room imports today, and no more: an arrow that is not used any more is taken out, in the same change. A package
# with a row for each of its directories is divided: what lies beside them ("host": host/facts.py) is a room of its own.
MAY_IMPORT = {
    "errors": set(),
    "interrupts": set(),
    "model": {"errors"},
    "config": {"model"},
    "catalog": {"errors", "model", "config"},
    "host/secrets": {"model"},
    "host/root": {"errors", "model"},
    "host/kernel": {"errors", "model", "host/secrets", "host/root"},
    "host/accel": {"errors", "model", "host/root", "host/kernel"},
    "host/system": {"errors", "model", "host/root", "host/kernel"},
    "host/stack": {"errors", "model", "host/root", "host/kernel", "host/system"},
    "host/formats": {"errors", "model", "host/secrets", "host/root", "host/kernel", "host/accel"},
    "host": {"errors", "model", "host/root", "host/kernel", "host/accel", "host/system", "host/stack"},
    "host/record": {
        *("errors", "model", "host", "host/secrets", "host/root", "host/kernel", "host/accel", "host/system", "host/stack"),
    },
    "engines": {"errors", "model"},
    "plan": {"errors", "model"},
    "act": {"errors", "interrupts", "model", "host/root", "host/kernel", "host/system"},
    "weights": {"errors", "model", "catalog", "host/root", "act"},
    "image": {
        "errors",
        "interrupts",
        "model",
        "catalog",
        "host/root",
        "host/stack",
        "host/system",
        "weights",
        "plan",
        "engines",
        "act",
        "front",
    },
    "prove": set(),
    "prove/gauge": {"errors", "model", "catalog", "host/root", "host/kernel", "engines"},
    "prove/lab": {
        *("errors", "interrupts", "model", "catalog", "host/root", "host/kernel", "plan", "engines", "act", "prove/gauge"),
    },
    "front": {"errors", "model"},
    "report": {"interrupts", "model"},
    "flows": {
        *("errors", "model", "catalog", "host", "host/root", "host/kernel", "host/accel", "host/system", "host/stack"),
        *("host/formats", "host/record", "interrupts", "plan", "engines", "act", "weights", "image", "prove/gauge"),
        *("prove/lab", "front", "report", "config", "host/secrets"),
    },
    "cli": {"errors", "interrupts", "model", "report", "flows"},
}
DIVIDED = {room.split("/")[0] for room in MAY_IMPORT if "/" in room}
IMPURE = {"os", "pathlib", "subprocess", "socket", "time", "random", "io", "tempfile", "shutil", "datetime"}
PURE_ROOMS = {"model", "config", "plan", "engines", "front", "host/secrets"}
CLIENT = "engines/client.py"  # speaks to an engine; what decides how one is started stays pure


def imports_of(path: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "bedplate":
                found += [(node.lineno, f"bedplate.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


def room_of(parts: Sequence[str]) -> str:
    """The room of a module, whose path below bedplate/ these are the parts of, with or without a suffix."""
    package, *rest = parts
    if package in DIVIDED and rest and (SOURCE / package / rest[0]).is_dir():
        return f"{package}/{rest[0]}"
    return package.removesuffix(".py")


def arrows() -> list[tuple[str, str, str]]:
    """(room, what it imports, "file:line") of every import of another room."""
    found: list[tuple[str, str, str]] = []
    for path in sorted(SOURCE.rglob("*.py")):
        room = room_of(path.relative_to(SOURCE).parts)
        for line, name in imports_of(path):
            target = room_of(name.split(".")[1:]) if name.startswith("bedplate.") else room
            if target not in (room, "__version__"):
                found.append((room, target, f"{path.relative_to(SOURCE)}:{line}"))
    return found


def test_rooms_import_only_along_the_arrows() -> None:
    rooms = {room_of(path.relative_to(SOURCE).parts) for path in SOURCE.rglob("*.py")}
    assert rooms - {"__init__"} == set(MAY_IMPORT), "a new room needs a row in MAY_IMPORT and in docs/architecture.md"
    wrong = [f"{where}: {room} imports {target}" for room, target, where in arrows() if target not in MAY_IMPORT[room]]
    assert wrong == []


def test_every_arrow_is_used() -> None:
    """A permission that nobody needs would let the next import through unseen."""
    used = {(room, target) for room, target, _ in arrows()}
    allowed = {(room, target) for room, targets in MAY_IMPORT.items() for target in targets}
    assert sorted(allowed - used) == []


def test_no_circle() -> None:
    """Rooms that need each other are one room: neither can be read, tested or left out of an image alone."""
    assert list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())[-1] == "cli"  # raises CycleError, naming the circle


MOST_LINES_OF_A_COMMAND = 60


def count_commands(parser: argparse.ArgumentParser) -> int:
    """Commands that a parser has at the ends of its branches: `model list` is one, `model make random` another."""
    branches = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return sum(count_commands(found) for branch in branches for found in branch.choices.values()) if branches else 1


def test_the_command_line_is_a_thin_face() -> None:
    """cli parses, prints and exits: rendering belongs to report, decisions to flows, what verbs share to one module."""
    lines = sum(len(path.read_text().splitlines()) for path in sorted((SOURCE / "cli").rglob("*.py")))
    commands = 0
    for module, _ in (verb for verbs in VERBS.values() for verb in verbs.values()):
        parser = argparse.ArgumentParser()
        importlib.import_module(f"bedplate.cli.{module}").add_arguments(parser)
        commands += count_commands(parser)
    assert 0 < lines < MOST_LINES_OF_A_COMMAND * commands


def test_deciders_touch_nothing() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: imports {name}"
        for room in PURE_ROOMS
        for path in sorted((SOURCE / room).rglob("*.py"))
        if path != SOURCE / CLIENT
        for line, name in imports_of(path)
        if name.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_only_one_module_calls_the_service_manager() -> None:
    """Its time limits, and how its answers are read, stand in act/systemd.py; what people shall type are whole sentences."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path != SOURCE / "act/systemd.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in ("systemctl", "systemd-run")
    ]
    assert wrong == []


def test_only_one_module_takes_locks() -> None:
    """A lock is an exclusive flock(2), which the kernel ends with its holder; no other kind is mixed with it."""
    importers = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        for _, name in imports_of(path)
        if name == "fcntl"
    ]
    assert importers == ["act/lock.py"]


def test_only_one_module_of_act_connects_to_haproxy() -> None:
    """How a command is sent, its time limit and the bound of its answer stand in act/front_socket.py."""
    importers = [
        path.name for path in sorted((SOURCE / "act").rglob("*.py")) for _, name in imports_of(path) if name == "socket"
    ]
    assert importers == ["front_socket.py"]


def test_only_one_function_digests_a_whole_file() -> None:
    """act/files.py has the SHA-256 of a file; dpkg's own digest of a file is MD5."""
    users = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "file_digest"
    ]
    assert users == ["image/contents.py"]


OPENS_HTTP = {
    "engines/client.py",
    "act/download/exchange.py",  # servers of files: redirects, proxies and tokens, and bodies that are not held in memory
    "flows/tune.py",  # the URL that a user gives to --probe, of any server: redirects and proxies are followed
}


def test_only_one_module_opens_http_connections() -> None:
    """How a server is reached, and what an answer may take, stand in engines/client.py; exceptions are named elsewhere."""
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in ("HTTPConnection", "HTTPSConnection", "urlopen")
    }
    assert found == OPENS_HTTP


def test_no_class_is_told_by_type_is() -> None:
    """A subclass is another type: a root in which a plan is not applied lost NVML that way. The class says what it can."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        and ast.unparse(node.left).startswith("type(")
        and any(isinstance(side, ast.Name) and side.id[:1].isupper() for side in node.comparators)
    ]
    assert wrong == []


MESSAGES = ("error.message", "str(error)")


def is_told_by_words(node: ast.AST) -> bool:
    """Whether an expression asks what stands in the message of an error: by `in`, by ==, by a method or a pattern."""
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn | ast.Eq):
        sides = (node.left, *node.comparators) if isinstance(node.ops[0], ast.Eq) else node.comparators
        return any(ast.unparse(side) in MESSAGES for side in sides) and not ast.unparse(node.left).startswith("error.tail")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("startswith", "endswith", "find", "index", "count"):
            return ast.unparse(node.func.value) in MESSAGES
        if node.func.attr in ("search", "match", "fullmatch"):
            return any(ast.unparse(argument) in MESSAGES for argument in node.args)
    return False


@pytest.mark.parametrize(
    "text",
    [
        '"time limit" in error.message',
        'error.message == "no"',
        'error.message.startswith("time")',
        're.search("limit", str(error))',
        "_LIMIT.search(error.message)",
    ],
)
def test_each_way_to_read_a_message_is_seen(text: str) -> None:
    assert any(is_told_by_words(node) for node in ast.walk(ast.parse(text)))


def test_no_error_is_told_by_the_words_of_its_message() -> None:
    """A message is for people and is rewritten; where a caller acts differently the error has a class or a field."""
    wrong = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for top in (SOURCE, SOURCE.parents[1] / "bench")
        for path in sorted(top.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr) and is_told_by_words(node)
    ]
    assert wrong == []


def test_only_the_door_starts_processes_and_only_cli_prints() -> None:
    wrong: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        where = path.relative_to(SOURCE).as_posix()
        if where not in ("act/run.py", "act/guardian.py"):  # the guardian is a part of the door
            wrong += [f"{where}:{line}: {name}" for line, name in imports_of(path) if name == "subprocess"]
        if not where.startswith("cli/"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    wrong.append(f"{where}:{node.lineno}: print")
    assert wrong == []
