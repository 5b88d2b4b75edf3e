"""Where bedplate keeps what it writes, for those who only need to name it."""

from __future__ import annotations

from pathlib import Path

from bedplate.act import paths
from bedplate.errors import BedplateError


def find_log(name: str) -> Path:
    """The log of a kind of work, as `bedplate logs NAME` shows it; it need not exist yet. Raises UsageError, PreflightError
    for directories that cannot be."""
    return paths.find_paths().logs / f"{name}.log"


def explain_failure(error: OSError) -> BedplateError | None:
    """What an error says of the directories, a full disk or a file of another user, with the way out; None for all else."""
    try:
        return paths.explain_os_error(error, paths.find_paths())
    except BedplateError as of_paths:
        return of_paths
