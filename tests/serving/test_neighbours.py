"""The generator that puts the user's services into neighbour.slice, run on made-up trees of units."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

GENERATOR = Path(__file__).parents[2] / "image/os/common/usr/lib/systemd/system-generators/bedplate-neighbours"
PLAIN = "[Service]\nExecStart=/bin/true\n"
PLACED = "[Service]\nExecStart=/bin/true\nSlice=inference.slice\n"


@pytest.mark.parametrize(
    ("files", "neighbours"),
    [
        ({}, []),
        ({"/etc/systemd/system/web.service": PLAIN}, ["web.service"]),
        ({"/run/systemd/system/worker@.service": PLAIN}, ["worker@.service"]),
        ({"/etc/systemd/system.attached/portable.service": PLAIN}, ["portable.service"]),
        ({"/etc/systemd/system/with a blank.service": PLAIN}, ["with a blank.service"]),
        ({"/etc/systemd/system/web.service": PLACED}, []),
        ({"/etc/systemd/system/web.service": "[Service]\n  Slice = system.slice"}, []),
        ({"/etc/systemd/system/web.service": "[Service]\n# Slice=system.slice\nRootDirectory=/Slice=\n"}, ["web.service"]),
        (
            {
                "/etc/systemd/system/web.service": PLAIN,
                "/etc/systemd/system/web.service.d/a.conf": "[Service]\nSlice=a.slice\n",
            },
            [],
        ),
        (
            {
                "/etc/systemd/system/web.service": PLAIN,
                "/run/systemd/system/web.service.d/a.conf": "[Service]\nSlice=a.slice\n",
            },
            [],
        ),
        ({"/etc/systemd/system/web.service": PLAIN, "/etc/systemd/system/web.service.d/a.conf": PLAIN}, ["web.service"]),
        ({"/etc/systemd/system/acpid.service": PLAIN, "/usr/lib/systemd/system/acpid.service": PLAIN}, []),
        ({"/run/systemd/system/bedplate-engine@a.service": PLAIN, "/etc/systemd/system/systemd-x.service": PLAIN}, []),
        ({"/usr/lib/systemd/system/own.service": PLAIN, "/etc/systemd/system/web.timer": PLAIN}, []),
        ({"/etc/systemd/system/masked.service": Path("/dev/null")}, []),
        ({"/etc/systemd/system/alias.service": Path("/usr/lib/systemd/system/dbus-broker.service")}, []),
        ({"/etc/systemd/system/dbus-org.freedesktop.x.service": Path("/usr/lib/systemd/system/systemd-x.service")}, []),
        ({"/etc/systemd/system/gone.service": Path("/nowhere/gone.service")}, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_who_becomes_a_neighbour(tmp_path: Path, files: dict[str, str | Path], neighbours: list[str]) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    out.mkdir()
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_text(content)
    _generate(root, out)
    assert [path.parent.name.removesuffix(".d") for path in out.rglob("*.conf")] == neighbours
    for path in out.rglob("*.conf"):
        assert path.name == "00-bedplate-neighbour.conf"
        assert path.read_text().endswith("[Service]\nSlice=neighbour.slice\n")


def test_a_unit_that_is_kept_elsewhere_and_linked_is_the_users(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    out.mkdir()
    (root / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "kept.service").write_text(PLAIN)
    (root / "etc/systemd/system/kept.service").symlink_to(tmp_path / "kept.service")
    _generate(root, out)
    assert [path.parent.name for path in out.rglob("*.conf")] == ["kept.service.d"]


def _generate(root: Path, out: Path) -> None:
    done = subprocess.run(["sh", GENERATOR, out, out, out, root], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
