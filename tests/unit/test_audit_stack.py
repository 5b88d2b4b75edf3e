"""The checks of the installed stack on small facts: what each reports, and what it must not report."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.facts_factory import RELEASE, make_facts, make_kernel, make_os, with_gpus

from bedplate.catalog.findings import read_findings
from bedplate.catalog.stack import read_stack
from bedplate.model.audit import Audit, Suppression
from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import (
    APT_SOURCES,
    CDI_DIRECTORY,
    DKMS_TREE,
    DPKG_STATUS,
    AptPin,
    AptRelease,
    AptSourceEntry,
    CdiSpecification,
    CudaToolkit,
    DeviceCode,
    DkmsBuild,
    DkmsModule,
    DkmsState,
    DpkgPackage,
    DriverLibrary,
    InstalledStack,
    ModuleFile,
    PythonEnvironment,
    PythonPackage,
    PythonRequirement,
    TorchBuild,
)
from bedplate.model.stack import CheckedBy, ChosenRelease, StackLock, StackRecord, StackRelease
from bedplate.plan.audit_stack import audit_stack
from bedplate.plan.rules.observation import shell_word

ROWS, CATALOGUE = read_findings(), read_stack(drop_ins=None)
NEXT = "6.12.118+deb13-amd64"


def judge(stack: InstalledStack, facts: HostFacts | None = None, *suppressions: Suppression) -> Audit:
    facts = facts if facts is not None else make_facts(kernel=make_kernel(next_release=known(NEXT, "/boot")))
    return audit_stack(replace(facts, stack=stack), ROWS, CATALOGUE, None, suppressions, today="2026-11-30")


def findings(stack: InstalledStack, facts: HostFacts | None = None) -> dict[str, Finding]:
    return {finding.id: finding for finding in judge(stack, facts).findings}


def package(name: str, version: str = "1-1", want: str = "install", state: str = "installed", **more: Any) -> DpkgPackage:
    return DpkgPackage(name=name, architecture="amd64", version=version, want=want, state=state, **more)


def packages(*those: DpkgPackage, **more: Any) -> InstalledStack:
    return InstalledStack(packages=known(those, DPKG_STATUS), **more)


def test_nothing_read_is_nothing_found_and_says_so() -> None:
    audit = judge(InstalledStack())
    assert audit.findings == () and [entry.id for entry in audit.not_judged] == ["stack"]


KERNEL, HEADERS, DKMS = "linux-image-amd64", "linux-headers-amd64", "nvidia-kernel-dkms"


@pytest.mark.parametrize(
    ("those", "severity"),
    [
        ((package(KERNEL), package(HEADERS)), None),
        ((package(KERNEL, want="hold"),), Severity.LOW),
        ((package(KERNEL, want="hold"), package(HEADERS)), Severity.MEDIUM),
        ((package(KERNEL, want="hold"), package(HEADERS, want="hold"), package(DKMS, "550.1-1")), Severity.MEDIUM),
        ((package(KERNEL, want="hold"), package(HEADERS, want="hold"), package(DKMS, "550.1-1", want="hold")), None),
        ((package(KERNEL, "6.1-1", want="hold"), package(HEADERS, "6.2-1", want="hold")), Severity.MEDIUM),
        ((package(KERNEL), package("linux-image-6.1.0-9-amd64", want="hold"), package(HEADERS)), None),
        ((package("linux-image-6.1.0-9-amd64", want="hold"), package(HEADERS)), Severity.MEDIUM),
        ((package(KERNEL, want="hold", state="config-files"), package(HEADERS)), None),
    ],
)
def test_a_held_kernel(those: tuple[DpkgPackage, ...], severity: Severity | None) -> None:
    found = findings(packages(*those)).get("stack.kernel-held")
    assert (found.severity if found is not None else None) is severity


def test_a_pin_of_a_version_holds_and_others_do_not() -> None:
    def pin(**changes: Any) -> InstalledStack:
        values: dict[str, Any] = {
            "file": "/p",
            "package": "linux-image-*",
            "kind": "version",
            "value": "6.1*",
            "priority": 1001,
        }
        return packages(package(KERNEL), package(HEADERS), pins=(AptPin(**(values | changes)),))

    assert "stack.kernel-held" in findings(pin())
    for changes in ({"kind": "release"}, {"priority": -1}, {"package": "*"}, {"package": "linux-headers-*"}):
        assert findings(pin(**changes)) == {}


@pytest.mark.parametrize(
    ("those", "severity"),
    [
        ((package(DKMS, state="half-configured"),), Severity.HIGH),
        ((package("vim", state="triggers-pending"),), Severity.MEDIUM),
        ((package("vim", needs_reinstall=True),), Severity.MEDIUM),
        ((package("vim", state="config-files"),), None),
    ],
)
def test_an_upgrade_that_did_not_end(those: tuple[DpkgPackage, ...], severity: Severity | None) -> None:
    found = findings(packages(*those)).get("stack.upgrade-unfinished")
    assert (found.severity if found is not None else None) is severity


def test_a_journal_that_dpkg_left() -> None:
    assert "stack.upgrade-unfinished" in findings(packages(interrupted=("/var/lib/dpkg/updates/0001",)))


@pytest.mark.parametrize(
    ("those", "severity"),
    [
        ({DKMS: "550.163.01-2", "libcuda1": "550.163.01-4", "nvidia-smi": "550.163.01-2"}, None),
        ({DKMS: "550.163.01-2", "libcuda1": "535.261.03-1"}, Severity.CRITICAL),
        ({DKMS: "550.163.01-2", "libcuda1": "550.163.01-2", "nvidia-fabricmanager": "550.144.03-1"}, Severity.HIGH),
        ({DKMS: "550.163.01-2", "libcuda1": "550.163.01-2", "firmware-nvidia-gsp": "535.261.03-1"}, Severity.HIGH),
        ({DKMS: "550.163.01-2", "libcuda1": "550.163.01-2", "nvidia-modprobe": "610.57-1"}, None),
        ({"nvidia-dkms-570-open": "570.1.1-0ubuntu1", "libnvidia-compute-570": "570.1.1-0ubuntu1"}, None),
        ({"nvidia-dkms-570-open": "570.1.1-0ubuntu1", "libnvidia-compute-550": "550.1.1-0ubuntu1"}, Severity.CRITICAL),
        (
            {
                "nvidia-dkms-570": "570.1.1-1",
                "libnvidia-compute-570": "570.1.1-1",
                "nvidia-firmware-570-570.1.1": "570.1.1-1",
                "nvidia-firmware-570-570.1.0": "570.1.0-1",
            },
            None,
        ),
        # Debian's alternatives let two branches stand side by side.
        (
            {
                DKMS: "550.163.01-2",
                "libcuda1": "550.163.01-2",
                "nvidia-tesla-535-kernel-dkms": "535.274.02-1",
                "libnvidia-tesla-535-cuda1": "535.274.02-1",
            },
            None,
        ),
        ({"nvidia-tesla-535-kernel-dkms": "535.274.02-3", "libnvidia-tesla-535-cuda1": "535.261.03-1"}, Severity.CRITICAL),
        ({"libcuda1": "550.163.01-2", "libnvidia-ml1": "535.261.03-1"}, Severity.CRITICAL),
    ],
)
def test_versions_of_the_drivers_packages(those: dict[str, str], severity: Severity | None) -> None:
    found = findings(packages(*(package(name, version) for name, version in those.items()))).get("stack.driver-mixed")
    assert (found.severity if found is not None else None) is severity


def source(uri: str = "http://a.example/debian", suite: str = "trixie", **more: Any) -> AptSourceEntry:
    return AptSourceEntry(file="/etc/apt/sources.list", uri=uri, suite=suite, **more)


def pin(value: str, kind: str = "release", package: str = "nvidia-*", priority: int = 600) -> AptPin:
    return AptPin(file="/etc/apt/preferences", package=package, kind=kind, value=value, priority=priority)


RELEASES = (
    AptRelease(origin="Debian", label="Debian", suite="stable", codename="trixie"),
    AptRelease(origin="Vendor", label="CUDA", suite="", codename=""),
)


@pytest.mark.parametrize(
    ("value", "kind", "releases", "gone"),
    [
        ("n=trixie", "release", (), False),
        ("a=stable", "release", RELEASES, False),
        ("a=stable", "release", (), None),
        ("n=trixie-backports", "release", RELEASES, True),
        ("o=Debian", "release", RELEASES, False),
        ("o=Vendor", "release", RELEASES, False),
        ("o=Other", "release", RELEASES, True),
        ("o=Other", "release", (), None),
        ("c=main", "release", RELEASES, False),
        ("o=Debian,n=trixie", "release", RELEASES, False),
        ("o=Debian,n=sid", "release", RELEASES, True),
        ('"a.example"', "origin", (), False),
        ('"b.example"', "origin", (), True),
        ('""', "origin", (), False),
        ("a=now", "release", RELEASES, False),
        ("n=/^trix/", "release", RELEASES, False),
    ],
)
def test_a_pin_whose_source_is_gone(value: str, kind: str, releases: tuple[AptRelease, ...], gone: bool | None) -> None:
    stack = InstalledStack(sources=known((source(),), APT_SOURCES), pins=(pin(value, kind),), releases=releases)
    audit = judge(stack)
    assert [finding.id for finding in audit.findings] == (["stack.source-gone"] if gone else [])
    assert bool(audit.not_judged) is (gone is None)


def test_pins_that_choose_nothing_of_the_stack_are_left_alone() -> None:
    for other in (pin("n=x", package="nodejs"), pin("n=x", priority=-10), pin("1.2", "version")):
        assert findings(InstalledStack(sources=known((source(),), APT_SOURCES), pins=(other,), releases=RELEASES)) == {}
    every = InstalledStack(sources=known((source(),), APT_SOURCES), pins=(pin("n=x", package="*"),), releases=RELEASES)
    assert findings(every)["stack.source-gone"].severity is Severity.LOW


def test_sources_that_could_not_be_read_make_no_finding() -> None:
    audit = judge(InstalledStack(sources=missing(Unknown.DENIED, "/etc/apt/sources.list.d/x.list"), pins=(pin("n=x"),)))
    assert audit.findings == ()
    assert "may not be read" in audit.not_judged[0].why


def test_a_directory_that_is_gone_and_a_source_that_was_switched_off() -> None:
    gone = InstalledStack(sources=known((source("file:/srv/mirror", directory=False),), APT_SOURCES))
    assert findings(gone)["stack.source-gone"].evidence[1].source == "/srv/mirror"
    off = source("https://b.example/cuda/debian13/", "/", enabled=False)
    there = packages(package("libcuda1", "550.1-1"), sources=known((source(), off), APT_SOURCES))
    assert findings(there)["stack.source-gone"].confidence is Confidence.LIKELY
    assert findings(packages(sources=known((source(), off), APT_SOURCES))) == {}
    again = (source(), off, source("https://b.example/cuda/debian13", "/"))
    assert findings(packages(package("libcuda1", "550.1-1"), sources=known(again, APT_SOURCES))) == {}


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


def module(**changes: Any) -> InstalledStack:
    values: dict[str, Any] = {
        "path": f"/lib/modules/{NEXT}/updates/dkms/nvidia-current.ko",
        "release": NEXT,
        "name": "nvidia",
        "version": known("550.163.01", "/m"),
        "vermagic": known(NEXT, "/m"),
        "firmware": ("nvidia/a.bin", "nvidia/b.bin"),
        "firmware_missing": (),
    }
    return InstalledStack(deep=True, module_files=(ModuleFile(**(values | changes)),))


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


def library(name: str, version: str) -> DriverLibrary:
    return DriverLibrary(name=name, version=version, path=f"/usr/lib/{name}.so.1")


def test_libraries_and_the_module_on_disk() -> None:
    def with_libraries(*versions: str) -> dict[str, Finding]:
        names = ("libcuda", "libnvidia-ml")
        libraries = tuple(library(name, version) for name, version in zip(names, versions, strict=True))
        return findings(replace(module(), libraries=libraries))

    assert with_libraries("550.163.01", "550.163.01") == {}
    assert "stack.library-module" in with_libraries("535.261.03", "535.261.03")
    assert "one of them does not load" in with_libraries("550.163.01", "535.261.03")["stack.library-module"].title


def environment(**changes: Any) -> PythonEnvironment:
    values: dict[str, Any] = {
        "path": "/opt/vllm",
        "is_virtual": True,
        "interpreter": known("/usr/bin/python3.13", "/opt/vllm/bin/python"),
        "packages": tuple(
            PythonPackage(name=name, version=version, path=f"/opt/vllm/lib/python3.13/site-packages/{name}.dist-info")
            for name, version in (("torch", "2.10.0"), ("vllm", "0.19.1"))
        ),
        "leftovers": (),
        "torch": TorchBuild(path="/opt/vllm/torch/version.py", version="2.10.0+cu128", cuda="12.8", hip=""),
        "requirements": (PythonRequirement(package="vllm", bounds="==2.10.0"),),
        "code": (),
    }
    return PythonEnvironment(**(values | changes))


def env(**changes: Any) -> InstalledStack:
    return InstalledStack(deep=True, environments=(environment(**changes),), libraries=(library("libcuda", "550.163.01"),))


def test_an_environment_in_which_all_fits() -> None:
    assert findings(env()) == {}
    assert findings(env(), with_gpus(make_facts(), 1)) == {}


@pytest.mark.parametrize(
    ("bounds", "is_met"),
    [("==2.10.0", True), (">=2.9,<3", True), ("==2.9.1", False), (">=2.11", False), ("~=2.1", True), ("!=2.10.0", False)],
)
def test_bounds_of_an_engine_on_torch(bounds: str, is_met: bool) -> None:
    found = findings(env(requirements=(PythonRequirement(package="vllm", bounds=bounds),)))
    assert ("stack.torch-foreign" in found) is not is_met


def test_a_torch_for_no_gpu_of_the_machine() -> None:
    cpu = TorchBuild(path="/t", version="2.10.0+cpu", cuda="", hip="")
    assert findings(env(torch=cpu)) == {}
    found = findings(env(torch=cpu), with_gpus(make_facts(), 1))["stack.torch-foreign"]
    assert "built for the CPU alone" in found.title
    rocm = TorchBuild(path="/t", version="2.10.0+rocm6.4", cuda="", hip="6.4")
    assert "HIP 6.4" in findings(env(torch=rocm), with_gpus(make_facts(), 1))["stack.torch-foreign"].title


def test_a_torch_of_pip_in_front_of_the_distributions() -> None:
    def system(path: str, version: str) -> PythonEnvironment:
        package = PythonPackage(name="torch", version=version, path=f"{path}/torch-{version}.dist-info")
        return environment(path=path, is_virtual=False, packages=(package,), torch=None, requirements=())

    debian = system("/usr/lib/python3/dist-packages", "2.6.0")
    pip = system("/usr/local/lib/python3.13/dist-packages", "2.10.0")
    assert "stack.torch-foreign" in findings(InstalledStack(deep=True, environments=(debian, pip)))
    same = system("/usr/local/lib/python3.13/dist-packages", "2.6.0+cpu")
    assert findings(InstalledStack(deep=True, environments=(debian, same))) == {}
    assert findings(InstalledStack(deep=True, environments=(pip,))) == {}


def test_a_local_version_that_an_installer_has_normalised_is_the_same() -> None:
    def told(version: str) -> dict[str, Finding]:
        those = (PythonPackage(name="torch", version=version, path="/opt/vllm/lib/python3.13/site-packages/t.dist-info"),)
        torch = TorchBuild(path="/t", version="2.6.0a0+ecf3bae40a.nv25.01", cuda="12.8", hip="")
        return findings(env(packages=those, torch=torch, requirements=()))

    assert told("2.6.0a0+ecf3bae40a.nv25.1") == {} and told("2.6.0a0") == {}
    assert "stack.torch-foreign" in told("2.6.0a0+ecf3bae40a.nv25.2")


def test_what_pip_left() -> None:
    twice = (*environment().packages, PythonPackage(name="torch", version="2.9.1", path="/opt/vllm/lib/x"))
    assert findings(env(packages=twice))["stack.pip-unfinished"].severity is Severity.MEDIUM
    left = findings(env(leftovers=("/opt/vllm/lib/~orch-2.9.1.dist-info",)))
    assert left["stack.pip-unfinished"].severity is Severity.LOW


def test_an_environment_without_its_python() -> None:
    gone: Reading[str] = missing(Unknown.ABSENT, "/opt/vllm/bin/python", "/usr/bin/python3.11")
    assert "is not there" in findings(env(interpreter=gone))["stack.python-gone"].title
    links = tuple(f"/opt/vllm/bin/{name}" for name in ("python", "python3", "python3.13"))
    title = findings(env(interpreter=gone, dangling=links))["stack.python-gone"].title
    assert title.endswith("python3.11, which is not there, and 2 more of its links lead nowhere: nothing in it starts")
    moved = known("/usr/bin/python3.14", "/opt/vllm/bin/python")
    assert "installed for python3.13" in findings(env(interpreter=moved))["stack.python-gone"].title
    assert findings(env(interpreter=missing(Unknown.ABSENT, "/opt/vllm/bin/python"))) == {}
    assert findings(env(interpreter=missing(Unknown.DENIED, "/opt/vllm/bin/python", "x"))) == {}


@pytest.mark.parametrize(
    ("cuda", "driver", "fits"),
    [
        ("12.8", "535.261.03", True),
        ("13.0", "550.163.01", False),
        ("13.2", "580.65.06", True),
        ("12.8", "470.256.02", False),
    ],
)
def test_the_driver_that_cuda_needs(cuda: str, driver: str, fits: bool) -> None:
    torch = TorchBuild(path="/t", version="2.10.0", cuda=cuda, hip="")
    stack = replace(env(torch=torch), libraries=(library("libcuda", driver),))
    assert ("stack.driver-too-old" in findings(stack)) is not fits


def test_a_forward_compatible_library_makes_it_doubtful_and_no_driver_makes_it_nothing() -> None:
    torch = TorchBuild(path="/t", version="2.14.1+cu130", cuda="13.0", hip="")
    kit = CudaToolkit(
        path="/usr/local/cuda-13.0", version=known("13.0", "/v"), is_default=False, in_loader_path=False, compat="580.65.06"
    )
    stack = replace(env(torch=torch, requirements=()), toolkits=(kit,))
    stack = replace(stack, environments=(replace(stack.environments[0], packages=()),))
    assert findings(stack)["stack.driver-too-old"].confidence is Confidence.POSSIBLE
    assert findings(replace(stack, libraries=())) == {}


def test_the_default_toolkit_needs_a_driver_too() -> None:
    kit = CudaToolkit(
        path="/usr/local/cuda", version=known("13.0.1", "/v"), is_default=True, in_loader_path=False, compat=""
    )
    stack = InstalledStack(toolkits=(kit,), libraries=(library("libcuda", "550.163.01"),))
    assert findings(stack)["stack.driver-too-old"].severity is Severity.LOW


@pytest.mark.parametrize(
    ("machine", "intermediate", "runs"),
    [
        (("sm_80", "sm_90"), (), True),
        (("sm_80",), (), False),
        (("sm_80",), ("sm_80",), True),
        (("sm_100",), ("sm_100",), False),
        (("gfx90a",), (), True),  # of another vendor: nothing is said
        ((), (), True),
    ],
)
def test_the_code_that_an_h100_runs(machine: tuple[str, ...], intermediate: tuple[str, ...], runs: bool) -> None:
    code = DeviceCode(path="/opt/vllm/lib/x/site-packages/vllm/_C.so", architectures=machine, intermediate=intermediate)
    stack = env(code=(code,))
    facts = with_gpus(make_facts(), 1)
    assert facts.pci[-1].pci_id == "10de:2330" or any(device.pci_id == "10de:2330" for device in facts.pci)
    assert ("stack.engine-code" not in findings(stack, facts)) is runs
    assert "stack.engine-code" not in findings(stack)


def toolkit(version: str, **changes: Any) -> CudaToolkit:
    values: dict[str, Any] = {"is_default": False, "in_loader_path": False, "compat": ""}
    return CudaToolkit(path=f"/usr/local/cuda-{version}", version=known(version, "/v"), **(values | changes))


@pytest.mark.parametrize(
    ("toolkits", "severity"),
    [
        ((toolkit("12.4", is_default=True),), None),
        ((toolkit("12.4", is_default=True), toolkit("13.0")), Severity.LOW),
        ((toolkit("12.4", is_default=True, in_loader_path=True), toolkit("13.0", in_loader_path=True)), Severity.MEDIUM),
        ((toolkit("12.4", is_default=True), toolkit("13.0", in_loader_path=True)), Severity.MEDIUM),
    ],
)
def test_several_toolkits(toolkits: tuple[CudaToolkit, ...], severity: Severity | None) -> None:
    found = findings(InstalledStack(toolkits=toolkits)).get("stack.cuda-second")
    assert (found.severity if found is not None else None) is severity


def test_no_cdi_file_is_a_finding_only_where_the_directories_were_read() -> None:
    facts = make_facts(os=make_os(runtimes=("nvidia-container-toolkit",)))
    stack = InstalledStack(libraries=(library("libcuda", "550.163.01"),))
    assert findings(stack, facts) == {}
    assert "stack.cdi-missing" in findings(replace(stack, cdi=known((), CDI_DIRECTORY)), facts)
    assert findings(replace(stack, cdi=known((), CDI_DIRECTORY)), make_facts()) == {}
    inside = make_facts(os=make_os(runtimes=("nvidia-container-toolkit",), container=known("docker", "/.dockerenv")))
    assert findings(replace(stack, cdi=known((), CDI_DIRECTORY)), inside) == {}


def test_a_suppressed_finding_is_set_aside_and_other_suppressions_are_left_alone() -> None:
    stack = packages(package(KERNEL, want="hold"))
    own = Suppression(id="stack.kernel-held", reason="it is meant to be")
    other = Suppression(id="pci.acs-mixed", reason="of doctor")
    audit = judge(stack, None, own, other)
    assert audit.findings == () and [entry.finding.id for entry in audit.suppressed] == ["stack.kernel-held"]
    assert audit.notes == ()


def test_what_this_user_may_not_read_is_named() -> None:
    closed = judge(InstalledStack(packages=missing(Unknown.DENIED, DPKG_STATUS)))
    assert any("may not be read" in entry.why and entry.id == "stack.upgrade-unfinished" for entry in closed.not_judged)
    denied = judge(packages(denied=("/root", "/home")))
    assert any("/root and /home" in entry.why for entry in denied.not_judged)


def lock(component: str, version: str, *, layer: str = "", **properties: tuple[str, ...]) -> StackRecord:
    release = StackRelease(
        component=component,
        version=version,
        source="debian-13",
        properties=properties,
        checked=CheckedBy.INVENTED,
        date="2026-11-30",
        evidence=("x",),
    )
    choice = ChosenRelease(release=release, layer=layer, because="x")
    return StackRecord(date="2026-11-30", catalogue="x", wish=(), lock=StackLock(choices=(choice,), facts=()))


def lock_findings(
    record: StackRecord, stack: InstalledStack, release: str = NEXT, modules: tuple[str, ...] = ()
) -> list[Finding]:
    facts = make_facts(kernel=make_kernel(next_release=known(release, "/boot"), gpu_modules=((release, modules),)))
    found = audit_stack(replace(facts, stack=stack), ROWS, CATALOGUE, record, (), today="2026-11-30").findings
    return [finding for finding in found if finding.id.startswith("stack.lock")]


def drifts(record: StackRecord, stack: InstalledStack, release: str = NEXT, modules: tuple[str, ...] = ()) -> list[str]:
    return [finding.id for finding in lock_findings(record, stack, release, modules)]


@pytest.mark.parametrize(
    ("locked", "release", "package_version", "drifted"),
    [
        ("6.12.118", NEXT, "6.12.118-1", False),
        ("6.12.117", NEXT, "6.12.118-1", True),
        ("6.12.118", NEXT, None, False),
        ("6.12.119", NEXT, None, True),
        # A release says less than the version of its package: Debian 12 keeps the name over point releases.
        ("6.1.140", "6.1.0-37-amd64", "6.1.140-1", False),
        ("6.1.0", "6.1.0-37-amd64", "6.1.140-1", True),
        # Ubuntu's kernels are told by their releases.
        ("7.0.0-31", "7.0.0-31-generic", "7.0.0-31.31", False),
        ("7.0.0-31", "7.0.0-32-generic", "7.0.0-32.32", True),
        ("6.17.0-1032-nvidia", "6.17.0-1032-nvidia", "6.17.0-1032.33", False),
    ],
)
def test_the_kernel_of_a_lock(locked: str, release: str, package_version: str | None, drifted: bool) -> None:
    stack = packages(*([package(f"linux-image-{release}", package_version)] if package_version else []))
    assert (drifts(lock("kernel", locked), stack, release) == ["stack.lock-drift"]) is drifted


@pytest.mark.parametrize(
    ("locked", "release", "package_version", "severity", "words"),
    [
        ("6.12.117", NEXT, "6.12.118-1", Severity.HIGH, "another kernel release, 6.12.118"),
        # Ubuntu counts its releases behind the dash, where Debian counts revisions of a package.
        ("7.0.0-31", "7.0.0-32-generic", "7.0.0-32.32", Severity.HIGH, "another kernel release, 7.0.0-32-generic"),
        (
            *("6.17.0-1032-nvidia", "6.17.0-1032-aws", "6.17.0-1032.33", Severity.HIGH),
            "another kernel release, 6.17.0-1032-aws",
        ),
        ("6.1.0-37", "6.1.0-38-amd64", "6.1.140-1", Severity.HIGH, "another kernel release, 6.1.0-38-amd64"),
        ("6.12.118-1", NEXT, "6.12.118-1", None, ""),
        ("6.12.118-1", NEXT, "6.12.118-2", Severity.LOW, "another revision of its package, 6.12.118-2"),
        ("6.12.117-1", NEXT, "6.12.118-1", Severity.HIGH, "another kernel release, 6.12.118-1"),
        ("6.12.8-1", "6.12.8-amd64", "6.12.8-2", Severity.LOW, "another revision of its package, 6.12.8-2"),
    ],
)
def test_another_kernel_is_a_release_or_a_revision(
    locked: str, release: str, package_version: str, severity: Severity | None, words: str
) -> None:
    found = lock_findings(lock("kernel", locked), packages(package(f"linux-image-{release}", package_version)), release)
    assert [(finding.severity, finding.title) for finding in found] == (
        [] if severity is None else [(severity, f"the lock has kernel {locked}, but the next boot has {words}")]
    )


def test_each_package_of_an_environment_that_differs_from_the_lock_is_a_finding() -> None:
    """Two drifts have one place, the environment: the second is not evidence of the first."""
    stack = InstalledStack(deep=True, environments=(environment(),))
    choices = (*lock("vllm", "0.19.2", layer="a").lock.choices, *lock("torch", "2.11.0", layer="a").lock.choices)
    record = lock("vllm", "0.19.1")
    found = lock_findings(replace(record, lock=replace(record.lock, choices=choices)), stack)
    assert sorted(finding.title.partition(", but")[0] for finding in found) == [
        "layer a of the lock has torch 2.11.0",
        "layer a of the lock has vllm 0.19.2",
    ]


def test_the_flavour_of_a_lock() -> None:
    stack = packages(package("nvidia-open-kernel-dkms", "550.163.01-2"))
    record = lock("nvidia-driver", "550.163.01-2", flavour=("open",))
    assert drifts(record, stack, modules=("nvidia-open",)) == []
    assert drifts(record, stack, modules=("nvidia",)) == ["stack.lock-drift"]
    assert drifts(record, stack, modules=()) == []


def test_what_a_lock_has_and_the_host_lacks_or_does_not_say() -> None:
    record = lock("nvidia-firmware", "550.163.01-2")
    assert drifts(record, packages()) == ["stack.lock-missing"]
    assert drifts(record, InstalledStack()) == []
    layer = lock("vllm", "0.19.1", layer="vllm")
    assert drifts(layer, packages(deep=True)) == ["stack.lock-missing"]
    assert drifts(layer, packages()) == []
    assert drifts(layer, env()) == []
    assert drifts(lock("vllm", "0.18.1", layer="vllm"), env()) == ["stack.lock-drift"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/opt/vllm-new", "/opt/vllm-new"),
        ("/opt/a b; id", "'/opt/a b; id'"),
        ("it's", "'it'\"'\"'s'"),
        ("a\nb'\\", "$'a\\x0ab\\'\\\\'"),
        ("\x1b[31m", "$'\\x1b[31m'"),
        ("caf\udce9", "$'caf\\xe9'"),
        ("\ud800", "$'\\xed\\xa0\\x80'"),
    ],
)
def test_a_name_of_the_machine_is_one_word_of_a_command(text: str, word: str) -> None:
    assert shell_word(text) == word


EVIL = "a;$(canary)`canary`'\"&canary"


def test_no_name_of_the_machine_becomes_a_command_of_a_fix() -> None:
    """Directories, packages, kernels and files are called as anybody likes, and a fix is pasted into a root shell."""
    path, release = f"/opt/{EVIL}", f"6.12.118-{EVIL}"
    module = ModuleFile(
        path="/m.ko",
        release=release,
        name="nvidia",
        version=known(EVIL, "/m.ko"),
        vermagic=known("6.1", "/m.ko"),
        firmware=("a",),
        firmware_missing=("a",),
    )
    failed = DkmsBuild(module="nvidia", version="1", release=release, state=DkmsState.FAILED, source=path)
    stack = packages(
        package(EVIL, needs_reinstall=True),
        package(f"linux-image-{EVIL}", want="hold"),
        package(f"linux-headers-{EVIL}"),
        package("libcuda1", f"550.1{EVIL}"),
        package("nvidia-kernel-dkms", "560.1"),
        deep=True,
        environments=(environment(path=path, requirements=(PythonRequirement(package="vllm", bounds="==2.9"),)),),
        cdi=known((CdiSpecification(path=path, missing=("/x",), versions=("1",)),), CDI_DIRECTORY),
        pins=(AptPin(file=path, package=f"nvidia-{EVIL}", kind="origin", value="gone", priority=900),),
        sources=known((AptSourceEntry(file=path, uri="file:/gone", suite="x", enabled=True, directory=False),), APT_SOURCES),
        dkms=known((DkmsModule(name="nvidia", versions=("1",), builds=(failed,)),), DKMS_TREE),
        module_files=(module,),
        boot_files=(f"vmlinuz-{release}", "vmlinuz-6.1", "initrd.img-6.1"),
    )
    facts = make_facts(kernel=make_kernel(next_release=known(release, "/boot")))
    record = lock("vllm", "0.1", layer=EVIL)
    found = audit_stack(replace(facts, stack=stack), ROWS, CATALOGUE, record, (), today="2026-11-30").findings
    expected = (
        "torch-foreign",
        "cdi-stale",
        "source-gone",
        "boot-files",
        "module-vermagic",
        "firmware-missing",
        "lock-drift",
    )
    assert {f"stack.{name}" for name in (*expected, "upgrade-unfinished", "kernel-held", "dkms-driver", "driver-mixed")} <= {
        finding.id for finding in found
    }
    for finding in found:
        for line in (*finding.fix, *finding.undo):
            words = [] if line.startswith("#") else shlex.split(line)
            assert all(EVIL in word for word in words if "canary" in word), (finding.id, line)
            assert line.isprintable()


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
