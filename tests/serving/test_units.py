"""The units as systemd of the image reads them: nothing unknown in them, and little exposed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.act.paths import Paths

pytestmark = pytest.mark.build

OVERLAY = Path(__file__).parents[2] / "image/os/common/usr"
# What the units start; stands in the image, not in this tree.
PROGRAMS = ("usr/lib/bedplate/engine", "usr/lib/bedplate/bin/bedplate", "usr/sbin/haproxy", "bin/sh")


@pytest.fixture(scope="module")
def root(built: Paths) -> Iterator[Path]:
    """A root with our units, inside the tools tree."""
    tree = built.tools
    inside = tree / "tmp/bedplate-units"
    shutil.rmtree(inside, ignore_errors=True)
    shutil.copytree(OVERLAY, inside / "usr", symlinks=True)
    for program in PROGRAMS:
        path = inside / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    yield inside
    shutil.rmtree(inside)


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tree = root.parents[1]
    return subprocess.run(
        ["chroot", str(tree), "systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("unit", "ceiling"), [("bedplate-engine@known-answer.service", 2.0), ("bedplate-haproxy.service", 2.0)]
)
def test_exposure_stays_low(root: Path, unit: str, ceiling: float) -> None:
    done = analyze(root, "security", "--offline=true", f"--root=/{root.relative_to(root.parents[1])}", "--no-pager", unit)
    lines = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    assert lines, done.stderr
    exposure = float(lines[0].split(":")[-1].split()[0])
    assert exposure <= ceiling, done.stdout


def test_no_unit_has_an_unknown_or_wrong_line(root: Path) -> None:
    names = ["bedplate-engine@.service", "bedplate-serve.service", "bedplate-haproxy.service", "run-bedplate-models.mount"]
    names += ["bedplate-serve-var.service", "bedplate-tune.service", "systemd-cryptsetup@varcrypt.service", "var.mount"]
    names += ["inference.slice", "background.slice", "neighbour.slice"]
    where = f"/{root.relative_to(root.parents[1])}/usr/lib/systemd/system"
    units = [f"{where}/{name.replace('@.', '@known-answer.')}" for name in names]
    done = analyze(root, "verify", "--man=no", "--recursive-errors=no", *units)
    # The programs are not in the tools tree itself, where verify looks for them.
    problems = [line for line in done.stderr.splitlines() if line and "is not executable" not in line]
    assert problems == []
