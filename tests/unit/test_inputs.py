"""What of our own code is an input of a build: all that takes part, found by imports, and nothing has to remember it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.test_lock import Notes

from bedplate.act.paths import Paths
from bedplate.image import inputs, models_disk
from bedplate.image.build import inputs_digest
from bedplate.image.engine import Inputs, digest_inputs
from bedplate.image.inputs import PACKAGE, find_builders
from bedplate.image.keys import Keys
from bedplate.image.packages import Lock
from bedplate.image.recipe import read_engine_recipe, read_recipe, recipes_directory
from bedplate.image.tools import Tools

RECIPES = recipes_directory()
LOCK = Lock(request="", suite="trixie", packages=())
NOT_BUILDING = ("console", "kvm", "machine", "qemu", "qmp")


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, by Python's own parser."""
    found = set[str]()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "bedplate.image":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bedplate.image."):
            found.add(str(node.module).split(".")[2])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[2] for alias in node.names if alias.name.startswith("bedplate.image.")}
    return found


@pytest.mark.parametrize("entry", ["build", "engine", "models_disk", "initrd"])
def test_all_that_takes_part_is_found(entry: str) -> None:
    found, left = set[str](), {entry}
    while left:
        found |= left
        left = set().union(*(imports(module) for module in left)) - found
    assert {file.stem for file in find_builders(entry)} == found
    assert found.isdisjoint(NOT_BUILDING)  # a change of the machine builds nothing again


def test_what_was_forgotten_once_is_in_it() -> None:
    assert {"trees", "packages", "tools", "keys"} <= {file.stem for file in find_builders("build")}
    assert {"trees", "packages", "tools", "keys"} <= {file.stem for file in find_builders("engine")}


def test_every_form_of_an_import_is_read(tmp_path: Path) -> None:
    texts = {
        "a": "from bedplate.image.b import (\n    x,\n)\n",
        "b": "def f() -> None:\n    from bedplate.image.c import y\n",
        "c": "import bedplate.image.d\n",
        "d": "from bedplate.image import e, a\nfrom bedplate.imagery.g import z\n# from bedplate.image.g import z\n",
        "e": "",
        "g": "",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert [file.stem for file in find_builders("a", tmp_path)] == ["a", "b", "c", "d", "e"]


def image_digest(keys: Keys, _: Paths) -> str:
    return inputs_digest(RECIPES, read_recipe(RECIPES), Tools(root=Path("/"), digest="t"), LOCK, keys)


def engine_digest(keys: Keys, _: Paths) -> str:
    recipe = read_engine_recipe(RECIPES, "llamacpp")
    tools = Tools(root=Path("/"), digest="t")
    return digest_inputs(RECIPES, Inputs(recipe=recipe, lock=LOCK, wheels=None, tools=tools, keys=keys, epoch=1))


def disk_digest(_: Keys, paths: Paths) -> str:
    return models_disk.ensure_models_disk(paths, [], Notes()).name


@pytest.mark.parametrize(
    ("entry", "digest"), [("build", image_digest), ("engine", engine_digest), ("models_disk", disk_digest)]
)
def test_a_change_of_any_part_is_another_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, digest: Callable[[Keys, Paths], str]
) -> None:
    """A changed way of copying, unpacking or sandboxing left the old image, since its digest was the same."""
    package = Path(shutil.copytree(PACKAGE, tmp_path / "image", ignore=shutil.ignore_patterns("__pycache__")))
    monkeypatch.setattr(inputs, "PACKAGE", package)
    monkeypatch.setattr(models_disk, "run", lambda argv, **_: Path(argv[-2]).write_text("disk"))
    monkeypatch.setattr(models_disk, "tools_command", lambda _, argv: argv)
    certificate = tmp_path / "owner.crt"
    certificate.write_text("certificate")
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    keys = Keys(owner_key=certificate, owner_certificate=certificate, pcr_key=certificate, pcr_certificate=certificate)
    before = digest(keys, paths)
    for file in find_builders(entry):
        text = file.read_text()
        file.write_text(text + "# changed\n")
        assert digest(keys, paths) != before, file.name
        file.write_text(text)
    for name in NOT_BUILDING:
        with (package / f"{name}.py").open("a") as handle:
            handle.write("# changed\n")
    assert digest(keys, paths) == before
