"""The checks of dpkg's packages, of apt's sources, and of what may not be read: what each reports, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.stack_facts import findings, judge, package, packages

from bedplate.model.audit import Suppression
from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.reading import Unknown, known, missing
from bedplate.model.facts.stack import (
    APT_SOURCES,
    DPKG_STATUS,
    AptPin,
    AptRelease,
    AptSourceEntry,
    DpkgPackage,
    InstalledStack,
)


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
