"""Each changed input of a build is seen inside its result, and manifest, root and lock say the same.

Two builds, over the caches that builds of the unchanged inputs left: the first with a changed package of the image, a
changed package of the engine and a changed file of ours; the second with other keys.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.paths import Paths
from bedplate.image.manifest import Image, read_image, read_sections
from bedplate.image.packages import pool
from bedplate.image.recipe import recipes_directory
from tests.conftest import BUILD_S, Bedplate
from tests.vm.repack import Changed, change_package
from tests.vm.signed import Inside

pytestmark = pytest.mark.build

OUR_FILE = "usr/lib/modprobe.d/bedplate.conf"
# Files of packages that mkosi (the image's id) and the finalize script change.
OUR_CHANGES = {
    "usr/lib/os-release",
    "usr/lib/systemd/system/basic.target",
    "usr/lib/systemd/system/systemd-resolved.service",
    "usr/lib/systemd/system/systemd-timesyncd.service",
}


@dataclass(frozen=True, kw_only=True)
class Build:
    image: Image
    manifest: dict[str, Any]
    lock: dict[str, Any]
    engine: Path
    engine_record: dict[str, Any]
    engine_lock: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A user of its own, whose cache is as the builds of the unchanged inputs left it."""

    command: Bedplate
    inside: Inside
    package: Changed
    engine_package: Changed
    old_keys: Path

    def build(self) -> Build:
        record = json.loads(self.command("image", "build", "--json", timeout_s=BUILD_S).stdout)
        image = read_image(Path(record["manifest"]).parent)
        state = self.command.paths.state
        return Build(
            image=image,
            manifest=json.loads(image.manifest.read_text()),
            lock=json.loads((state / "locks/bedplate-cloud.json").read_text()),
            engine=Path(record["engine"]),
            engine_record=json.loads((state / "engines/llamacpp.json").read_text()),
            engine_lock=json.loads((state / "locks/engine-llamacpp.json").read_text()),
        )


