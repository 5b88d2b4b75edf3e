"""The tree of a driver layer, as systemd-sysext merges it into /usr (systemd-sysext(8), extension-release.d).

usr/lib/extension-release.d/extension-release.bedplate-NAME
usr/lib/modules/KERNEL/updates/bedplate/*.ko      beside the host's own; no file of depmod is replaced
usr/lib/firmware/nvidia/VERSION/*.bin             where request_firmware() looks
usr/lib/bedplate/driver/NAME/load                 what a boot loads, in order
usr/lib/bedplate/driver/NAME/lib, bin             user space, which the host's own loader does not find
usr/share/doc/*/copyright                         the licence of each part
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from bedplate.errors import BuildError
from bedplate.image.driver_modules import ModuleInfo
from bedplate.image.driver_recipe import DriverRecipe
from bedplate.image.driver_source import Unpacked

DRIVERS = Path("usr/lib/bedplate/driver")
"""In the merged /usr: a directory for each driver."""
# Of user space, what CUDA needs, and what an operator asks the card with; nothing that draws. The names are those of the
# vendor's README ("Installed components").
_LIBRARIES = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler", "libnvidia-nvvm", "libnvidia-cfg", "libnvidia-gpucomp")
_PROGRAMS = ("nvidia-smi", "nvidia-persistenced", "nv-fabricmanager")
_VERSIONED_NAME = re.compile(r"(?P<stem>[a-z0-9-]+)\.so\.(?P<version>\d+(?:\.\d+)+)")


def extension_name(name: str) -> str:
    """The name of the system extension of a driver: its file in /run/extensions is this and ".raw"."""
    return f"bedplate-{name}"


def write_extension(
    tree: Path, recipe: DriverRecipe, modules: Path, told: Mapping[str, ModuleInfo], source: Unpacked, *, verified: bool
) -> None:
    """Write the tree of a layer; `modules` holds the signed modules, `told` what they say of themselves.

    Raises BuildError for firmware of another version.
    """
    release = tree / "usr/lib/extension-release.d" / f"extension-release.{extension_name(recipe.name)}"
    release.parent.mkdir(parents=True)
    release.write_text(render_release(recipe, verified=verified))
    directory = tree / "usr/lib/modules" / recipe.kernel / "updates/bedplate"
    directory.mkdir(parents=True)
    for name in recipe.modules:
        shutil.copyfile(modules / f"{name}.ko", directory / f"{name}.ko")
    own = tree / DRIVERS / recipe.name
    own.mkdir(parents=True)
    (own / "load").write_text(render_load(recipe, told))
    if recipe.include_nonfree:
        if source.firmware is not None:
            _copy_firmware(source.firmware, tree / "usr/lib/firmware", recipe.upstream)
        for user in source.user:
            _copy_user_space(user, own, recipe.upstream)
    _copy_licences(source, tree / "usr/share/doc", recipe)
    set_plain_modes(tree)


def render_release(recipe: DriverRecipe, *, verified: bool) -> str:
    """The text of extension-release.NAME.

    systemd compares ID and VERSION_ID with the host's os-release; the rest is for people and for the unit that loads.
    """
    lines = {
        "ID": "debian",
        "VERSION_ID": "13",
        "ARCHITECTURE": "x86-64",
        "BEDPLATE_DRIVER": recipe.name,
        "BEDPLATE_DRIVER_VERSION": recipe.version,
        "BEDPLATE_KERNEL": recipe.kernel,
        "BEDPLATE_VERIFIED": "yes" if verified else "no",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def render_load(recipe: DriverRecipe, modules: Mapping[str, ModuleInfo]) -> str:
    """What a boot runs, a line for each step in order: `modprobe NAME` for a module of the kernel's own that the next one
    needs, `insmod FILE PARAMETERS` for one of the layer. modules: what each of the layer says of itself, by name."""
    lines: list[str] = []
    own = {name.replace("-", "_") for name in recipe.modules}
    for text in recipe.loaded:
        name, _, parameters = text.partition(" ")
        lines += [f"modprobe {needed}" for needed in modules[name].depends if needed.replace("-", "_") not in own]
        lines.append(f"insmod /usr/lib/modules/{recipe.kernel}/updates/bedplate/{name}.ko {parameters}".rstrip())
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def find_user_space(tree: Path, version: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """({library: file}, {program: file}) of one version below a tree; a file that comes twice counts as it comes first.

    A library is one of _LIBRARIES with exactly this version in its name; those of another version are not taken, and neither
    are 32-bit ones (their directory says so).
    """
    libraries: dict[str, Path] = {}
    programs: dict[str, Path] = {}
    for file in sorted(tree.rglob("*")):
        if file.is_symlink() or not file.is_file():
            continue
        found = _VERSIONED_NAME.fullmatch(file.name)
        if found is not None and found["version"] == version and found["stem"] in _LIBRARIES:
            if not {"32", "i386-linux-gnu"} & set(file.parent.parts):
                libraries.setdefault(file.name, file)
        elif file.name in _PROGRAMS and _is_program(file):
            programs.setdefault(file.name, file)
    return libraries, programs


def _is_program(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(4) == b"\x7fELF"  # a completion or a lintian override may have the same name


def _copy_user_space(user: Path, own: Path, version: str) -> None:
    libraries, programs = find_user_space(user, version)
    for kind, files in (("lib", libraries), ("bin", programs)):
        for name, file in files.items():
            target = own / kind / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
            if kind == "bin":
                target.chmod(0o755)


def _copy_firmware(source: Path, target: Path, version: str) -> None:
    """Firmware below `source`, as it lies there, or that of a .run, which has its files at the top."""
    plain = sorted(source.glob("*.bin"))
    place = target / "nvidia" / version if plain else target
    shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
    if not (target / "nvidia" / version).is_dir():
        there = ", ".join(sorted(directory.name for directory in (target / "nvidia").glob("*"))) or "none"
        raise BuildError(
            f"the firmware is of version {there}, expected {version}: the driver loads the directory of its own version",
            hint="Take firmware of exactly the driver's version.",
        )


def _copy_licences(source: Unpacked, target: Path, recipe: DriverRecipe) -> None:
    """The copyright file of each package, and the LICENSE of a tree or a .run."""
    for tree in {source.modules, *source.modules.parents, *source.user} - {Path("/")}:
        for file in sorted(tree.glob("usr/share/doc/*/copyright")):
            place = target / file.parent.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / "copyright")
    for file in (source.modules / "LICENSE", source.modules.parent / "LICENSE"):
        if file.is_file():
            place = target / extension_name(recipe.name)
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / "copyright")


def set_plain_modes(tree: Path) -> None:
    """Directories and programs 0755, all other files 0644, whatever umask the build has."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
