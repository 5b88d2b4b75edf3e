"""The logs of the machine and of what was built."""

from __future__ import annotations

from pathlib import Path

from bedplate.act.paths import check_paths, find_paths


def find_logs() -> dict[str, Path]:
    """Every log by its name: of builds and commands, then of the machine ("serial" is the guest's console).

    Raises PreflightError for a directory that is there and cannot be listed.
    """
    paths = find_paths()
    check_paths(paths)
    return {file.stem: file for folder in (paths.logs, paths.machine) for file in sorted(folder.glob("*.log"))}
