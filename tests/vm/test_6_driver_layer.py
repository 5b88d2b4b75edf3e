"""A driver layer from a user's own apt repository: built twice, looked into, its modules loaded or refused by a kernel.

The repository is made here: five small modules under the names of NVIDIA's, the first of which finds no card. They go the
way of a real driver: compiled, stripped, signed, packed and verified.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths, find_paths
from bedplate.act.run import run
from bedplate.errors import BuildError
from bedplate.flows.driver import DriverRequest, build_driver_layer
from bedplate.image.driver import DriverLayer
from bedplate.image.driver_modules import split_signature
from bedplate.image.recipe import recipes_directory
from bedplate.image.tools import ensure_tools, tools_command
from tests.unit.test_lock import Notes
from tests.vm.module_guest import SNAKEOIL_VARS, ModuleGuest, sign_as_stranger, take_snakeoil_key
from tests.vm.signed import Inside

pytestmark = [pytest.mark.build, pytest.mark.vm, pytest.mark.long]

KERNEL = "7.3.4+deb13-amd64"
VERSION = "9.9.9"
NAMES = ("nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem")
_SOURCE = """\
#include <linux/module.h>
static int __init start(void) { pr_info("%s\\n", "SAYS"); return RESULT; }
static void __exit stop(void) {}
module_init(start);
module_exit(stop);
MODULE_DESCRIPTION("a driver of a test");
MODULE_LICENSE("GPL");
MODULE_VERSION("VERSION_TEXT");
"""
_REJECTED = "Key was rejected by service"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    paths: Paths
    repository: Path
    layer: DriverLayer
    inside: Inside
    guest: ModuleGuest
    modules: dict[str, bytes]
    """The owner's, an unsigned and a stranger's module, each with another name."""


def _write_repository(paths: Paths, directory: Path) -> None:
    """A flat repository with the modules' source and with firmware, as a vendor's is."""
    work = directory.with_name("packages")
    source = work / "modules" / f"usr/src/nvidia-{VERSION}"
    source.mkdir(parents=True)
    (source / "dkms.conf").write_text(f'PACKAGE_NAME="nvidia"\nPACKAGE_VERSION="{VERSION}"\n')
    objects = " ".join(f"{name}.o" for name in NAMES)
    make = "\t$(MAKE) -C /lib/modules/$(KERNEL_UNAME)/build M=$(CURDIR) modules\n"
    (source / "Makefile").write_text(f"obj-m := {objects}\nmodules:\n{make}")
    for name in NAMES:
        says, result = ("NVRM: No NVIDIA GPU found.", "-ENODEV") if name == "nvidia" else (f"{name} is here", "0")
        text = _SOURCE.replace("SAYS", says).replace("RESULT", result).replace("VERSION_TEXT", VERSION)
        (source / f"{name}.c").write_text(text)
    firmware = work / "firmware" / f"usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"
    firmware.parent.mkdir(parents=True)
    firmware.write_bytes(b"firmware of a test")
    directory.mkdir()
    stanzas = []
    for name, package in (("modules", "nvidia-kernel-open-dkms"), ("firmware", "nvidia-firmware")):
        control = (
            f"Package: {package}\nVersion: {VERSION}-1\nArchitecture: amd64\nMaintainer: T <t@localhost>\nDescription: x\n"
        )
        (work / name / "DEBIAN").mkdir()
        (work / name / "DEBIAN/control").write_text(control)
        deb = directory / f"{package}_{VERSION}-1_amd64.deb"
        run(tools_command(paths, ["dpkg-deb", "-Znone", "-b", work / name, deb]), timeout_s=120)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        stanzas.append(f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    (directory / "Packages").write_text("\n".join(stanzas))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    if not SNAKEOIL_VARS.is_file():
        pytest.skip("the package ovmf is not installed")
    cache = find_paths().cache
    paths = Paths(cache=cache, state=tmp_path_factory.mktemp("driver") / "state")
    work = paths.work / "test-driver-layer"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_CACHE_DIR", str(cache))
        patch.setenv("BEDPLATE_STATE_DIR", str(paths.state))
        with hold_cache(paths, Notes(), what="the tools of a test"):
            tools = ensure_tools(paths, recipes_directory(), Notes())
        take_snakeoil_key(paths)
        repository = work / "repository"
        _write_repository(paths, repository)
        layer = build_driver_layer(DriverRequest(name="own", source=repository, unverified=True), Notes())
        inside = Inside(paths, work / "inside")
        signed = inside.extract_root(layer.path) / f"usr/lib/modules/{KERNEL}/updates/bedplate"
        uvm, _ = split_signature((signed / "nvidia-uvm.ko").read_bytes(), name="nvidia-uvm.ko")
        drm, _ = split_signature((signed / "nvidia-drm.ko").read_bytes(), name="nvidia-drm.ko")
        modules = {
            "nvidia": (signed / "nvidia.ko").read_bytes(),
            "nvidia-modeset": (signed / "nvidia-modeset.ko").read_bytes(),
            "unsigned": uvm,
            "foreign": sign_as_stranger(paths, drm, work / "stranger"),
        }
        guest = ModuleGuest(paths, tools, work / "guest", KERNEL)
        yield Workshop(paths=paths, repository=repository, layer=layer, inside=inside, guest=guest, modules=modules)
    shutil.rmtree(work)


def test_without_a_word_nothing_unverified_is_built(workshop: Workshop) -> None:
    with pytest.raises(BuildError, match="the catalogue has no yes to nvidia-driver"):
        build_driver_layer(DriverRequest(name="own", source=workshop.repository), Notes())


def test_the_layer_says_what_it_is(workshop: Workshop) -> None:
    record = json.loads((workshop.paths.drivers / "own.json").read_text())
    assert (record["version"], record["kernel"], record["verified"]) == (VERSION, KERNEL, False)
    assert [module["file"] for module in record["modules"]] == [f"{name}.ko" for name in NAMES]
    assert {module["signer"] for module in record["modules"]} == {"SnakeOil"}
    assert record["sha256"] == hashlib.sha256(workshop.layer.path.read_bytes()).hexdigest()
    root = workshop.inside.extract_root(workshop.layer.path)
    release = (root / "usr/lib/extension-release.d/extension-release.bedplate-own").read_text().splitlines()
    assert {"ID=debian", f"BEDPLATE_KERNEL={KERNEL}", "BEDPLATE_VERIFIED=no"} <= set(release)
    assert (root / f"usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin").read_bytes() == b"firmware of a test"
    load = (root / "usr/lib/bedplate/driver/own/load").read_text().splitlines()
    assert [line.rpartition("/")[2] for line in load] == ["nvidia.ko", "nvidia-uvm.ko"]
    assert all((root / line.removeprefix("insmod /")).is_file() for line in load)
    assert workshop.inside.is_signed_root(workshop.layer.path, workshop.paths.keys / "owner.crt")


def test_two_builds_are_the_same_bit_for_bit(workshop: Workshop) -> None:
    again = build_driver_layer(DriverRequest(name="own", source=workshop.repository, unverified=True, force=True), Notes())
    assert again.cpu_s is not None, "it was compiled again"
    assert again.sha256 == workshop.layer.sha256


def test_with_secure_boot_and_the_owner_in_db_only_the_owners_modules_load(workshop: Workshop) -> None:
    keys = workshop.paths.keys
    loaded = workshop.guest.boot_secure(workshop.modules, keys / "owner.key", keys / "owner.crt")
    assert "[integrity]" in loaded.lockdown
    assert loaded.modules["nvidia-modeset"] == (0, "")
    assert "No such device" in loaded.modules["nvidia"][1]
    assert "No NVIDIA GPU found" in loaded.log
    for name in ("unsigned", "foreign"):
        assert _REJECTED in loaded.modules[name][1], name
    assert "Loading of unsigned module is rejected" in loaded.log


def test_enforced_signatures_without_a_key_refuse_every_module(workshop: Workshop) -> None:
    loaded = workshop.guest.boot(workshop.modules, append="module.sig_enforce=1")
    for name in workshop.modules:
        assert _REJECTED in loaded.modules[name][1], name
    assert "No NVIDIA GPU found" not in loaded.log
