"""What a trial of KVM concludes from how its small guest ended."""

from __future__ import annotations

import pytest

from bedplate.act.run import Completed
from bedplate.errors import CommandError, CommandTimeout
from bedplate.image import kvm


def end_with(end: Completed | CommandError, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> Completed:
        if isinstance(end, CommandError):
            raise end
        return end

    monkeypatch.setattr(kvm, "run", run)


def test_a_guest_that_does_not_end_says_that_kvm_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    end_with(CommandTimeout("qemu: whatever the sentence is", status=None), monkeypatch)
    trial = kvm._try_once("qemu")
    assert not trial.works and "did not end in" in trial.because


def test_a_program_that_cannot_start_says_nothing_of_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    end_with(CommandError("qemu: cannot start: time limit of the loader", status=None), monkeypatch)
    with pytest.raises(CommandError, match="cannot start"):
        kvm._try_once("qemu")


@pytest.mark.parametrize(("status", "works"), [(kvm._MAGIC_STATUS, True), (1, False)])
def test_only_the_magic_status_is_a_guest_that_ran(status: int, works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    output = "qemu: error: no /dev/kvm\n"
    end_with(Completed(argv=("qemu",), status=status, output=output, errors="", elapsed_s=0.3, cpu_s=0.1), monkeypatch)
    assert kvm._try_once("qemu").works is works
