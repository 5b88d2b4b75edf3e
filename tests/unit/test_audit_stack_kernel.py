"""The checks of what the next kernel lacks: modules, files, firmware and libraries of the driver."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.facts_factory import RELEASE, make_facts, make_kernel, make_os, with_gpus
from tests.unit.stack_facts import NEXT, findings, judge, library, module, package, packages

from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.reading import Unknown, known, missing
from bedplate.model.facts.stack import (
    DKMS_TREE,
    DPKG_STATUS,
    DkmsBuild,
    DkmsModule,
    DkmsState,
    InstalledStack,
)


def dkms(state: DkmsState | None, release: str = NEXT, name: str = "nvidia-current") -> InstalledStack:
    builds = [DkmsBuild(module=name, version="550.1", release=RELEASE, state=DkmsState.INSTALLED, source="/var/lib/dkms/a")]
    if state is not None:
        builds.append(DkmsBuild(module=name, version="550.1", release=release, state=state, source="/var/lib/dkms/b"))
    module = DkmsModule(name=name, versions=("550.1",), builds=tuple(builds))
    return InstalledStack(dkms=known((module,), DKMS_TREE))


@pytest.mark.parametrize(
    ("state", "release", "words"),
    [
        (DkmsState.INSTALLED, NEXT, None),
        (DkmsState.BUILT, NEXT, "did not install it"),
        (DkmsState.FAILED, NEXT, "failed to build"),
        (DkmsState.FAILED, "", "failed to build"),
        (DkmsState.FAILED, "5.10", "has no nvidia-current/550.1"),
        (None, "", "has no nvidia-current/550.1"),
    ],
)
def test_what_dkms_has_for_the_next_kernel(state: DkmsState | None, release: str, words: str | None) -> None:
    found = findings(dkms(state, release)).get("stack.dkms-driver")
    assert (found is None) is (words is None)
    assert found is None or words is None or words in found.title


@pytest.mark.parametrize(
    ("name", "version", "release", "state", "row"),
    [
        ("nvidia-current-open", "550.163.01", "6.12.118+deb13-amd64", DkmsState.FAILED, "pci_resize_resource"),
        ("nvidia-current", "550.163.01", "6.12.118+deb13-amd64", DkmsState.FAILED, None),
        ("nvidia-current-open", "580.126.20", "6.12.118+deb13-amd64", DkmsState.FAILED, None),
        ("nvidia-current", "580.126.09", "7.0.4+deb14-amd64", DkmsState.FAILED, "VMA_LOCK_OFFSET"),
        ("amdgpu", "6.16.13", "6.12.100+deb13-amd64", DkmsState.FAILED, "AMD's module"),
        ("nvidia-current-open", "550.163.01", "6.12.118+deb13-amd64", DkmsState.BUILT, None),
        ("nvidia-current-open", "550.163.01", "6.12.118+deb13-amd64", None, None),
    ],
)
def test_a_driver_that_is_known_not_to_build(
    name: str, version: str, release: str, state: DkmsState | None, row: str | None
) -> None:
    builds = [DkmsBuild(module=name, version=version, release=RELEASE, state=DkmsState.INSTALLED, source="/var/lib/dkms/a")]
    builds += [DkmsBuild(module=name, version=version, release=release, state=state, source="/b")] if state else []
    module = DkmsModule(name=name, versions=(version,), builds=tuple(builds))
    facts = make_facts(kernel=make_kernel(next_release=known(release, "/boot")))
    found = findings(InstalledStack(dkms=known((module,), DKMS_TREE)), facts)
    assert set(found) == {"stack.dkms-driver" if row is None else "stack.known-bad"}
    assert row is None or row in found["stack.known-bad"].title


def test_another_driver_beside_a_known_one_is_reported_too() -> None:
    modules = tuple(
        DkmsModule(
            name=name,
            versions=("550.163.01",),
            builds=(
                DkmsBuild(
                    module=name, version="550.163.01", release=NEXT, state=DkmsState.FAILED, source=f"/var/lib/dkms/{name}"
                ),
            ),
        )
        for name in ("nvidia-current", "nvidia-current-open")
    )
    assert set(findings(InstalledStack(dkms=known(modules, DKMS_TREE)))) == {"stack.dkms-driver", "stack.known-bad"}


def test_dkms_where_there_is_nothing_to_say() -> None:
    prebuilt = make_kernel(next_release=known(NEXT, "/boot"), gpu_modules=((NEXT, ("nvidia",)),))
    assert findings(dkms(None), make_facts(kernel=prebuilt)) == {}
    assert "stack.dkms-module" in findings(dkms(None, name="zfs"), make_facts(kernel=prebuilt))
    contained = make_facts(
        kernel=make_kernel(next_release=known(NEXT, "/boot")), os=make_os(container=known("docker", "/x"))
    )
    assert findings(dkms(None), contained) == {}
    blind = make_facts(kernel=make_kernel(next_release=missing(Unknown.ABSENT, "/boot")))
    audit = judge(dkms(None), blind)
    assert audit.findings == () and any(entry.id == "stack.dkms-driver" for entry in audit.not_judged)


def test_a_next_kernel_that_is_not_complete() -> None:
    old = "6.12.117"
    kernel = make_kernel(next_release=known(NEXT, "/boot"), installed=(old, NEXT))
    names = (f"vmlinuz-{old}", f"initrd.img-{old}", f"vmlinuz-{NEXT}")
    assert "stack.boot-files" in findings(InstalledStack(boot_files=names), make_facts(kernel=kernel))
    whole = InstalledStack(boot_files=(*names, f"initrd.img-{NEXT}"))
    assert findings(whole, make_facts(kernel=kernel)) == {}
    bare = make_kernel(next_release=known(NEXT, "/boot"), installed=(old,))
    assert "no modules" in findings(whole, make_facts(kernel=bare))["stack.boot-files"].evidence[1].fact
    without = InstalledStack(boot_files=(f"vmlinuz-{old}", f"vmlinuz-{NEXT}"))
    assert findings(without, make_facts(kernel=kernel)) == {}, "kernels without an initrd need none"


def test_a_module_of_another_kernel_does_not_load() -> None:
    assert findings(module()) == {}
    assert "stack.module-vermagic" in findings(module(vermagic=known("6.1.0-9-amd64", "/m")))
    unread = judge(module(vermagic=missing(Unknown.MALFORMED, "/m")))
    assert unread.findings == () and unread.not_judged


def test_firmware_of_a_module_of_the_kernels_tree_is_missing_only_as_a_whole() -> None:
    one = {"firmware_missing": ("nvidia/a.bin",)}
    assert findings(module(**one))["stack.firmware-missing"].severity is Severity.MEDIUM
    assert findings(module(name="amdgpu", **one)) == {}
    both = module(name="amdgpu", firmware_missing=("nvidia/a.bin", "nvidia/b.bin"))
    assert findings(both)["stack.firmware-missing"].confidence is Confidence.LIKELY
    assert judge(module(firmware_missing=None)).not_judged
    opened = module(path="/lib/modules/x/nvidia-current-open.ko", **one)
    assert findings(opened, with_gpus(make_facts(), 1))["stack.firmware-missing"].severity is Severity.CRITICAL


def test_libraries_and_the_module_on_disk() -> None:
    def with_libraries(*versions: str) -> dict[str, Finding]:
        names = ("libcuda", "libnvidia-ml")
        libraries = tuple(library(name, version) for name, version in zip(names, versions, strict=True))
        return findings(replace(module(), libraries=libraries))

    assert with_libraries("550.163.01", "550.163.01") == {}
    assert "stack.library-module" in with_libraries("535.261.03", "535.261.03")
    assert "one of them does not load" in with_libraries("550.163.01", "535.261.03")["stack.library-module"].title


@pytest.mark.parametrize(
    ("service", "version", "is_mixed"),
    [
        ("nvidia-fabricmanager-580", "580.126.09-1", False),
        ("nvidia-fabricmanager-580", "580.95.05-1", True),
        ("nvidia-fabricmanager-570", "570.1-1", False),
    ],
)
def test_ubuntus_fabric_manager_serves_the_server_branch(service: str, version: str, is_mixed: bool) -> None:
    names = ("nvidia-driver-580-server-open", "libnvidia-compute-580-server", "nvidia-utils-580-server")
    those = [package(name, "580.126.09-0ubuntu0.24.04.1") for name in names]
    found = findings(packages(*those, package(service, version)))
    assert ("stack.driver-mixed" in found) is is_mixed
    if is_mixed:
        assert "libnvidia-compute-580-server is 580.126.09" in found["stack.driver-mixed"].title


def test_a_system_without_dpkg_is_said_to_be_one() -> None:
    stack = InstalledStack(
        deep=True, packages=missing(Unknown.ABSENT, DPKG_STATUS), libraries=(library("libcuda", "550.1"),)
    )
    facts = make_facts(os=make_os(pretty_name="Fedora Linux 42"))
    (why,) = [entry.why for entry in judge(stack, facts).not_judged if entry.id == "stack"]
    assert "Fedora Linux 42 has no /var/lib/dpkg/status" in why and "were not judged" in why
