"""The units as systemd of the image reads them: nothing unknown in them, and little exposed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.act.serving import Served, write_engines
from bedplate.host.root.root import Root
from bedplate.model.instance import ENGINE_SETTINGS
from bedplate.model.launch import EnginePlan, Launch, Limits, Placement, Probe

pytestmark = pytest.mark.build

OS = Path(__file__).parents[2] / "image/os"
OVERLAYS = (OS / "common/usr", OS / "development/usr", OS / "production/usr")
# What the units start; stands in the image, not in this tree.
PROGRAMS = (
    "usr/lib/bedplate/engine",
    "usr/bin/python3.11",
    "usr/lib/bedplate/bin/bedplate",
    "usr/sbin/haproxy",
    "usr/bin/systemd-dissect",
    "bin/sh",
    "bin/bash",
)
SERVED = Served(
    model="known-answer",
    launch=Launch(
        argv=("llama-server",),
        env=(),
        probe=Probe(path="/", body="", expect="", heartbeat="/", deadline_s=1),
        memory_bytes=1,
        socket="/s",
    ),
    layer="/dev/vdb",
    plan=EnginePlan(
        sha256="", path="/m", limits=Limits(context=1, parallel=1, memory_bytes=1), placement=Placement(cpus=(0,))
    ),
    memory_ceiling_bytes=2,
)


PYTHON_ENGINES = ("vllm", "transformers")


def served_by(engine: str) -> Served:
    """An instance that is named after its engine and has the drop-in of it."""
    return replace(SERVED, model=engine, launch=replace(SERVED.launch, drop_in=f"{ENGINE_SETTINGS}/{engine}.conf"))


@pytest.fixture(scope="module")
def root(built: Paths) -> Iterator[Path]:
    """A root with our units, inside the tools tree."""
    tree = built.tools
    inside = tree / "tmp/bedplate-units"
    shutil.rmtree(inside, ignore_errors=True)
    for overlay in OVERLAYS:
        shutil.copytree(overlay, inside / "usr", symlinks=True, dirs_exist_ok=True)
    for program in PROGRAMS:
        path = inside / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    write_engines(Root(inside), [SERVED, *map(served_by, PYTHON_ENGINES)])  # the drop-ins, one with the engine's root
    for engine in PYTHON_ENGINES:  # systemd-analyze follows a link into its own root and not into --root
        link = inside / f"run/systemd/system/bedplate-engine@{engine}.service.d/10-engine.conf"
        text = (inside / str(link.readlink()).lstrip("/")).read_text()
        link.unlink()
        link.write_text(text)
    yield inside
    shutil.rmtree(inside)


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tree = root.parents[1]
    return subprocess.run(
        ["chroot", str(tree), "systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("unit", "ceiling"),
    [
        ("bedplate-engine@known-answer.service", 0.2),
        ("bedplate-engine@vllm.service", 0.8),
        ("bedplate-engine@transformers.service", 0.5),
        ("bedplate-haproxy.service", 2.0),
    ],
)
def test_exposure_stays_low(root: Path, unit: str, ceiling: float) -> None:
    done = analyze(root, "security", "--offline=true", f"--root=/{root.relative_to(root.parents[1])}", "--no-pager", unit)
    lines = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    assert lines, done.stderr
    exposure = float(lines[0].split(":")[-1].split()[0])
    assert exposure <= ceiling, done.stdout
    # A layer is not mounted in the sandbox of its engines: they need no disk and no device mapper.
    assert "block-" not in done.stdout and "device-mapper" not in done.stdout


def test_an_engine_with_a_drop_in_is_exposed_by_what_that_says_and_by_nothing_else(root: Path) -> None:
    """Without its drop-in an engine has the exposure of the common unit: the ceilings above are of the drop-ins."""
    named = f"--root=/{root.relative_to(root.parents[1])}"
    for engine in PYTHON_ENGINES:
        done = analyze(root, "security", "--offline=true", named, "--no-pager", f"bedplate-engine@{engine}.service")
        open_lines = [line for line in done.stdout.splitlines() if line.startswith("✗")]
        assert any("MemoryDenyWriteExecute=" in line for line in open_lines), done.stdout
        assert any("AF_(INET|INET6)" in line for line in open_lines) == (engine == "vllm")
        assert not any("PrivateNetwork" in line for line in open_lines)


def test_udev_takes_every_rule(root: Path) -> None:
    rules = sorted((root / "usr/lib/udev/rules.d").glob("*.rules"))
    assert "80-bedplate-layers.rules" in [rule.name for rule in rules]
    tree = root.parents[1]
    names = [f"/{rule.relative_to(tree)}" for rule in rules]
    argv = ["chroot", str(tree), "udevadm", "verify", "--resolve-names=never", "--no-summary", *names]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_no_unit_has_an_unknown_or_wrong_line(root: Path) -> None:
    names = ["bedplate-engine@.service", "bedplate-serve.service", "bedplate-haproxy.service", "run-bedplate-models.mount"]
    names += [
        "bedplate-layer@.service",
        "bedplate-serve-var.service",
        "bedplate-tune.service",
        "systemd-cryptsetup@varcrypt.service",
        "var.mount",
    ]
    names += ["bedplate-var-failed.service", "bedplate-recovery.service", "bedplate-reboot.timer", "bedplate-reboot.service"]
    names += ["bedplate-supervise.service", "bedplate-front-var.service", "bedplate-config.service"]
    names += ["bedplate-certificate.service", "bedplate-certificate.timer"]
    names += ["bedplate-models.service", "bedplate-console.service"]
    names += ["inference.slice", "background.slice", "neighbour.slice"]
    where = f"/{root.relative_to(root.parents[1])}/usr/lib/systemd/system"
    units = [f"{where}/{name.replace('@.', '@known-answer.')}" for name in names]
    units += [f"{where}/bedplate-engine@{engine}.service" for engine in PYTHON_ENGINES]
    done = analyze(root, "verify", "--man=no", "--recursive-errors=no", *units)
    # The programs are not in the tools tree itself, where verify looks for them.
    problems = [line for line in done.stderr.splitlines() if line and "is not executable" not in line]
    assert problems == []
