"""Builds of the image: made again from the same inputs they are the same, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.paths import Paths
from bedplate.cli.terminal import terminal_progress
from bedplate.image.build import request_of
from bedplate.image.manifest import Image
from bedplate.image.packages import ensure_packages, pool, read_lock
from bedplate.image.recipe import read_recipe, recipes_directory
from bedplate.image.tools import read_tools
from bedplate.model.units import MIB
from tests.conftest import BUILD_S, Bedplate

pytestmark = pytest.mark.build


def digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def without_disk_use(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest less what the file system and qemu-img's threads decide."""
    files = {
        kind: {key: value for key, value in file.items() if key != "disk_bytes"}
        for kind, file in manifest["files"].items()
        if kind != "qcow2"
    }
    return manifest | {"files": files}


@pytest.fixture
def cache(bedplate: Bedplate, image: Image, tmp_path: Path) -> Path:
    """A cache of its own with the same tools and packages, and nothing that a build has left behind."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "tools").symlink_to(bedplate.paths.tools)
    shutil.copytree(pool(bedplate.paths), cache / "packages/pool", copy_function=shutil.copyfile)
    return cache


def test_the_manifest_accounts_for_the_image(image: Image, manifest: dict[str, Any]) -> None:
    assert manifest["kernel"].startswith("7.")
    assert len(manifest["packages"]) > 100
    assert all(len(package["sha256"]) == 64 for package in manifest["packages"])
    assert manifest["files"]["uki"]["sha256"] == digest(image.uki)
    used = manifest["files"]["raw"]["disk_bytes"]
    assert used <= 150e6, f"root, verity and UKI use {used / 1e6:.0f} MB"
    assert manifest["files"]["initrd"]["size_bytes"] <= 12e6


def test_unchanged_inputs_build_nothing(bedplate: Bedplate, image: Image) -> None:
    before = image.manifest.stat().st_mtime_ns
    record = json.loads(bedplate("image", "build", "--json").stdout)
    assert record["version"] == image.version
    assert image.manifest.stat().st_mtime_ns == before


def test_two_clean_builds_are_bit_identical(bedplate: Bedplate, image: Image, cache: Path) -> None:
    """The second in another directory, from nothing but the tools tree, the lock, the packages and the keys."""
    manifest = without_disk_use(json.loads(image.manifest.read_text()))
    kept = {file.name: digest(file) for file in image.directory.iterdir() if file.suffix in (".raw", ".efi", ".initrd")}
    time.sleep(1.1)  # a clock that shows up in the image must show up here
    again = Bedplate(paths=Paths(cache=cache, state=bedplate.paths.state), port=0)
    again("image", "build", "--force", "--json", timeout_s=BUILD_S)
    second = {file.name: digest(file) for file in image.directory.iterdir() if file.suffix in (".raw", ".efi", ".initrd")}
    assert second == kept
    assert without_disk_use(json.loads(image.manifest.read_text())) == manifest


def test_image_commands(bedplate: Bedplate, image: Image) -> None:
    assert image.version in bedplate("image", "list").stdout
    shown = bedplate("image", "show", image.version).stdout
    assert "expected PCR 11" in shown
    assert "linux-binary-7" in shown
    refused = bedplate("image", "rm", "no-such-version", ok=False)
    assert refused.returncode == 2


def test_a_damaged_package_is_told_without_network_and_fetched_again_with_it(
    bedplate: Bedplate, image: Image, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = next((cache / "packages/pool").glob("busybox_*"))
    flip(victim)
    other = Bedplate(paths=Paths(cache=cache, state=bedplate.paths.state), port=0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    refused = other("image", "build", "--force", ok=False, timeout_s=BUILD_S)
    assert refused.returncode == 1
    assert "cannot be used" in refused.stderr
    assert image.manifest.is_file()
    monkeypatch.delenv("http_proxy")
    monkeypatch.delenv("https_proxy")
    lock_file = bedplate.paths.state / "locks/bedplate-cloud.json"
    request = request_of(read_recipe(recipes_directory()))
    tools = read_tools(other.paths, recipes_directory())
    assert tools is not None
    with terminal_progress() as progress:
        lock = ensure_packages(other.paths, tools, request, lock_file, progress)
    assert digest(victim) == next(package.sha256 for package in lock.packages if package.file == victim.name)


def test_what_a_killed_download_left_is_in_the_next_lock(bedplate: Bedplate, image: Image, cache: Path) -> None:
    """A package lies in the directory of downloads, whole, because the build was killed before it moved it to the pool."""
    paths = Paths(cache=cache, state=bedplate.paths.state)
    request = request_of(read_recipe(recipes_directory()))
    archives = cache / "packages" / request.home / "archives"
    archives.mkdir(parents=True)
    shutil.copy(next((cache / "packages/pool").glob("busybox_*")), archives)
    tools = read_tools(paths, recipes_directory())
    assert tools is not None
    lock_file = bedplate.paths.state / "locks/bedplate-cloud.json"
    before = read_lock(lock_file, request)
    with terminal_progress() as progress:
        lock = ensure_packages(paths, tools, request, cache / "after-a-kill.json", progress)
    assert before is not None
    assert {package.name for package in lock.packages} == {package.name for package in before.packages}


def test_a_third_partys_key_on_the_host_cannot_sign_the_build_tools(bedplate: Bedplate, tmp_path: Path) -> None:
    """A repository signed by a key that lies beside Debian's, as the package of any third party puts it there.

    tests/foreign_archive was signed with gpg; its private key was thrown away. The mount is seen by this command only.
    """
    keyrings = tmp_path / "keyrings"
    shutil.copytree("/usr/share/keyrings", keyrings)
    archive = Path(__file__).parents[1] / "foreign_archive"
    shutil.copy(archive / "third-party.gpg", keyrings)
    build = [sys.executable, "-m", "bedplate.cli.main", "image", "build", "--mirror", f"copy:{archive}"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-euc", 'mount --bind "$0" /usr/share/keyrings; exec "$@"', keyrings, *build],
        env=os.environ | {"BEDPLATE_CACHE_DIR": str(tmp_path / "cache"), "BEDPLATE_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 1
    assert "trixie InRelease is not signed by a key of Debian" in done.stderr


def test_a_killed_build_publishes_nothing_and_the_next_is_clean(bedplate: Bedplate, image: Image, cache: Path) -> None:
    environment = os.environ | {"BEDPLATE_STATE_DIR": str(bedplate.paths.state), "BEDPLATE_CACHE_DIR": str(cache)}
    before = digest(image.raw)
    log = bedplate.paths.logs / "build.log"
    log.unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "bedplate.cli.main", "image", "build", "--force"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + BUILD_S  # another run may hold the cache
    while not (log.is_file() and "mkosi" in log.read_text(errors="replace")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2)
    process.kill()
    process.wait()
    assert digest(image.raw) == before
    assert [entry.name for entry in bedplate.paths.images.iterdir()] == [image.version]
    assert bedplate("image", "build", timeout_s=BUILD_S).stdout.startswith(image.version)


def test_a_full_disk_is_told_and_leaves_the_image(bedplate: Bedplate, image: Image, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    # Room for the packages, which a long-lived cache has more of than this build's, and for a tenth of what a build writes.
    room = sum(package.stat().st_size for package in pool(bedplate.paths).iterdir()) + 40 * MIB
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(small)], check=True)
    try:
        (small / "tools").symlink_to(bedplate.paths.tools)
        shutil.copytree(pool(bedplate.paths), small / "packages/pool", copy_function=shutil.copyfile)
        other = Bedplate(paths=Paths(cache=small, state=bedplate.paths.state), port=0)
        refused = other("image", "build", "--force", ok=False, timeout_s=BUILD_S)
        assert refused.returncode == 1
        assert "no space left" in refused.stderr
        assert image.manifest.is_file()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
