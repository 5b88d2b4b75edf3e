"""The published images of a state directory. One that lost a file counts as none: not listed, booted or taken for built."""

from __future__ import annotations

from bedplate.act.paths import Paths
from bedplate.errors import ReadError, UsageError
from bedplate.image.manifest import Image, read_image, read_record


def list_images(paths: Paths) -> tuple[list[Image], list[ReadError]]:
    """The whole published images, newest first; and for each that is not whole the error that says why, by name."""
    whole, broken = [], []
    for directory in sorted(paths.images.glob("[!.]*")):
        try:
            whole.append(read_image(directory))
        except ReadError as error:
            broken.append(error)
    return sorted(whole, key=lambda image: image.directory.stat().st_mtime, reverse=True), broken


def find_image(paths: Paths, version: str | None = None) -> Image:
    """The whole image of a version, or the newest. Raises UsageError for a version that is not there, ReadError for one that
    is not whole, and when there is none."""
    images, broken = list_images(paths)
    if version is None:
        if images:
            return images[0]
        if broken:
            raise broken[0]
        raise ReadError("no image has been built yet", hint="Build one: bedplate image build")
    if "/" in version or version.startswith(".") or not (paths.images / version).is_dir():
        there = ", ".join(image.version for image in images) or "none"
        raise UsageError(f"{version}: no such image; the images are: {there}", hint="See bedplate image list.")
    return read_image(paths.images / version)


def find_published(paths: Paths, version: str, digest: str) -> Image | None:
    """The whole image of exactly these inputs, or None; a version has only the first digits of their digest."""
    try:
        image = read_image(paths.images / version)
        inputs = read_record(image.manifest)["inputs"]["digest"]
    except (ReadError, OSError, KeyError):
        return None
    return image if inputs == digest else None
