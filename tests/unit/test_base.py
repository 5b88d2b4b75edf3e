"""The kept base of a build: its key holds all that decides the installed packages, and one base is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.image.base import base_key, prepare_base
from bedplate.image.packages import Lock, Package
from bedplate.image.recipe import Recipe, read_recipe, recipes_directory
from bedplate.image.tools import Tools

RECIPE = read_recipe(recipes_directory())
PACKAGE = Package(
    name="openssl", version="1", architecture="amd64", sha256="0" * 64, size_bytes=1, file="openssl_1.deb", stanza=""
)
LOCK = Lock(request="r", suite="trixie", packages=(PACKAGE,))
TOOLS = Tools(root=Path("/tools"), digest="t")


def key(*, recipe: Recipe = RECIPE, lock: Lock = LOCK, tools: Tools = TOOLS, kernel_release: str = "7") -> str:
    return base_key(recipe, lock, tools, kernel_release=kernel_release)


@pytest.mark.parametrize(
    "other",
    [
        lambda: key(lock=replace(LOCK, packages=(replace(PACKAGE, version="2", file="openssl_2.deb", sha256="1" * 64),))),
        lambda: key(lock=replace(LOCK, packages=(replace(PACKAGE, sha256="1" * 64),))),  # same name and version
        lambda: key(lock=replace(LOCK, request="s")),
        lambda: key(tools=replace(TOOLS, digest="u")),
        lambda: key(kernel_release="8"),
        lambda: key(recipe=replace(RECIPE, packages=RECIPE.packages[1:])),
        lambda: key(recipe=replace(RECIPE, source_date_epoch=1)),
    ],
)
def test_what_decides_the_packages_is_in_the_key(other: Callable[[], str]) -> None:
    assert other() != key()


def test_what_comes_after_the_packages_is_not() -> None:
    later = replace(RECIPE, kernel_command_line=("quiet",), remove=(), hostname="other", compression="zstd")
    assert key(recipe=later) == key()


def test_one_base_is_kept(tmp_path: Path) -> None:
    first = prepare_base(tmp_path, "a" * 64)
    (first / "tree").mkdir()
    assert prepare_base(tmp_path, "a" * 64) == first
    assert (first / "tree").is_dir()
    second = prepare_base(tmp_path, "b" * 64)
    assert list((tmp_path / "base").iterdir()) == [second]
