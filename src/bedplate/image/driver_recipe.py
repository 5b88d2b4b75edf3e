"""image/drivers/NAME/driver.toml: what a driver layer is made of, and for exactly which kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.strict import read_toml, schema_problems
from bedplate.errors import DataError, UsageError
from bedplate.image.recipe import REFERENCE

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_RELEASE = re.compile(r"(?P<version>\d+\.\d+(?:\.\d+)?(?:~rc\d+)?)\+deb\d+-(?P<flavour>[a-z0-9-]+)")
OWN = "own"
"""The source, and the recipe, of a driver that the user brings."""
COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
"""Of Debian's archive; NVIDIA's driver is in the last three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverRecipe:
    """image/drivers/NAME/driver.toml, key by key; `read_driver_recipe` has checked it."""

    schema: int
    name: str
    version: str
    """Version of the driver with its packaging revision, as the catalogue has it."""
    flavour: str
    """open or proprietary: which of the vendor's two sources of modules."""
    source: str
    """Id of the catalogue's source: "debian-sid", or "repaired" where `patches/` holds a repair of ours."""
    kernel: str
    """Release of the kernel, as `uname -r` prints it: the modules load on no other."""
    suite: str
    """Debian suite of the next four keys' packages; they all have `version`."""
    accept_expired_release: bool
    """true takes packages from an archive whose Release file is past its Valid-Until."""
    modules_package: str
    """The package with the source of the modules, below usr/src."""
    firmware_packages: tuple[str, ...]
    """Packages whose usr/lib/firmware goes into the layer."""
    user_packages: tuple[str, ...]
    """Packages of which the layer takes the libraries and programs that CUDA needs."""
    include_nonfree: bool
    """false leaves firmware and user space out, and refuses modules that are non-free themselves."""
    build_suite: str
    """Debian suite of the tree that the modules are compiled in; its backports and security archive count, too."""
    build_packages: tuple[str, ...]
    """Packages of that tree; what they depend on comes too, and so do the headers of `kernel`."""
    compiler: str
    """The program that compiles, of the same major version as the kernel's own compiler."""
    modules: tuple[str, ...]
    """All that the build makes, in the order in which one needs the other."""
    loaded: tuple[str, ...]
    """Those that a boot loads, in this order, each with its parameters."""

    @property
    def upstream(self) -> str:
        """The vendor's own version, which modinfo, firmware and libraries have: 535.274.02 of 535.274.02-3."""
        return self.version.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRelease:
    """A release of Debian's kernel in the terms of the catalogue."""

    release: str
    """ "7.3.4+deb13-amd64"."""
    version: str
    """ "7.3.4"."""
    flavour: str
    """ "amd64", "cloud" or "rt"."""


def parse_kernel_release(text: str) -> KernelRelease | None:
    """ "7.3.4+deb13-cloud-amd64" is version 7.3.4 and flavour cloud; None for what is no release of Debian's kernel."""
    found = _RELEASE.fullmatch(text)
    if found is None:
        return None
    flavour = found["flavour"].removesuffix("-amd64").removesuffix("-arm64")
    return KernelRelease(release=text, version=found["version"], flavour=flavour)


def list_driver_recipes(directory: Path) -> tuple[str, ...]:
    """The names of the driver recipes below `directory`, sorted; () where there is none."""
    return tuple(sorted(file.parent.name for file in (directory / "drivers").glob("*/driver.toml")))


def read_driver_recipe(directory: Path, name: str) -> DriverRecipe:
    """The recipe of a driver layer. Raises UsageError for a name that is not there, DataError with all problems of it."""
    known = list_driver_recipes(directory)
    if name not in known:
        raise UsageError(
            f"{name}: no such driver; the drivers are: {', '.join(known) or 'none'}",
            hint="Name one of them, or a source of your own: bedplate image driver --from PATH.",
        )
    recipe = read_toml(directory / "drivers" / name / "driver.toml", DriverRecipe, reference=REFERENCE)
    problems = [*schema_problems(recipe.schema, "driver.toml:"), *_find_problems(recipe, name)]
    if problems:
        raise DataError(problems)
    return recipe


def _find_problems(recipe: DriverRecipe, name: str) -> list[str]:
    problems = []
    if recipe.name != name or not _NAME.fullmatch(recipe.name):
        problems.append(f"driver.toml:name: got {recipe.name!r}, expected {name!r}, the name of its directory")
    if parse_kernel_release(recipe.kernel) is None:
        problems.append(f"driver.toml:kernel: got {recipe.kernel!r}, expected a release such as 7.3.4+deb13-amd64")
    for text in recipe.loaded:
        module = text.partition(" ")[0]
        if module not in recipe.modules:
            problems.append(f"driver.toml:loaded: got {module!r}, expected one of modules: {', '.join(recipe.modules)}")
    if (recipe.source == OWN) != (recipe.version == "") or (recipe.source == OWN) != (recipe.modules_package == ""):
        problems.append(f"driver.toml:version, modules_package: are empty where source is {OWN!r}, and nowhere else")
    if not recipe.modules:
        problems.append("driver.toml:modules: is empty")
    return problems
