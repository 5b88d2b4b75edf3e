"""What an image is made of: the head that a person edits (image/os/recipe.toml) and where its trees lie."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from bedplate.catalog.strict import read_toml, schema_problems
from bedplate.errors import DataError, ReadError, UsageError
from bedplate.model.var import OnVarFailure

_LONGEST_LABEL = 36  # characters of a partition's name (UEFI specification, GPT partition entry)
REFERENCE = "docs/reference/recipe.md"
"""The page that lists the keys of all recipes."""
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(?:\[[\w,.-]+\])?==[\w.!+-]+")
_DIGEST = "~01234567"  # what a build puts behind the version


class Kernel(StrEnum):
    """Debian's flavours of the kernel package, by which drivers they have."""

    CLOUD = "cloud"
    """For virtual machines: 23 MB of modules."""
    GENERIC = "generic"
    """For bare metal and for GPUs whose drivers the cloud flavour leaves out: 107 MB of modules."""


class Variant(StrEnum):
    """Whether an image is open to its developer, or closed to whoever has the machine."""

    DEVELOPMENT = "development"
    """With a root console on hvc0, and open to what a hypervisor or the ESP gives at boot."""
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Sizes of the two slots, in MiB; fixed for the life of an installation, since an update must fit into them."""

    esp_mib: int
    root_mib: int
    verity_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """image/os/recipe.toml, key by key; `read_recipe` has checked it. Dependencies of its packages come too."""

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
    on_var_failure: OnVarFailure
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

    @property
    def command_line(self) -> tuple[str, ...]:
        """What stands behind the root hash in the signed image; the initrd of production accepts nothing else.

        In production process 1 imports no credentials: SMBIOS and fw_cfg, which no register of the TPM shows, could bring
        units otherwise (docs/decisions/0052-nothing-from-outside.md).
        """
        closed = ("systemd.import_credentials=no",) if self.variant is Variant.PRODUCTION else ()
        return (*self.kernel_command_line, *closed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonPart:
    """The table `python` of an engine's recipe: the wheels in /usr/lib/engine/site. Globs are relative to that directory."""

    version: str
    """Version of the interpreter among the layer's packages: "3.11"."""
    glibc: str
    """Version of the C library of the suite: "2.36". A wheel that needs a newer one is not taken."""
    requirements: tuple[str, ...]
    """NAME==VERSION, NAME[EXTRA]==VERSION. The first one is the engine, whose version the layer has."""
    left_out: tuple[str, ...]
    """Names that the others ask for and that the engine does without."""
    remove: tuple[str, ...]
    strip: tuple[str, ...]
    """Libraries whose symbols are taken out: only those that were seen to run so."""
    stands_for: str = ""
    """NAME==VERSION of an empty distribution that the engine looks itself up by; "" for none."""


SITE = "usr/lib/engine/site"
"""The directory of a layer that its Python packages lie in, without the leading slash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecipe:
    """image/engines/NAME/engine.toml, key by key. It names all packages itself; `remove` holds globs of paths."""

    schema: int
    name: str
    suite: str
    accept_expired_release: bool
    packages: tuple[str, ...]
    remove: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    """Components of the archive. "contrib" and "non-free" hold what Debian may redistribute and others perhaps not."""
    python: PythonPart | None = None
    """A table of its own, below; the recipe of an engine that is no Python program has none."""


def recipes_directory() -> Path:
    """The directory `image/` of the checkout, or $BEDPLATE_RECIPES. Raises ReadError naming the places looked at."""
    override = os.environ.get("BEDPLATE_RECIPES")
    found = Path(override) if override else Path(__file__).parents[3] / "image"
    if not (found / "os" / "recipe.toml").is_file():
        raise ReadError(
            f"{found}: has no image recipe (os/recipe.toml)",
            hint="Run bedplate from a checkout, or set BEDPLATE_RECIPES to the checkout's image/ directory.",
        )
    return found


def read_recipe(directory: Path, *, variant: Variant | None = None) -> Recipe:
    """The recipe under `directory`/os, as `variant` where one is given; raises DataError with every problem of the file."""
    recipe = read_toml(directory / "os" / "recipe.toml", Recipe, reference=REFERENCE)
    if variant is not None:
        recipe = replace(recipe, variant=variant)
    problems = schema_problems(recipe.schema, "recipe.toml:")
    if recipe.compression not in ("", "lz4hc", "zstd"):
        problems.append(f"recipe.toml:compression: got {recipe.compression!r}, expected lz4hc, zstd or empty")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", recipe.id):  # os-release(5), IMAGE_ID=; "_" ends it in names of files
        problems.append(f"recipe.toml:id: got {recipe.id!r}, expected lower-case letters, digits, '.' and '-'")
    label = f"{recipe.id}_{recipe.version}{_DIGEST}_verity"
    if len(label) > _LONGEST_LABEL:
        most = _LONGEST_LABEL - len(label) + len(recipe.id) + len(recipe.version)
        problems.append(
            f"recipe.toml:id, version: have {len(recipe.id) + len(recipe.version)} characters, at most {most}: "
            "a partition's label takes no more"
        )
    if problems:
        raise DataError(problems)
    return recipe


def read_engine_recipe(directory: Path, name: str) -> EngineRecipe:
    """The recipe of the engine layer `name`.

    Raises UsageError naming the recipes that there are when none has this name, DataError with every problem of the file.
    """
    known = list_engine_recipes(directory)
    if name not in known:
        raise UsageError(f"{name}: there is no engine layer of this name", hint=f"The layers are: {', '.join(known)}.")
    recipe = read_toml(directory / "engines" / name / "engine.toml", EngineRecipe, reference=REFERENCE)
    problems = [*schema_problems(recipe.schema, "engine.toml:"), *_python_problems(recipe.python)]
    if recipe.name != name:
        problems.append(f"engine.toml:name: got {recipe.name!r}, expected {name!r}, as its directory is called")
    if problems:
        raise DataError(problems, hint=f"Correct engines/{name}/engine.toml; the keys are listed in {REFERENCE}.")
    return recipe


def list_engine_recipes(directory: Path) -> tuple[str, ...]:
    """Names of the engine layers that can be built, sorted."""
    return tuple(sorted(file.parent.name for file in (directory / "engines").glob("*/engine.toml")))


def _python_problems(part: PythonPart | None) -> list[str]:
    if part is None:
        return []
    problems = [
        f"engine.toml:python.{key}: got {got!r}, expected a version such as {example}"
        for key, got, example in (("version", part.version, "3.11"), ("glibc", part.glibc, "2.36"))
        if not re.fullmatch(r"\d+\.\d+", got)
    ]
    exact = [*part.requirements, *([part.stands_for] if part.stands_for else [])]
    problems += [
        f"engine.toml:python: got {text!r}, expected NAME==VERSION" for text in exact if not _REQUIREMENT.fullmatch(text)
    ]
    if not part.requirements:
        problems.append("engine.toml:python.requirements: is empty, expected the engine first")
    problems += [
        f"engine.toml:python.{key}: got {glob!r}, expected a glob below the site directory"
        for key, globs in (("remove", part.remove), ("strip", part.strip))
        for glob in globs
        if glob.startswith("/") or ".." in glob.split("/") or not glob
    ]
    return problems


def architecture() -> str:
    """Debian's name of this machine's architecture; images are built for the machine that builds them."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
