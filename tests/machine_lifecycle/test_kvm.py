"""The trial of KVM against a fake QEMU that works, aborts or hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.errors import UsageError
from bedplate.image import kvm
from bedplate.image.kvm import choose_accel, try_kvm
from bedplate.model.machine import Accel, AccelChoice
from tests.machine_lifecycle.conftest import FakeHost


@pytest.fixture
def device(tmp_path: Path) -> Path:
    file = tmp_path / "kvm"
    file.write_text("")
    return file


def trials(host: FakeHost) -> int:
    return len(host.calls("qemu-system-x86_64"))


@pytest.mark.parametrize(
    ("outcome", "works", "because"),
    [("works", True, "a guest ran under KVM"), ("abort", False, "QEMU ended: error: failed to set MSR 0x10a")],
)
def test_only_the_magic_status_is_a_yes(host: FakeHost, device: Path, outcome: str, works: bool, because: str) -> None:
    (host.home / "kvm-trial").write_text(outcome)
    paths = Paths(cache=host.cache, state=host.state)
    qemu = str(host.home / "bin/qemu-system-x86_64")
    trial = try_kvm(paths, qemu=qemu, device=device)
    assert trial.works is works
    assert trial.because.startswith(because)
    assert try_kvm(paths, qemu=qemu, device=device) == trial
    assert trials(host) == 1  # the second answer was remembered


def test_a_guest_that_hangs_is_a_no_within_the_limit(host: FakeHost, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_LIMIT_S", 0.5)
    (host.home / "kvm-trial").write_text("hang")
    paths = Paths(cache=host.cache, state=host.state)
    trial = try_kvm(paths, qemu=str(host.home / "bin/qemu-system-x86_64"), device=device)
    assert not trial.works
    assert "did not end" in trial.because
    assert host.processes() == []


def test_another_boot_of_the_host_is_another_trial(host: FakeHost, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(cache=host.cache, state=host.state)
    qemu = str(host.home / "bin/qemu-system-x86_64")
    try_kvm(paths, qemu=qemu, device=device)
    monkeypatch.setattr(kvm, "_boot_id", lambda: "another")
    try_kvm(paths, qemu=qemu, device=device)
    (paths.cache / "kvm.json").write_text("{ broken")
    try_kvm(paths, qemu=qemu, device=device)
    assert trials(host) == 3


def test_without_a_device_nothing_is_tried(host: FakeHost, tmp_path: Path) -> None:
    paths = Paths(cache=host.cache, state=host.state)
    assert try_kvm(paths, qemu="/nope", device=tmp_path / "none").because == "no /dev/kvm"


def test_kvm_that_was_demanded_and_does_not_work_is_an_error(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(cache=host.cache, state=host.state)
    monkeypatch.setattr(kvm, "try_kvm", lambda *_, **__: kvm.KvmTrial(works=False, because="it hangs"))
    assert choose_accel(paths, qemu="q", choice=AccelChoice.AUTO) == (Accel.TCG, "it hangs")
    assert choose_accel(paths, qemu="q", choice=AccelChoice.TCG)[0] is Accel.TCG
    with pytest.raises(UsageError, match="--accel kvm: it hangs"):
        choose_accel(paths, qemu="q", choice=AccelChoice.KVM)
