"""Build, list, show and remove operating system images; a build makes the engine layer too."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths, check_paths, find_paths
from bedplate.errors import BedplateError, UsageError
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.build import build_image
from bedplate.image.engine import build_engine
from bedplate.image.manifest import EngineLayer, Image, read_record, require_keys
from bedplate.image.published import find_image, list_images
from bedplate.image.recipe import Variant
from bedplate.model.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image and the engine layer that goes with it, built now or found."""

    image: Image
    engine: EngineLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """A published image in a line."""

    version: str
    variant: str
    kernel: str
    packages: int
    """How many it has."""
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownImage:
    """A published image and its manifest."""

    image: Image
    record: dict[str, Any]
    text: str
    """The manifest as it is in its file: JSON."""


def build(
    progress: Progress,
    *,
    variant: str | None = None,
    force: bool = False,
    update: bool = False,
    mirror: str | None = None,
) -> Built:
    """Build what has changed; None: the recipe's variant, the mirror of the host's apt configuration.

    force: everything, without cached steps. update: with newer packages. Raises BuildError when a step fails and BusyError
    beside another build; what was published before stays.
    """
    paths = _paths()
    chosen = Variant(variant) if variant else None
    mirror = mirror or find_mirror()
    with hold_lock(paths, "image build"):
        image = build_image(paths, progress, variant=chosen, force=force, update=update, mirror=mirror)
        engine = build_engine(paths, progress, force=force, update=update, mirror=mirror)
    return Built(image=image, engine=engine)


def list_published() -> tuple[tuple[ListedImage, ...], tuple[BedplateError, ...]]:
    """The images, newest first, and an error for each that is not whole."""
    images, broken = list_images(_paths())
    return tuple(_list(image) for image in images), tuple(broken)


def show(version: str | None = None, *, whole: bool = True) -> ShownImage:
    """An image with its manifest; None: the newest. whole: raise ReadError for a manifest that lacks what people are shown.

    Raises UsageError for a version that is not there.
    """
    image = find_image(_paths(), version)
    record = read_record(image.manifest)
    if whole:
        require_keys(record, "id", "suite", "kernel", "pcr11", "inputs", "files.*.disk_bytes")
        require_keys(record, *(f"packages.*.{key}" for key in ("name", "version")))
        require_keys(record, *(f"partitions.*.{key}" for key in ("label", "uuid", "sha256", "size_bytes")))
    return ShownImage(image=image, record=record, text=image.manifest.read_text())


def remove(versions: Sequence[str]) -> None:
    """Remove images, also those that are not whole; none of them where one of the versions is not there: UsageError."""
    paths = _paths()
    with hold_lock(paths, "image rm"):
        known = {directory.name: directory for directory in paths.images.glob("[!.]*")}
        for version in versions:
            if version not in known:
                raise UsageError(f"{version}: no such image", hint="See bedplate image list.")
        for version in dict.fromkeys(versions):
            shutil.rmtree(known[version])


def _paths() -> Paths:
    paths = find_paths()
    check_paths(paths)
    return paths


def _list(image: Image) -> ListedImage:
    record = read_record(image.manifest)
    require_keys(record, "kernel", "packages", "files.*.disk_bytes")
    return ListedImage(
        version=image.version,
        variant=record["variant"],
        kernel=record["kernel"],
        packages=len(record["packages"]),
        disk_bytes=sum(file["disk_bytes"] for file in record["files"].values()),
    )
