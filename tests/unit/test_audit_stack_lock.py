"""The installed stack against a lock, and names of the machine in the commands of fixes."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from tests.unit.facts_factory import make_facts, make_kernel
from tests.unit.stack_facts import CATALOGUE, NEXT, ROWS, env, environment, package, packages

from bedplate.model.facts.finding import Finding, Severity
from bedplate.model.facts.reading import known
from bedplate.model.facts.stack import (
    APT_SOURCES,
    CDI_DIRECTORY,
    DKMS_TREE,
    AptPin,
    AptSourceEntry,
    CdiSpecification,
    DkmsBuild,
    DkmsModule,
    DkmsState,
    InstalledStack,
    ModuleFile,
    PythonRequirement,
)
from bedplate.model.stack import CheckedBy, ChosenRelease, StackLock, StackRecord, StackRelease
from bedplate.plan.audit_stack import audit_stack
from bedplate.plan.rules.observation import shell_word


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
        ("6.12.117", NEXT, "6.12.118-1", Severity.MEDIUM, "another kernel release, 6.12.118"),
        # Ubuntu counts its releases behind the dash, where Debian counts revisions of a package.
        ("7.0.0-31", "7.0.0-32-generic", "7.0.0-32.32", Severity.MEDIUM, "another kernel release, 7.0.0-32-generic"),
        (
            *("6.17.0-1032-nvidia", "6.17.0-1032-aws", "6.17.0-1032.33", Severity.MEDIUM),
            "another kernel release, 6.17.0-1032-aws",
        ),
        ("6.1.0-37", "6.1.0-38-amd64", "6.1.140-1", Severity.MEDIUM, "another kernel release, 6.1.0-38-amd64"),
        ("6.12.118-1", NEXT, "6.12.118-1", None, ""),
        ("6.12.118-1", NEXT, "6.12.118-2", Severity.LOW, "another revision of its package, 6.12.118-2"),
        ("6.12.117-1", NEXT, "6.12.118-1", Severity.MEDIUM, "another kernel release, 6.12.118-1"),
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
