"""The disk that carries models into a machine: an EROFS image, uncompressed so that weights map straight from its pages.

index.json at its root says what is on it, at the paths of the store. Made again only when the set of models changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.image.tools import tools_command
from bedplate.model.launch import ModelRef
from bedplate.model.progress import Progress

LABEL = "bp-models"
INDEX_SCHEMA = 1
_MAKE_S = 3600.0  # for weights of hundreds of gigabytes at 200 MB/s


def ensure_models_disk(paths: Paths, models: Sequence[ModelRef], progress: Progress) -> Path:
    """The disk with these models of the store, made now unless it is there. Needs the tools tree."""
    inside = [replace(model, path=str(Path(model.path).relative_to(paths.models))) for model in models]
    index = render_index(inside)
    directory = paths.cache / "models-disk"
    disk = directory / f"{hashlib.sha256(index.encode()).hexdigest()[:16]}.erofs"
    if disk.is_file():
        return disk
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():  # what a killed making left, and disks of other sets
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    stage, partial = directory / "stage", directory / "partial"
    stage.mkdir()
    progress.detail(f"{len(models)} model{'s' if len(models) != 1 else ''} onto a disk of their own")
    try:
        (stage / "index.json").write_text(index)
        for model in inside:
            source = paths.models / model.path
            for file in sorted(source.iterdir()) if source.is_dir() else [source]:
                _place(file, stage / file.relative_to(paths.models))
        argv = ["mkfs.erofs", "-L", LABEL, "-T", "0", "-U", "clear", "--all-root", "--quiet"]
        run(
            tools_command(paths, [*argv, os.fspath(partial), os.fspath(stage)]),
            timeout_s=_MAKE_S,
            log=paths.logs / "models-disk.log",
        )
        partial.rename(disk)
    except (OSError, CommandError) as error:
        raise BuildError(
            f"the disk with the models could not be made: {error}", hint=f"Read {paths.logs / 'models-disk.log'}"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        partial.unlink(missing_ok=True)
    return disk


def render_index(models: Sequence[ModelRef]) -> str:
    """index.json of the disk, as `bedplate serve` reads it in the guest."""
    rows = [asdict(model) for model in sorted(models, key=lambda model: model.name)]
    return json.dumps({"schema": INDEX_SCHEMA, "models": rows}, indent=1, sort_keys=True) + "\n"


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        target.hardlink_to(source)
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(source, target)
