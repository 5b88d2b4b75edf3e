"""The disk that carries models into a machine: an EROFS image, uncompressed so that weights map straight from its pages.

index.json at its root says what is on it, at the paths of the store. Made again only when the set of models changes, or how
it is made. Each state directory has its own disk in the cache: another one's may be about to start a machine with it.

Development mounts the image as it is. Production mounts only what the owner has signed: the image is then a partition with
dm-verity's hashes and their signature beside it, as an engine's layer (docs/decisions/0053-signed-models-disk.md).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.image.inputs import digest_builders
from bedplate.image.keys import Keys
from bedplate.image.tools import tools_command
from bedplate.model.launch import ModelRef
from bedplate.model.progress import Progress
from bedplate.model.wording import plural
from bedplate.weights.index import render_index

LABEL = "bp-models"
_OWNER = "state"  # name of the file that holds the path of the state directory
_SEED_SPACE = uuid.UUID("2f1d9c55-93c3-4d3c-8b0e-6f6a1b8f7e53")
_MAKE_S = 3600.0  # for weights of hundreds of gigabytes at 200 MB/s


def ensure_models_disk(paths: Paths, models: Sequence[ModelRef], progress: Progress, *, keys: Keys | None = None) -> Path:
    """The disk with these models of the store, signed where keys are given; made now unless it is there.

    Needs the tools tree. Raises BuildError when it cannot be made.
    """
    inside = [replace(model, path=str(Path(model.path).relative_to(paths.models))) for model in models]
    index = render_index(inside)
    signer = keys.owner_certificate.read_bytes() if keys is not None else b""
    digest = hashlib.sha256(index.encode() + signer + digest_builders("models_disk").encode()).hexdigest()
    directory = paths.cache / "models-disk" / hashlib.sha256(os.fsencode(paths.state)).hexdigest()[:16]
    disk = directory / f"{digest[:16]}.{'erofs' if keys is None else 'raw'}"
    if disk.is_file():
        return disk
    with hold_cache(paths, progress, what="the making of a disk with models"):
        _prepare_directory(paths, directory)
        _make(paths, inside, index, disk, progress, keys=keys, seed=uuid.uuid5(_SEED_SPACE, digest))
    return disk


def _prepare_directory(paths: Paths, directory: Path) -> None:
    """Make the directory of this state's disk, and remove those beside it whose state directory is no more."""
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / _OWNER, os.fsencode(paths.state), sync=False)
    for other in directory.parent.iterdir():
        if not other.is_dir():  # of earlier versions, which had one disk for all
            other.unlink()
        elif other != directory and not _has_owner(other):
            shutil.rmtree(other)


def _has_owner(directory: Path) -> bool:
    try:
        return os.path.isdir((directory / _OWNER).read_bytes())  # noqa: PTH112 (any bytes are a path)
    except FileNotFoundError:
        return False


def _make(
    paths: Paths,
    models: Sequence[ModelRef],
    index: str,
    disk: Path,
    progress: Progress,
    *,
    keys: Keys | None,
    seed: uuid.UUID,
) -> None:
    directory = disk.parent
    for old in directory.iterdir():  # what a killed making left, and disks of other sets
        if old.name != _OWNER:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    stage, partial = directory / "stage", directory / "partial"
    stage.mkdir()
    progress.detail(f"{plural(len(models), 'model')} onto a disk of their own")
    try:
        (stage / "index.json").write_text(index)
        for model in models:
            source = paths.models / model.path
            for file in sorted(source.iterdir()) if source.is_dir() else [source]:
                _place(file, stage / file.relative_to(paths.models))
        argv = ["mkfs.erofs", "-L", LABEL, "-T", "0", "-U", "clear", "--all-root", "--quiet"]
        run(
            tools_command(paths, [*argv, os.fspath(partial), os.fspath(stage)]),
            timeout_s=_MAKE_S,
            log=paths.logs / "models-disk.log",
        )
        if keys is not None:
            progress.detail("verity and signature")
            partial = _sign(paths, directory, partial, keys, seed=seed)
        partial.rename(disk)
    except (OSError, CommandError) as error:
        raise BuildError(
            f"the disk with the models could not be made: {error}", hint=f"Read {paths.logs / 'models-disk.log'}"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for left_over in directory.glob("partial*"):
            left_over.unlink()


def render_signed_partitions(image: Path) -> dict[str, str]:
    """repart.d(5) definitions of a disk with this file system, its hashes, and a signature of their root."""
    return {
        "10-root.conf": (f"[Partition]\nType=root\nLabel={LABEL}\nCopyBlocks={image}\nVerity=data\nVerityMatchKey=root\n"),
        "20-verity.conf": "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
        "30-signature.conf": "[Partition]\nType=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n",
    }


def _sign(paths: Paths, directory: Path, image: Path, keys: Keys, *, seed: uuid.UUID) -> Path:
    definitions, signed = directory / "stage/.repart", directory / "partial.raw"
    definitions.mkdir()
    for name, text in render_signed_partitions(image).items():
        (definitions / name).write_text(text)
    argv: list[str | os.PathLike[str]] = ["systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no"]
    argv += ["--seed", str(seed), "--definitions", definitions, "--no-pager"]
    argv += ["--private-key", keys.owner_key, "--certificate", keys.owner_certificate, signed]
    run(tools_command(paths, argv), timeout_s=_MAKE_S, log=paths.logs / "models-disk.log")
    return signed


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        target.hardlink_to(source)
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(source, target)
