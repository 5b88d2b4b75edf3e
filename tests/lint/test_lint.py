"""The linters are tests: what they refuse does not land. `make lint` runs these alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> None:
    """Fails the test with what the linter printed unless it ends with 0."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)[:200]}\n{done.stdout[-6000:]}{done.stderr[-2000:]}", pytrace=False)


def tracked(*patterns: str) -> list[str]:
    """Files of the working tree that git tracks or would track, by pattern."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_the_formatter_changes_nothing() -> None:
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")


def test_types_are_right() -> None:
    run(sys.executable, "-m", "mypy")


def test_words_are_spelt_right() -> None:
    """Recordings and golden files hold what other programs wrote, and the known answers are the model's training text."""
    names = tracked("*.md", "*.py", "*.toml", "*.sh", "Makefile", "*.service", "*.slice")
    run(sys.executable, "-m", "codespell_lib", *names)


def test_shell_scripts_are_right() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    templates = "bench/debian/"  # filled in by bench.debian before a shell reads them
    scripts = [name for name in tracked() if not name.startswith(templates) and _is_shell(ROOT / name)]
    assert len(scripts) >= 3
    run("shellcheck", "--severity=warning", *scripts)


def _is_shell(file: Path) -> bool:
    with file.open("rb") as handle:
        first = handle.readline(80)
    return first.startswith(b"#!") and first.split()[-1].rsplit(b"/")[-1] in (b"sh", b"bash")
