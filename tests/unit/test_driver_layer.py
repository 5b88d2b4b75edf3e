"""Driver layers: recipes, what the catalogue says of them, sources, and what the modules must be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_lock import Notes

from bedplate.catalog.stack import read_stack
from bedplate.errors import BuildError, DataError, ReadError, UsageError
from bedplate.flows.driver import DriverRequest, build_driver_layer, choose_recipe, judge_recipe, recipe_of_lock
from bedplate.flows.stack import StackRequest, resolve_stack
from bedplate.image.driver_modules import ModuleInfo, find_module_problems, parse_modinfo, split_signature
from bedplate.image.driver_recipe import (
    KernelRelease,
    list_driver_recipes,
    parse_kernel_release,
    read_driver_recipe,
)
from bedplate.image.driver_source import OwnKind, find_module_tree, find_own_version, is_nonfree, read_own_source
from bedplate.image.driver_tree import find_user_space, render_load
from bedplate.image.packages import Request
from bedplate.image.recipe import recipes_directory
from bedplate.image.tools import render_archives
from bedplate.model.stack import StackConflict, StackRecord

KERNEL = "7.3.4+deb13-amd64"
MODINFO = """\
filename:       /cache/nvidia.ko
alias:          char-major-195-*
version:        535.274.02
supported:      external
license:        NVIDIA
depends:        video,drm
name:           nvidia
vermagic:       7.3.4+deb13-amd64 SMP preempt mod_unload
sig_id:         PKCS#7
signer:         bedplate owner: Secure Boot and verity
sig_key:        2D:3B
sig_hashalgo:   sha256
parm:           NVreg_Mobile:int
"""


def _info(**changes: Any) -> ModuleInfo:
    return dataclasses.replace(parse_modinfo(MODINFO), **changes)


def _problems(**modules: ModuleInfo) -> tuple[str, ...]:
    return find_module_problems(
        modules,
        ("nvidia",),
        kernel=KERNEL,
        version="535.274.02",
        signer="bedplate owner: Secure Boot and verity",
    )


def test_modinfo_is_read() -> None:
    info = parse_modinfo(MODINFO)
    assert (info.name, info.kernel, info.version) == ("nvidia", KERNEL, "535.274.02")
    assert info.depends == ("video", "drm")
    assert parse_modinfo("filename: /x.ko\nname: x\n").vermagic == ""


def test_a_right_module_has_no_problem() -> None:
    assert _problems(nvidia=_info()) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"vermagic": "6.12.118+deb13-amd64 SMP"}, "is for the kernel 6.12.118+deb13-amd64, expected 7.3.4+deb13-amd64"),
        ({"vermagic": "7.3.4+deb13-cloud-amd64 SMP"}, "is for the kernel 7.3.4+deb13-cloud-amd64"),
        ({"vermagic": ""}, "is for the kernel of no release"),
        ({"version": "535.247.01"}, "has version 535.247.01, expected 535.274.02"),
        ({"version": ""}, "has version none"),
        ({"signer": ""}, "is signed by nobody"),
        ({"signer": "a stranger"}, "is signed by a stranger"),
        ({"hash_algorithm": "sha1"}, "is over sha1"),
    ],
)
def test_each_difference_of_a_module_is_told(changes: dict[str, str], problem: str) -> None:
    (told,) = _problems(nvidia=_info(**changes))
    assert told.startswith("nvidia.ko: ") and problem in told


def test_missing_and_unknown_modules_are_told() -> None:
    assert _problems(uvm=_info()) == (
        "nvidia.ko: the build made no such module",
        "uvm.ko: the recipe does not name this module",
    )


def test_a_signature_is_split_from_its_module() -> None:
    tail = b"\x00" * 8 + (5).to_bytes(4, "big") + b"~Module signature appended~\n"
    assert split_signature(b"module" + b"PKCS7" + tail, name="x.ko") == (b"module", b"PKCS7")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"module", "x.ko: is not signed"),
        (b"~Module signature appended~\n", "has 0 bytes"),
        (b"m" + b"\x00" * 8 + (500).to_bytes(4, "big") + b"~Module signature appended~\n", "has 500 bytes"),
    ],
)
def test_a_cut_signature_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ReadError, match=problem):
        split_signature(content, name="x.ko")


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (KERNEL, ("7.3.4", "amd64")),
        ("6.12.118+deb13-cloud-amd64", ("6.12.118", "cloud")),
        ("6.12.118+deb13-rt-amd64", ("6.12.118", "rt")),
    ],
)
def test_kernel_releases_are_read(text: str, release: tuple[str, str]) -> None:
    assert parse_kernel_release(text) == KernelRelease(release=text, version=release[0], flavour=release[1])


@pytest.mark.parametrize("text", ["", "7.3.4", "6.17.0-1032-nvidia", "7.3.4+deb13-amd64\n", "../x"])
def test_what_is_no_kernel_of_debian_is_refused(text: str) -> None:
    assert parse_kernel_release(text) is None


def test_each_recipe_that_ships_is_read() -> None:
    directory = recipes_directory()
    assert "tesla-535" in list_driver_recipes(directory)
    for name in list_driver_recipes(directory):
        assert read_driver_recipe(directory, name).name == name


def test_a_boot_loads_what_a_module_needs_before_it() -> None:
    recipe = read_driver_recipe(recipes_directory(), "tesla-535")
    recipe = dataclasses.replace(recipe, loaded=("nvidia NVreg_X=1", "nvidia-uvm", "nvidia-drm"))
    needs = {"nvidia": ("drm",), "nvidia-uvm": ("nvidia",), "nvidia-drm": ("drm", "drm_kms_helper", "nvidia-modeset")}
    modules = {name: _info(depends=depends) for name, depends in needs.items()}
    place = f"insmod /usr/lib/modules/{KERNEL}/updates/bedplate"
    assert render_load(recipe, modules).splitlines() == [
        "modprobe drm",
        f"{place}/nvidia.ko NVreg_X=1",
        f"{place}/nvidia-uvm.ko",
        "modprobe drm_kms_helper",
        f"{place}/nvidia-drm.ko",
    ]


def test_user_space_is_of_exactly_one_version(tmp_path: Path) -> None:
    for name in ("libcuda.so.535.274.02", "libcuda.so.550.163.01", "libEGL_nvidia.so.535.274.02", "nvidia-smi"):
        (tmp_path / "lib").mkdir(exist_ok=True)
        (tmp_path / "lib" / name).write_bytes(b"\x7fELF")
    (tmp_path / "lib/32").mkdir()
    (tmp_path / "lib/32/libnvidia-ml.so.535.274.02").write_bytes(b"\x7fELF")
    (tmp_path / "share").mkdir()
    (tmp_path / "share/nvidia-persistenced").write_text("a lintian override")
    libraries, programs = find_user_space(tmp_path, "535.274.02")
    assert (sorted(libraries), sorted(programs)) == (["libcuda.so.535.274.02"], ["nvidia-smi"])


def test_problems_of_a_recipe_are_told_together(tmp_path: Path) -> None:
    text = (recipes_directory() / "drivers/tesla-535/driver.toml").read_text()
    text = text.replace(KERNEL, "7.3.4").replace('loaded = ["nvidia", ', 'loaded = ["nvidia-fs x=1", ')
    (tmp_path / "drivers/other").mkdir(parents=True)
    (tmp_path / "drivers/other/driver.toml").write_text(text)
    with pytest.raises(DataError) as caught:
        read_driver_recipe(tmp_path, "other")
    told = caught.value.message
    assert "driver.toml:name: got 'tesla-535', expected 'other'" in told
    assert "driver.toml:kernel: got '7.3.4'" in told
    assert "driver.toml:loaded: got 'nvidia-fs'" in told


def test_an_unknown_driver_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(UsageError, match=r"tesla-999: no such driver; the drivers are: .*tesla-535"):
        read_driver_recipe(recipes_directory(), "tesla-999")


def test_the_catalogue_has_a_yes_for_each_verified_recipe() -> None:
    catalogue = read_stack(drop_ins=None)
    rows = {"tesla-535": "tesla535-builds-7.3.4", "open-550": "repaired550-builds-6.12.118"}
    for name, row in rows.items():
        verdict = judge_recipe(read_driver_recipe(recipes_directory(), name), catalogue)
        assert (verdict.builds, verdict.row) == (True, row)
    own = read_driver_recipe(recipes_directory(), "own")
    assert judge_recipe(own, catalogue).builds is None
    old = dataclasses.replace(own, version="550.163.01")
    assert judge_recipe(old, catalogue).row == "open550-7.3", "a known no counts for a user's files, too"


def test_open_550_on_7_3_is_refused_before_any_build(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = read_stack(drop_ins=None)
    recipe = dataclasses.replace(
        read_driver_recipe(recipes_directory(), "tesla-535"), version="550.163.01-4", flavour="open", source="debian-sid"
    )
    verdict = judge_recipe(recipe, catalogue)
    assert (verdict.builds, verdict.row) == (False, "open550-7.3")
    assert "pci_resize_resource" in verdict.because
    monkeypatch.setattr("bedplate.flows.driver.choose_recipe", lambda request: (recipe, None))
    monkeypatch.setattr("bedplate.flows.driver.build_driver", lambda *_, **__: pytest.fail("was built"))
    with pytest.raises(BuildError, match=r"the catalogue says no to nvidia-driver 550\.163\.01-4 .* for the kernel 7\.3\.4"):
        build_driver_layer(DriverRequest(name="x"), Notes(), catalogue=catalogue)


def test_the_resolver_refuses_open_550_on_7_3() -> None:
    request = StackRequest(
        accelerators=("h100",),
        require=("nvidia-driver ==550.163.01", "nvidia-driver.flavour ==open", "kernel ==7.3.4"),
    )
    answer = resolve_stack(request, drop_ins=None)
    assert isinstance(answer, StackConflict)
    told = " ".join(link.sentence for link in answer.chain)
    assert "the kernel's interface changed under the open modules of 550" in told


def test_a_kernel_that_no_row_speaks_of_is_no_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bedplate.flows.driver.build_driver", lambda *_, **__: pytest.fail("was built"))
    with pytest.raises(BuildError, match=r"has no yes to .* for the kernel 7\.9\.1\+deb13-amd64: .* was seen to build for"):
        build_driver_layer(
            DriverRequest(name="tesla-535", kernel="7.9.1+deb13-amd64"), Notes(), catalogue=read_stack(drop_ins=None)
        )


def test_a_lock_chooses_its_recipe() -> None:
    request = StackRequest(accelerators=("h100",), require=("nvidia-driver ==535.274.02-3", "kernel ==7.3.4"))
    answer = resolve_stack(request, drop_ins=None)
    assert isinstance(answer, StackRecord)
    recipes = [read_driver_recipe(recipes_directory(), name) for name in list_driver_recipes(recipes_directory())]
    assert recipe_of_lock(answer.lock, recipes).name == "tesla-535"
    with pytest.raises(UsageError, match=r"no driver recipe makes nvidia-driver 535\.274\.02-3 .* for the kernel 7\.3\.4"):
        recipe_of_lock(answer.lock, [recipe for recipe in recipes if recipe.name != "tesla-535"])


def test_own_source_is_for_the_recipe_own_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="own: needs a source"):
        choose_recipe(DriverRequest(name="own"))
    with pytest.raises(UsageError, match="tesla-535: takes no source of your own"):
        choose_recipe(DriverRequest(name="tesla-535", source=tmp_path))


def _tree(directory: Path, version: str = "580.126.09") -> Path:
    directory.mkdir(parents=True)
    (directory / "Makefile").write_text("modules:\n")
    (directory / "Kbuild").write_text(f'ccflags-y += -DNV_VERSION_STRING=\\"{version}\\"\n')
    return directory


def test_an_own_tree_states_its_version_and_stays_unverified(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "src/kernel-open")
    request = DriverRequest(name="own", source=tmp_path / "src", kernel="6.12.118+deb13-amd64")
    recipe, source = choose_recipe(request)
    assert source is not None
    assert (source.kind, recipe.version, find_module_tree(source.path)) == (OwnKind.TREE, "580.126.09", tree)
    verdict = judge_recipe(recipe, read_stack(drop_ins=None))
    assert verdict.builds is None, "a row about a version says nothing of the user's bytes"


def test_an_own_source_without_a_version_asks_for_it(tmp_path: Path) -> None:
    (_tree(tmp_path / "src") / "Kbuild").write_text("obj-m := x.o\n")
    with pytest.raises(UsageError, match="its version cannot be read from it"):
        choose_recipe(DriverRequest(name="own", source=tmp_path / "src"))
    recipe, _ = choose_recipe(DriverRequest(name="own", source=tmp_path / "src", version="1.2.3"))
    assert recipe.version == "1.2.3"


def test_each_kind_of_own_source_is_told(tmp_path: Path) -> None:
    run = tmp_path / "NVIDIA-Linux-x86_64-580.126.09.run"
    run.write_bytes(b"#!/bin/sh\n")
    assert (read_own_source(run).kind, find_own_version(read_own_source(run))) == (OwnKind.RUN, "580.126.09")
    for name in ("nvidia-kernel-open-dkms_580.126.09-1_amd64.deb", "libnvidia-ml1_580.126.09-1_amd64.deb"):
        (tmp_path / "repo").mkdir(exist_ok=True)
        (tmp_path / "repo" / name).write_bytes(b"deb")
    own = read_own_source(tmp_path / "repo")
    assert (own.kind, len(own.files), find_own_version(own)) == (OwnKind.REPOSITORY, 2, "580.126.09")
    (tmp_path / "repo" / own.files[0].name).write_bytes(b"other")
    assert read_own_source(tmp_path / "repo").digest != own.digest
    with pytest.raises(ReadError, match="is no driver source"):
        read_own_source(Path(__file__))
    with pytest.raises(ReadError, match="no such file or directory"):
        read_own_source(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match=r"expected one tree of modules .* got none"):
        read_own_source(tmp_path / "empty")


def test_a_repository_whose_file_is_not_its_index_s_is_refused(tmp_path: Path) -> None:
    deb = tmp_path / "nvidia-dkms_580.126.09-1_amd64.deb"
    deb.write_bytes(b"deb")
    (tmp_path / "Packages").write_text(f"Package: nvidia-dkms\nFilename: ./{deb.name}\nSHA256: {'0' * 64}\n")
    with pytest.raises(ReadError, match=f"got SHA-256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        read_own_source(tmp_path)
    (tmp_path / "Packages").write_text(f"Package: nvidia-dkms\nFilename: ../gone.deb\nSHA256: {'0' * 64}\n")
    with pytest.raises(ReadError, match=r"lists \.\./gone\.deb, which is not in"):
        read_own_source(tmp_path)


def test_an_own_run_has_two_trees_and_the_open_one_counts(tmp_path: Path) -> None:
    _tree(tmp_path / "kernel")
    assert find_module_tree(tmp_path).name == "kernel"
    _tree(tmp_path / "kernel-open")
    assert find_module_tree(tmp_path).name == "kernel-open"


def test_licences_are_those_of_the_archive() -> None:
    assert [is_nonfree(name) for name in ("main", "contrib", "non-free", "non-free-firmware")] == [False, False, True, True]


def test_other_components_make_another_lock_and_those_of_main_stay() -> None:
    main = Request(suite="sid", packages=("x",), kernel=None, accept_expired_release=True, architecture="amd64")
    more = dataclasses.replace(main, components=("main", "non-free"))
    assert main.digest != more.digest
    assert main.digest == "5b585af6a01721903080ac989fe71e15afd540bf77a36a4fb13131b9476192b3", (
        "the digest of locks that exist"
    )
    assert render_archives("sid", "http://m/debian", "http://s", keyring="/k", components=("main", "contrib")) == [
        "deb [signed-by=/k] http://m/debian sid main contrib"
    ]
