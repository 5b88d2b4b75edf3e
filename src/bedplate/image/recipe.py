"""What an image is made of: the head that a person edits (image/os/recipe.toml) and where its trees lie."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bedplate.catalog.strict import read_toml
from bedplate.errors import DataError, ReadError


class Kernel(StrEnum):
    CLOUD = "cloud"
    """For virtual machines: 23 MB of modules."""
    GENERIC = "generic"
    """For bare metal and for GPUs whose drivers the cloud flavour leaves out: 107 MB of modules."""


class Variant(StrEnum):
    DEVELOPMENT = "development"
    """With a root console on hvc0 and boot messages on the serial port."""
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Sizes of the two slots, in MiB; fixed for the life of an installation, since an update must fit into them."""

    esp_mib: int
    root_mib: int
    verity_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    schema: int
    id: str
    version: str
    """Version of the recipe; the version of an image adds the digest of all its inputs."""
    suite: str
    kernel: Kernel
    variant: Variant
    compression: str
    """mkfs.erofs -z: lz4hc, zstd, or "" for none."""
    compression_level: int
    hostname: str
    source_date_epoch: int
    """Seconds since 1970 that every time stamp in the image is clamped to, signatures included."""
    accept_expired_release: bool
    packages: tuple[str, ...]
    remove: tuple[str, ...]
    """Globs of what is taken out of the root, since nothing in it is used at run time."""
    initrd_modules: tuple[str, ...]
    """Kernel modules the initrd holds to find and verify the root; built-in ones and dependencies need no mention."""
    initrd_disk_modules: tuple[str, ...]
    """Drivers that are tried when no disk with the root has appeared by the first ones."""
    kernel_command_line: tuple[str, ...]
    slots: Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecipe:
    schema: int
    name: str
    suite: str
    accept_expired_release: bool
    packages: tuple[str, ...]
    remove: tuple[str, ...]


def recipes_directory() -> Path:
    """The directory `image/` of the checkout, or $BEDPLATE_RECIPES. Raises ReadError naming the places looked at."""
    override = os.environ.get("BEDPLATE_RECIPES")
    found = Path(override) if override else Path(__file__).parents[3] / "image"
    if not (found / "os" / "recipe.toml").is_file():
        raise ReadError(
            f"{found}: no image recipe there (os/recipe.toml)",
            hint="Run bedplate from a checkout, or set BEDPLATE_RECIPES to the checkout's image/ directory.",
        )
    return found


def read_recipe(directory: Path) -> Recipe:
    """The recipe under `directory`/os; raises DataError with every problem of the file."""
    recipe = read_toml(directory / "os" / "recipe.toml", Recipe)
    problems = []
    if recipe.schema != 1:
        problems.append(f"recipe.toml:schema: got {recipe.schema}, expected 1")
    if recipe.compression not in ("", "lz4hc", "zstd"):
        problems.append(f"recipe.toml:compression: got {recipe.compression!r}, expected lz4hc, zstd or empty")
    if problems:
        raise DataError(problems)
    return recipe


def read_engine_recipe(directory: Path, name: str) -> EngineRecipe:
    """The recipe of the engine layer `name`; raises ReadError when there is none."""
    return read_toml(directory / "engines" / name / "engine.toml", EngineRecipe)


def architecture() -> str:
    """Debian's name of this machine's architecture; images are built for the machine that builds them."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
