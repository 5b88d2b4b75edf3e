"""Every public name says what its signature cannot: a docstring is there, and does more than repeat name and types.

Public is a class or function at a module's top level, and a method of such a class, whose name has no leading
underscore, in a module without one. Exempt are:

- enum members and other attributes: the docstring of their class or the comment beside them explains them;
- names with two leading underscores: Python documents what they do, and the class says what it is made of;
- methods that override a documented one of a base class in bedplate: the base states the contract;
- methods of a class whose base is of another package (`do_GET`, `handle_starttag`): their contract is documented there;
- `typing.overload` variants and the setters of properties: the implementation and the getter carry the text;
- functions inside functions: nobody else can call them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import bedplate

SOURCE = Path(bedplate.__file__).parent

# Every package, and every module beside them: a new one is held from its first file on.
PACKAGES = sorted(path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Words that carry no knowledge by themselves.
STOP_WORDS = """
a an and any are as at be been by can do does each every for from given has have if in into is it its of off on one or our
own so some such that the their them then there these they this those to up was were what when where which who whose will
with class function method value object instance get return give make self cls how many much more thing kind
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicName:
    """A class, function or method that others may use: `place` is its dotted name, `owner` the class of a method."""

    place: str
    line: int
    node: ast.ClassDef | Function
    owner: ast.ClassDef | None = None


def stem(word: str) -> str:
    """The word without its ending, crudely: `plans`, `planned` and `planning` become the same."""
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "es", "ed", "er", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


STOP_STEMS = frozenset(stem(word) for word in STOP_WORDS.split())


def stems(text: str) -> set[str]:
    """The stems of the words in a text or a piece of source; `CamelCase` and `snake_case` are taken apart."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return {stem(word.lower()) for word in re.findall(r"[A-Za-z]+", apart)} - STOP_STEMS


def signature_words(name: PublicName) -> set[str]:
    """What a reader already sees: names of the thing, of its class, arguments and fields, and their annotations."""
    seen = [name.node.name, name.owner.name if name.owner else ""]
    signatures = [name.node] if not isinstance(name.node, ast.ClassDef) else []
    if isinstance(name.node, ast.ClassDef):
        seen += [ast.unparse(base) for base in name.node.bases]
        for statement in name.node.body:
            if isinstance(statement, ast.AnnAssign):
                seen += [ast.unparse(statement.target), ast.unparse(statement.annotation)]
            elif isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                signatures.append(statement)
    for function in signatures:
        seen += [ast.unparse(function.args), ast.unparse(function.returns) if function.returns else ""]
    return stems(" ".join(seen))


def complaint(name: PublicName) -> str | None:
    """Why the docstring is not good enough; None if it is."""
    text = ast.get_docstring(name.node) or ""
    if not text.strip():
        return "has no docstring"
    return "only repeats its name and types" if stems(text) <= signature_words(name) else None


def decorators(function: Function) -> set[str]:
    """The last words of the decorators: `overload` for `@typing.overload`, `setter` for `@level.setter`."""
    return {ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in function.decorator_list}


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """The functions that a class body defines, overloads and setters left out."""
    for statement in node.body:
        if isinstance(statement, Function) and not decorators(statement) & {"overload", "setter", "deleter"}:
            yield statement


def inherits_contract(method: str, node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a base documents this method: one of `classes` by its docstring, one of another package by assumption."""
    for base in node.bases:
        named = base.value if isinstance(base, ast.Subscript) else base
        base_name = ast.unparse(named).split(".")[-1]
        if base_name in NOT_CONTRACTS:
            continue
        if base_name not in classes:
            return True
        known = classes[base_name]
        if any(function.name == method and ast.get_docstring(function) for function in methods(known)):
            return True
        if inherits_contract(method, known, classes):
            return True
    return False


# Bases of other packages that define no method which a class would override.
NOT_CONTRACTS = frozenset(
    {"Protocol", "Generic", "NamedTuple", "TypedDict", "ABC", "Enum", "StrEnum", "IntEnum", "Flag", "IntFlag"}
)


def public_names(module: str, tree: ast.Module, classes: dict[str, ast.ClassDef]) -> Iterator[PublicName]:
    """The names of one module that must be documented; `classes` are those of the whole package, by their name."""
    if any(part.startswith("_") for part in module.split(".")):
        return
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef) or not decorators(node) & {"overload"}:
            yield PublicName(place=f"{module}.{node.name}", line=node.lineno, node=node)
        if isinstance(node, ast.ClassDef):
            for method in methods(node):
                if not method.name.startswith("_") and not inherits_contract(method.name, node, classes):
                    place = f"{module}.{node.name}.{method.name}"
                    yield PublicName(place=place, line=method.lineno, node=method, owner=node)


