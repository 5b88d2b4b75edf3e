"""Who may import whom: the arrows of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import bedplate

SOURCE = Path(bedplate.__file__).parent

EVERYWHERE = {"errors", "model"}
DOING = EVERYWHERE | {"catalog", "host", "plan", "engines", "act"}
MAY_IMPORT = {
    "errors": set(),
    "model": EVERYWHERE,
    "catalog": EVERYWHERE,
    "host": EVERYWHERE,
    "engines": EVERYWHERE,
    "plan": EVERYWHERE,
    "act": EVERYWHERE | {"host"},
    "image": DOING,
    "prove": DOING,
    "front": DOING,
    "cli": DOING | {"image", "prove", "front"},
}
IMPURE = {"os", "pathlib", "subprocess", "socket", "time", "random", "io", "tempfile", "shutil", "datetime"}
PURE_ROOMS = {"plan", "engines"}


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


def test_rooms_import_only_along_the_arrows() -> None:
    wrong: list[str] = []
    seen = 0
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in MAY_IMPORT, f"{room}: a new room needs a row in MAY_IMPORT and in docs/architecture.md"
        for line, name in imports_of(path):
            if not name.startswith("bedplate."):
                continue
            seen += 1
            target = name.split(".")[1]
            if target != room and target not in MAY_IMPORT[room] and target != "__version__":
                wrong.append(f"{path.relative_to(SOURCE)}:{line}: {room} imports {target}")
    assert seen > 3
    assert wrong == []


def test_deciders_touch_nothing() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: imports {name}"
        for room in PURE_ROOMS
        for path in sorted((SOURCE / room).rglob("*.py"))
        for line, name in imports_of(path)
        if name.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_only_the_door_starts_processes_and_only_cli_prints() -> None:
    wrong: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        where = path.relative_to(SOURCE).as_posix()
        if where != "act/run.py":
            wrong += [f"{where}:{line}: {name}" for line, name in imports_of(path) if name == "subprocess"]
        if not where.startswith("cli/"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    wrong.append(f"{where}:{node.lineno}: print")
    assert wrong == []
