"""Build a driver layer: which recipe, from which source, and whether the catalogue has a yes for driver and kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths, check_paths, find_paths
from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_lock import read_lock
from bedplate.errors import BuildError, UsageError
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.driver import DriverLayer, build_driver
from bedplate.image.driver_recipe import (
    OWN,
    DriverRecipe,
    list_driver_recipes,
    parse_kernel_release,
    read_driver_recipe,
)
from bedplate.image.driver_source import OwnSource, find_own_version, read_own_source
from bedplate.image.recipe import recipes_directory
from bedplate.model.progress import Progress
from bedplate.model.stack import CheckedBy, StackCatalogue, StackLock, StackRelease
from bedplate.plan.resolve.module_verdict import ModuleVerdict, judge_module

DRIVER, KERNEL = "nvidia-driver", "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverRequest:
    """What to build: the recipe `name`, or the one that is of `lock`. Each None or "" leaves it to the recipe."""

    name: str = ""
    lock: Path | None = None
    source: Path | None = None
    """The user's own source, for the recipe `own`."""
    kernel: str = ""
    version: str = ""
    """Of the user's own source, where neither the source nor the name of its file says it."""
    unverified: bool = False
    """Build also what the catalogue has no yes for; the layer then says so."""
    force: bool = False
    update: bool = False
    mirror: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDriver:
    """A recipe of a driver layer, with what the catalogue says of it."""

    recipe: DriverRecipe
    verdict: ModuleVerdict


def list_drivers(*, catalogue: StackCatalogue | None = None) -> tuple[ListedDriver, ...]:
    """The recipes, sorted by name. Raises DataError for one that is wrong."""
    directory = recipes_directory()
    recipes = [read_driver_recipe(directory, name) for name in list_driver_recipes(directory)]
    rows = read_stack() if catalogue is None else catalogue
    return tuple(ListedDriver(recipe=recipe, verdict=judge_recipe(recipe, rows)) for recipe in recipes)


def build_driver_layer(
    request: DriverRequest, progress: Progress, *, catalogue: StackCatalogue | None = None
) -> DriverLayer:
    """Build the layer unless it is there already. catalogue None: the rows that ship and those of this host's drop-ins.

    Raises UsageError for a request that names no recipe or contradicts itself, BuildError for a pair that the catalogue has
    no yes for and for a step that fails, BusyError beside another build; what was published before stays.
    """
    recipe, source = choose_recipe(request)
    verdict = judge_recipe(recipe, read_stack() if catalogue is None else catalogue)
    if verdict.builds is not True and not request.unverified:
        raise refusal(recipe, verdict)
    paths = _paths()
    with hold_lock(paths, "image driver"):
        return build_driver(
            paths,
            progress,
            recipe,
            verdict,
            source=source,
            force=request.force,
            update=request.update,
            mirror=request.mirror or find_mirror(),
        )


def choose_recipe(request: DriverRequest) -> tuple[DriverRecipe, OwnSource | None]:
    """The recipe of a request, with the user's source where there is one; nothing is built yet. Raises as the build does."""
    directory = recipes_directory()
    recipes = [read_driver_recipe(directory, name) for name in list_driver_recipes(directory)]
    if request.lock is not None:
        recipe = recipe_of_lock(read_lock(request.lock).lock, recipes)
        if request.name and request.name != recipe.name:
            raise UsageError(f"{request.name}: {request.lock} is of the driver {recipe.name}", hint="Leave the name out.")
    else:
        recipe = read_driver_recipe(directory, request.name)
    if request.kernel:
        if parse_kernel_release(request.kernel) is None:
            raise UsageError(f"--kernel: got {request.kernel!r}, expected a release such as 7.3.4+deb13-amd64")
        recipe = replace(recipe, kernel=request.kernel)
    if (recipe.source == OWN) != (request.source is not None):
        needs = "needs a source" if request.source is None else "takes no source of your own"
        raise UsageError(f"{recipe.name}: {needs}", hint=f"Build your own source: bedplate image driver {OWN} --from PATH.")
    if request.source is None:
        return recipe, None
    source = read_own_source(request.source)
    version = request.version or find_own_version(source)
    if not version:
        raise UsageError(
            f"{request.source}: its version cannot be read from it", hint="Name it: --driver-version 580.126.09."
        )
    return replace(recipe, version=version), source


def recipe_of_lock(lock: StackLock, recipes: list[DriverRecipe]) -> DriverRecipe:
    """The recipe that makes what a lock names: the same driver, source, flavour and kernel. Raises UsageError for none."""
    chosen = {choice.release.component: choice.release for choice in lock.choices if not choice.layer}
    driver, kernel = chosen.get(DRIVER), chosen.get(KERNEL)
    if driver is None or kernel is None:
        missing = DRIVER if driver is None else KERNEL
        raise UsageError(f"the lock has no {missing}, so there is no driver layer to build")
    for recipe in recipes:
        described = describe_driver(recipe)
        release = parse_kernel_release(recipe.kernel)
        same = (described.version, described.source, described.values("flavour")) == (
            driver.version,
            driver.source,
            driver.values("flavour"),
        )
        if same and release is not None and release.version == kernel.version:
            return recipe
    there = "; ".join(f"{recipe.name}: {describe_driver(recipe).label}, kernel {recipe.kernel}" for recipe in recipes)
    raise UsageError(
        f"no driver recipe makes {driver.label} for the kernel {kernel.version}; the recipes are: {there}",
        hint="Add a directory to image/drivers, or resolve a lock with one of them.",
    )


def judge_recipe(recipe: DriverRecipe, catalogue: StackCatalogue) -> ModuleVerdict:
    """What the catalogue says of a recipe's driver and kernel. Of a user's own source it knows no byte, so never yes."""
    verdict = judge_module(catalogue, describe_driver(recipe), describe_kernel(recipe))
    if recipe.source == OWN and verdict.builds is not False:
        rows = f": row {verdict.row} is of other files" if verdict.row else ""
        return replace(verdict, builds=None, because=f"the source is your own, and no row speaks of its files{rows}")
    return verdict


def describe_driver(recipe: DriverRecipe) -> StackRelease:
    """The driver of a recipe in the terms of the catalogue."""
    return _release(DRIVER, recipe.version, recipe.source, recipe.flavour)


def describe_kernel(recipe: DriverRecipe) -> StackRelease:
    """The kernel of a recipe in the terms of the catalogue: 7.3.4 with flavour amd64 of 7.3.4+deb13-amd64."""
    release = parse_kernel_release(recipe.kernel)
    if release is None:
        raise ValueError(f"{recipe.kernel}: the recipe was not checked")
    return _release(KERNEL, release.version, "", release.flavour)


def refusal(recipe: DriverRecipe, verdict: ModuleVerdict) -> BuildError:
    """Why a pair is not built, and the two ways on."""
    said = "says no" if verdict.builds is False else "has no yes"
    evidence = f" ({verdict.evidence[0]})" if verdict.evidence else ""
    return BuildError(
        f"{recipe.name}: the catalogue {said} to {describe_driver(recipe).label} for the kernel {recipe.kernel}: "
        f"{verdict.because}{evidence}",
        hint="Build it all the same with --unverified: the layer then says that it is unverified. Or add a row about the "
        "build (docs/how-to/stack-rows.md).",
    )


def _release(component: str, version: str, source: str, flavour: str) -> StackRelease:
    return StackRelease(
        component=component,
        version=version,
        source=source,
        properties={"flavour": (flavour,)},
        checked=CheckedBy.METADATA,
        date="",
        evidence=(),
    )


def _paths() -> Paths:
    paths = find_paths()
    check_paths(paths)
    return paths
