"""The recipe and its strict loader: everything that is wrong with a file is told at once, with the nearest right key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import pytest

from bedplate.catalog.strict import parse_toml
from bedplate.errors import DataError, ReadError
from bedplate.host.system.var import LABEL
from bedplate.image.recipe import Variant, read_engine_recipe, read_recipe, recipes_directory
from bedplate.image.render import render_boot_partitions

RECIPES = recipes_directory()


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Inner:
    size_mib: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    name: str
    colour: Colour
    tags: tuple[str, ...]
    inner: Inner
    ratio: float = 1.0
    note: str | None = None


GOOD = 'name = "a"\ncolour = "red"\ntags = ["x"]\n[inner]\nsize_mib = 3\n'


def test_a_good_file_becomes_values() -> None:
    assert parse_toml(GOOD, Sample, name="f.toml") == Sample(
        name="a", colour=Colour.RED, tags=("x",), inner=Inner(size_mib=3)
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("name", "nmae"), ["f.toml:nmae: unknown key; did you mean 'name'?", "f.toml:name: missing"]),
        (GOOD.replace("size_mib", "size_mb"), ["f.toml:inner.size_mb: unknown key; did you mean 'size_mib'?"]),
        (GOOD.replace('"red"', '"rde"'), ["f.toml:colour: got 'rde', expected one of red"]),
        (GOOD.replace('["x"]', '"x"'), ["f.toml:tags: got text, expected a list"]),
        (GOOD.replace('["x"]', "[1]"), ["f.toml:tags[0]: got int 1, expected str"]),
        (GOOD.replace("size_mib = 3", "size_mib = true"), ["f.toml:inner.size_mib: got a boolean True, expected int"]),
        (GOOD.replace("= 3", "= "), ["f.toml: not TOML"]),
    ],
)
def test_every_problem_is_told(text: str, told: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        parse_toml(text, Sample, name="f.toml")
    for line in told:
        assert line in caught.value.message


def test_the_shipped_recipes_load() -> None:
    recipe = read_recipe(RECIPES)
    assert recipe.packages == tuple(sorted(recipe.packages))
    assert recipe.slots.root_mib > 2 * 100  # an update must fit, and grow
    assert read_engine_recipe(RECIPES, "llamacpp").accept_expired_release


def test_an_unknown_recipe_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "os").mkdir()
    text = (RECIPES / "os/recipe.toml").read_text().replace("kernel = ", "kernle = ")
    (tmp_path / "os/recipe.toml").write_text(text)
    with pytest.raises(DataError, match=r"recipe.toml:kernle: unknown key; did you mean 'kernel'\?"):
        read_recipe(tmp_path)


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot read"):
        read_recipe(tmp_path)


def test_a_production_image_imports_no_credentials_and_a_development_image_may() -> None:
    development, production = (read_recipe(RECIPES, variant=variant) for variant in Variant)
    assert production.command_line == (*development.command_line, "systemd.import_credentials=no")
    assert development.command_line == development.kernel_command_line


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("acme.edge-1", None),
        ("", "id: got ''"),
        ("Acme", "id: got 'Acme'"),
        ("acme_edge", "id: got 'acme_edge'"),
        ("../x", "id: got '../x'"),
        ("a" * 16, None),
        ("a" * 17, "id, version: have 20 characters, at most 19"),
    ],
)
def test_an_id_is_taken_or_refused_before_anything_is_built(tmp_path: Path, image: str, told: str | None) -> None:
    (tmp_path / "os").mkdir()
    text = (RECIPES / "os/recipe.toml").read_text().replace('id = "bedplate"', f'id = "{image}"')
    (tmp_path / "os/recipe.toml").write_text(text)
    if told is None:
        assert read_recipe(tmp_path).id == image
        return
    with pytest.raises(DataError) as caught:
        read_recipe(tmp_path)
    assert told in caught.value.message


def test_the_partition_of_var_has_the_name_that_the_image_looks_for() -> None:
    """With another id the machine made a partition that no boot of it found."""
    recipe = replace(read_recipe(RECIPES), id="acme")
    definition = render_boot_partitions(recipe)["40-var.conf"]
    assert f"\nLabel={LABEL}\n" in definition
    initrd = (RECIPES / "os/initrd/init").read_text()
    assert f"'^PARTNAME={LABEL}$'" in initrd and f'ID_PART_ENTRY_NAME}}==\\"{LABEL}\\"' in initrd
