"""The files of [network] as the real systemd-networkd reads them, in a network and a mount namespace of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.catalog.machine_config import parse_machine_config
from bedplate.config.kinds import render_files
from tests.configuration.machine import FULL

NETWORKD = "/usr/lib/systemd/systemd-networkd"
# The directories of the host are covered: its own files must neither be read nor written.
SCRIPT = f"""
set -e
mkdir -p /run/systemd/netif /etc/systemd/network
mount -t tmpfs -o mode=755 tmpfs /run/systemd/netif
mount --bind "$1" /etc/systemd/network
for directory in /run/systemd/network /usr/lib/systemd/network /usr/local/lib/systemd/network; do
    if [ -d "$directory" ]; then mount -t tmpfs tmpfs "$directory"; fi
done
exec env SYSTEMD_LOG_LEVEL=info SYSTEMD_LOG_TARGET=console {NETWORKD}
"""


@contextmanager
def networkd(directory: Path) -> Iterator[subprocess.Popen[str]]:
    argv = ["unshare", "--mount", "--net", "sh", "-c", SCRIPT, "sh", str(directory)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def complaints(directory: Path) -> list[str]:
    """What networkd says of the files, up to where it has read them all."""
    lines: list[str] = []
    with networkd(directory) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Enumeration completed" in line:
                return [line for line in lines if "/etc/systemd/network" in line]
            lines.append(line.rstrip())
    raise AssertionError("\n".join(lines))


def test_networkd_knows_every_line(tree: Path) -> None:
    if not Path(NETWORKD).exists():
        pytest.skip("systemd-networkd is not installed")
    tree.chmod(0o755)  # networkd reads it as a user of its own
    for file in render_files(parse_machine_config(FULL, name="m")):
        if file.table == "network":
            (tree / Path(file.path).name).write_text(file.text)
    assert complaints(tree) == []
    with (tree / "40-bedplate-eno1.network").open("a") as damaged:
        damaged.write("Bogus=1\n[Link]\nMTUBytes=many\n")
    told = "\n".join(complaints(tree))
    assert "Bogus" in told and "many" in told, "this test would see a wrong line"