def module_name(path: Path) -> str:
    """The dotted name below bedplate: `host.kernel`, and `host` for its `__init__.py`."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def class_definitions(trees: list[ast.Module]) -> dict[str, ast.ClassDef]:
    """Every class by its name; another test holds that no name is defined twice."""
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def complaints(modules: dict[str, ast.Module], classes: dict[str, ast.ClassDef]) -> list[str]:
    """`module.name (line 12) has no docstring`, for each public name that deserves one."""
    names = (name for module, tree in modules.items() for name in public_names(module, tree, classes))
    return [f"{name.place} (line {name.line}) {why}" for name in names if (why := complaint(name)) is not None]


@pytest.fixture(scope="module")
def package() -> dict[str, ast.Module]:
    """The syntax trees of all of bedplate's modules, by dotted name."""
    return {module_name(path): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


@pytest.fixture(scope="module")
def classes(package: dict[str, ast.Module]) -> dict[str, ast.ClassDef]:
    """All of bedplate's classes, by name."""
    return class_definitions(list(package.values()))


@pytest.mark.parametrize("room", [name for name in PACKAGES if not name.startswith("_")])
def test_every_public_name_is_documented(
    room: str, package: dict[str, ast.Module], classes: dict[str, ast.ClassDef]
) -> None:
    modules = {module: tree for module, tree in package.items() if module.split(".")[0] == room}
    assert modules
    assert complaints(modules, classes) == []


def test_the_walk_sees_the_whole_package(package: dict[str, ast.Module], classes: dict[str, ast.ClassDef]) -> None:
    assert sum(1 for module, tree in package.items() for _ in public_names(module, tree, classes)) > 1300


def judged(source: str, module: str = "plan.memory") -> list[str]:
    """The complaints about one module's source."""
    tree = ast.parse(source)
    return complaints({module: tree}, class_definitions([tree]))


def test_a_docstring_that_adds_something_is_good() -> None:
    assert judged('def free_bytes(text: str) -> int:\n    "MemAvailable of /proc/meminfo; 0 if the line is absent."') == []
    assert judged('class Cache:\n    "A CPU cache, as cacheinfo of sysfs describes it."\n    size_bytes: int') == []


def test_a_missing_or_blank_docstring_is_found() -> None:
    assert judged("def free_bytes(text: str) -> int: ...") == ["plan.memory.free_bytes (line 1) has no docstring"]
    assert judged('async def free_bytes() -> int:\n    "  "') == ["plan.memory.free_bytes (line 1) has no docstring"]
    assert judged("class Cache:\n    def evict(self) -> None: ...") == [
        "plan.memory.Cache (line 1) has no docstring",
        "plan.memory.Cache.evict (line 2) has no docstring",
    ]


@pytest.mark.parametrize(
    "source",
    [
        'def read_free_bytes(text: str) -> int:\n    "Reads the free bytes from the text and returns an int."',
        'def plan_memory(nodes: tuple[NumaNode, ...]) -> MemoryPlan:\n    "Return a memory plan for the given NUMA nodes."',
        'class Cache:\n    "A cache."\n    size_bytes: int',
        'class Cache:\n    "Caches with their sizes, in bytes."\n    size_bytes: int',
        'class Cache:\n    "Cache of a size."\n    def __init__(self, size: int) -> None: ...',
        'class PlanError(BedplateError):\n    "A bedplate plan error."',
    ],
)
def test_a_docstring_that_only_repeats_is_found(source: str) -> None:
    (found,) = judged(source)
    assert found.endswith("only repeats its name and types")


def test_a_method_may_not_repeat_its_class_either() -> None:
    source = 'class Journal:\n    "Written in order."\n    def read(self) -> Step:\n        "Read a step of the journal."'
    assert judged(source) == ["plan.memory.Journal.read (line 3) only repeats its name and types"]


def test_private_names_and_modules_need_none() -> None:
    assert judged("def _helper() -> None: ...\nclass _Cache:\n    def evict(self) -> None: ...") == []
    assert judged("def free_bytes() -> int: ...", module="plan._memory") == []
    assert (
        judged('class Cache:\n    "Of a CPU."\n    def __len__(self) -> int: ...\n    def _evict(self) -> None: ...') == []
    )


def test_an_override_needs_none_only_if_its_base_has_one() -> None:
    base = 'class Victim(Protocol):\n    "It is measured."\n    def start(self) -> None:\n        "Blocks until ready."\n'
    assert judged(base + 'class Engine(Victim):\n    "llama.cpp."\n    def start(self) -> None: ...') == []
    assert judged(base + 'class Engine(Victim):\n    "llama.cpp."\n    def stop(self) -> None: ...') == [
        "plan.memory.Engine.stop (line 7) has no docstring"
    ]
    undocumented = base.replace('\n        "Blocks until ready."', " ...")
    assert len(judged(undocumented + 'class Engine(Victim):\n    "llama.cpp."\n    def start(self) -> None: ...')) == 2


def test_a_base_of_another_package_documents_its_own_methods() -> None:
    assert judged('class Door(BaseHTTPRequestHandler):\n    "Answers on loopback."\n    def do_GET(self) -> None: ...') == []


def test_setters_and_overloads_need_none() -> None:
    source = """
class Cache:
    "Of a CPU."
    @property
    def level(self) -> int:
        "1 is nearest to the core."
    @level.setter
    def level(self, level: int) -> None: ...
@overload
def find(path: str) -> str: ...
def find(path: str) -> str:
    "The first match below; None if there is none."
"""
    assert judged(source) == []
