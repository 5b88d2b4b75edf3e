"""The tools tree: whom it trusts, what its digest stands for, and that a damaged one counts as absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.catalog.strict import read_toml
from bedplate.image import tools
from bedplate.image.recipe import recipes_directory
from bedplate.image.tools import ToolsRecipe, mmdebstrap_arguments, read_mirrors, read_tools

RECIPES = recipes_directory()
RECIPE = read_toml(RECIPES / "tools.toml", ToolsRecipe)
DEBIAN = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A tree as the making leaves it, with two packages' files and one that no package owns."""
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    usr = paths.tools / "usr"
    (usr / "bin").mkdir(parents=True)
    (usr / "bin/mkosi").write_text("mkosi")
    (usr / "bin/ukify").symlink_to("mkosi")
    (usr / "cache").write_text("of today")
    info = paths.tools / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "mkosi.list").write_text("/.\n/usr\n/usr/bin\n/usr/bin/mkosi\n/usr/bin/ukify\n")
    write_record(paths)
    return paths


def write_record(paths: Paths) -> None:
    record = {
        "recipe": tools._recipe_digest(RECIPE),
        "digest": tools._digest_tree(paths.tools, "mkosi 25"),
        "files": dict(tools._read_sizes(paths.tools)),
    }
    (paths.tools / ".bedplate-tools.json").write_text(json.dumps(record))


def test_only_debians_archive_keyring_may_sign() -> None:
    arguments = mmdebstrap_arguments(RECIPE, Path("/tree"), mirror="http://mirror/debian", keyring=DEBIAN)
    assert not [argument for argument in arguments if argument.startswith("--keyring")]
    after = arguments[arguments.index("/tree") + 1 :]
    assert after == [
        f"deb [signed-by={DEBIAN}] http://mirror/debian trixie main",
        f"deb [signed-by={DEBIAN}] http://mirror/debian trixie-updates main",
        f"deb [signed-by={DEBIAN}] http://mirror/debian-security trixie-security main",
    ]


def test_the_tree_says_where_it_came_from(paths: Paths) -> None:
    arguments = mmdebstrap_arguments(RECIPE, Path("/tree"), mirror="http://mirror/debian/", keyring=DEBIAN)
    (paths.tools / "etc/apt").mkdir(parents=True)
    (paths.tools / "etc/apt/sources.list").write_text("\n".join(arguments[arguments.index("/tree") + 1 :]))
    assert read_mirrors(paths.tools) == ("http://mirror/debian", "http://mirror/debian-security")


def test_a_whole_tree_is_taken(paths: Paths) -> None:
    found = read_tools(paths, RECIPES)
    assert found is not None
    assert found.digest == tools._digest_tree(paths.tools, "mkosi 25")


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: (tree / "usr/bin/mkosi").unlink(),
        lambda tree: (tree / "usr/bin/mkosi").write_text(""),
        lambda tree: (tree / "usr/bin/ukify").unlink(),
        lambda tree: (tree / "usr/cache").unlink(),
        lambda tree: (tree / ".bedplate-tools.json").write_text("{"),
        lambda tree: (tree / ".bedplate-tools.json").write_text("[]"),
        lambda tree: (tree / ".bedplate-tools.json").unlink(),
    ],
)
def test_a_damaged_tree_counts_as_absent(paths: Paths, damage: Callable[[Path], object]) -> None:
    damage(paths.tools)
    assert read_tools(paths, RECIPES) is None


def test_a_tree_of_another_recipe_counts_as_absent(paths: Paths) -> None:
    record = json.loads((paths.tools / ".bedplate-tools.json").read_text())
    (paths.tools / ".bedplate-tools.json").write_text(json.dumps(record | {"recipe": "other"}))
    assert read_tools(paths, RECIPES) is None


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda tree: (tree / "usr/bin/mkosi").write_text("other"), True),  # same name, version and size
        (lambda tree: (tree / "usr/bin/mkosi").chmod(0o755), True),
        (lambda tree: (tree / "usr/cache").write_text("of tomorrow"), False),
    ],
)
def test_the_digest_is_over_the_packages_files(paths: Paths, change: Callable[[Path], object], counts: bool) -> None:
    before = tools._digest_tree(paths.tools, "mkosi 25")
    assert tools._digest_tree(paths.tools, "mkosi 26") != before
    change(paths.tools)
    assert (tools._digest_tree(paths.tools, "mkosi 25") != before) is counts


def test_without_a_mirror_mmdebstrap_takes_its_own_and_the_keyring_alone() -> None:
    arguments = mmdebstrap_arguments(RECIPE, Path("/tree"), mirror=None, keyring=DEBIAN)
    assert f"--keyring={DEBIAN}" in arguments
    assert arguments[-1] == "/tree"