@pytest.fixture(scope="module")
def workshop(bedplate: Bedplate, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    home = tmp_path_factory.mktemp("workshop")
    paths = Paths(cache=home / "cache", state=home / "state")
    old = bedplate.paths
    for source, target in (
        (pool(old), pool(paths)),
        (old.work / "os", paths.work / "os"),
        (old.cache / "engine-tree", paths.cache / "engine-tree"),
        (old.keys, paths.keys),
        (old.state / "locks", paths.state / "locks"),
        (old.engines, paths.engines),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    (paths.cache / "tools").symlink_to(old.tools)
    kept = home / "keys"
    shutil.copytree(paths.keys, kept)
    recipes = home / "recipes"
    shutil.copytree(recipes_directory(), recipes, symlinks=True)
    with (recipes / "os/common" / OUR_FILE).open("a") as file:
        file.write("# changed by a test\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_RECIPES", str(recipes))
        yield Workshop(
            command=Bedplate(paths=paths, port=0),
            inside=Inside(paths, paths.cache / "inside"),
            package=change_package(
                paths, paths.state / "locks/bedplate-cloud.json", "iproute2", "usr/share/iproute2/rt_tables"
            ),
            engine_package=change_package(
                paths, paths.state / "locks/engine-llamacpp.json", "zlib1g", "usr/lib/*/libz.so.1.*"
            ),
            old_keys=kept,
        )
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def changed(workshop: Workshop) -> Build:
    return workshop.build()


@pytest.fixture(scope="module")
def root(workshop: Workshop, changed: Build) -> Path:
    return workshop.inside.extract_root(changed.image.raw)


def test_a_changed_package_is_in_the_root(workshop: Workshop, changed: Build, root: Path) -> None:
    package = workshop.package
    assert (root / package.path).read_bytes() == package.content
    assert {package["name"]: package["version"] for package in changed.manifest["packages"]}[package.name] == package.version


def test_a_changed_file_of_ours_is_in_the_root(root: Path) -> None:
    assert (root / OUR_FILE).read_text().endswith("# changed by a test\n")


def test_manifest_and_lock_name_the_same_packages(changed: Build) -> None:
    pairs = ((changed.manifest, changed.lock), (changed.engine_record, changed.engine_lock))
    for said, locked in pairs:
        assert sorted(told(said)) == sorted(told(locked))


def test_what_the_root_has_of_the_packages_is_from_the_locked_files(workshop: Workshop, changed: Build, root: Path) -> None:
    """By the checksums in the .debs that the lock names: what is left of each package is unchanged."""
    compared, packages, differing = compare(workshop, changed.lock, root)
    assert differing == OUR_CHANGES
    assert compared > 1500
    assert packages > 100


def test_a_changed_package_is_in_the_engines_layer(workshop: Workshop, changed: Build) -> None:
    package = workshop.engine_package
    tree = workshop.inside.extract_root(changed.engine)
    assert (tree / package.path).read_bytes() == package.content
    unpacked = workshop.command.paths.cache / "engine-tree/llamacpp" / package.path
    assert unpacked.read_bytes() == package.content
    said = {package["name"]: package["version"] for package in changed.engine_record["packages"]}
    assert said[package.name] == package.version
    compared, packages, differing = compare(workshop, changed.engine_lock, tree)
    assert differing == set()
    assert compared > 40
    assert packages == len(changed.engine_lock["packages"])


def test_other_keys_sign_everything_again(workshop: Workshop, changed: Build) -> None:
    inside, paths = workshop.inside, workshop.command.paths
    old_owner, old_pcr = workshop.old_keys / "owner.crt", workshop.old_keys / "pcr.crt"
    for certificate in (old_owner, old_pcr):
        shutil.copyfile(certificate, inside.directory / f"old-{certificate.name}")
    old_owner, old_pcr = inside.directory / "old-owner.crt", inside.directory / "old-pcr.crt"
    assert signatures(inside, changed, old_owner, old_pcr) == dict.fromkeys(SIGNED, True)

    shutil.rmtree(paths.keys)
    again = workshop.build()
    owner, pcr = paths.keys / "owner.crt", paths.keys / "pcr.crt"
    assert again.image.version != changed.image.version
    assert signatures(inside, again, owner, pcr) == dict.fromkeys(SIGNED, True)
    assert signatures(inside, again, old_owner, old_pcr) == dict.fromkeys(SIGNED, False)
    root = inside.extract_root(again.image.raw)
    assert (root / "usr/lib/verity.d/owner.crt").read_bytes() == owner.read_bytes()
    assert (root / workshop.package.path).read_bytes() == workshop.package.content
    assert again.manifest["packages"] == changed.manifest["packages"]
    for variable in ("PK", "KEK", "db"):
        enrolled = inside.read_esp_file(again.image.raw, f"/loader/keys/auto/{variable}.auth").read_bytes()
        assert inside.der(owner) in enrolled
        assert inside.der(old_owner) not in enrolled


SIGNED = ("kernel", "kernel on the disk", "boot loader", "root", "PCR policy", "PCR key", "layer")


def signatures(inside: Inside, build: Build, owner: Path, pcr: Path) -> dict[str, bool]:
    """What of a build is signed by these keys."""
    sections = read_sections(build.image.uki)
    on_disk = inside.read_esp_file(build.image.raw, "/EFI/Linux/bedplate-*.efi")
    public = inside.tool("openssl", "x509", "-in", pcr, "-noout", "-pubkey").strip()
    return {
        "kernel": inside.is_signed_image(build.image.uki, owner),
        "kernel on the disk": inside.is_signed_image(on_disk, owner),
        "boot loader": inside.is_signed_image(inside.read_esp_file(build.image.raw, "/EFI/BOOT/BOOTX64.EFI"), owner),
        "root": inside.is_signed_root(build.image.raw, owner),
        "PCR policy": inside.is_pcr_policy_signed(sections[".pcrsig"], pcr),
        "PCR key": sections[".pcrpkey"].rstrip(b"\0").decode().strip() == public,
        "layer": inside.is_signed_root(build.engine, owner),
    }


def told(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(package["name"], package["version"], package["sha256"]) for package in record["packages"]]


def compare(workshop: Workshop, lock: dict[str, Any], tree: Path) -> tuple[int, int, set[str]]:
    """(files that are in the tree and in a .deb of the lock, packages that have any, paths of files whose bytes differ)."""
    compared, packages, differing = 0, 0, set()
    for package in lock["packages"]:
        deb = pool(workshop.command.paths) / package["file"]
        assert hashlib.sha256(deb.read_bytes()).hexdigest() == package["sha256"]
        sums = subprocess.run(["dpkg-deb", "-I", deb, "md5sums"], capture_output=True, text=True, check=True).stdout
        before = compared
        for line in sums.splitlines():
            checksum, _, path = line.partition("  ")
            file = tree / path
            if file.is_symlink() or not file.is_file():
                continue
            compared += 1
            if hashlib.md5(file.read_bytes()).hexdigest() != checksum:
                differing.add(path)
        packages += compared > before
    return compared, packages, differing
