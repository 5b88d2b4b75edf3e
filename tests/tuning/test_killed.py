"""kill -9 at every call that changes a file or makes it last, and half way through each write: never between."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.tuning import apply_plan, read_applied, recover, undo
from tests.tuning.tree import FULL, THP, FakeServices, change, make_machine, make_plan, snapshot

_CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir", "link", "posix_fallocate")
_OTHER = make_plan(change("/proc/sys/vm/swappiness", "60", "1"), change("neighbour.slice:CPUWeight", "100", "idle"))


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Calls that do not count: those of systemd, which is another process."""
    wrapped = {name: getattr(os, name) for name in _CALLS}
    for name in _CALLS:
        setattr(os, name, _REAL[name])
    try:
        yield
    finally:
        for name, call in wrapped.items():
            setattr(os, name, call)


class _Quiet(FakeServices):
    """systemd is another process: the kill does not hit it."""

    def reload(self, units: Sequence[str] = ()) -> None:
        with unwrapped():
            super().reload(units)


_REAL: dict[str, Any] = {name: getattr(os, name) for name in _CALLS}


def _arm(at: int, *, torn: bool) -> None:
    """Kill this process at the at-th of the calls: before it, or, torn, half way through a write."""
    left = at

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                if torn and name == "write":
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return counted

    for name in _CALLS:
        setattr(os, name, wrap(name, _REAL[name]))


def killed(work: Callable[[], object], at: int, *, torn: bool) -> bool:
    """Whether the work, in a process of its own, was killed at that call; False: it came to its end before."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _arm(at, torn=torn)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return os.WIFSIGNALED(status)


def plain(top: Path) -> dict[str, str | None]:
    found = snapshot(top)
    found[THP[1:]] = (found[THP[1:]] or "").strip().replace("always [madvise] never", "madvise")
    return found


@pytest.mark.parametrize("torn", [False, True], ids=["between", "torn"])
@pytest.mark.parametrize("persist", [False, True], ids=["runtime", "persist"])
@pytest.mark.parametrize("what", ["apply", "other-policy", "undo"])
def test_every_instant_recovers(tree: Path, what: str, persist: bool, torn: bool) -> None:
    def machine(name: str) -> Path:
        top = make_machine(tree / name)
        if what != "apply":
            apply_plan(FULL, root_dir=top, persist=persist, services=FakeServices(top))
        return top

    def work(top: Path) -> object:
        if what == "undo":
            return undo(root_dir=top, persist=persist, services=_Quiet(top))
        return apply_plan(FULL if what == "apply" else _OTHER, root_dir=top, persist=persist, services=_Quiet(top))

    reference = machine("reference")
    before, plan_before = plain(reference), read_applied(root_dir=reference, persist=persist)
    work(reference)
    after, plan_after = plain(reference), read_applied(root_dir=reference, persist=persist)
    assert before != after

    at, ends = 0, set()
    while True:
        top = machine(f"at-{at}")
        if not killed(lambda top=top: work(top), at, torn=torn):  # type: ignore[misc]
            break
        found = recover(root_dir=top, persist=persist, services=FakeServices(top))
        assert found is None or found.drifted == (), f"call {at}: {found}"
        now = plain(top)
        assert now in (before, after), f"call {at}: {set(now.items()) ^ set(before.items())}"
        ends.add(now == after)
        assert read_applied(root_dir=top, persist=persist) == (plan_after if now == after else plan_before), f"call {at}"
        undo(root_dir=top, persist=persist, services=FakeServices(top))
        at += 1
    assert at > 40, "too few instants were tried"
    assert ends == {True, False}
    assert plain(machine("fresh")) == before


def test_a_recovery_that_is_killed_is_recovered(tree: Path) -> None:
    for at in range(0, 200, 7):
        for again in range(0, 60, 9):
            top = make_machine(tree / f"{at}-{again}")
            before = plain(top)
            if not killed(lambda top=top: apply_plan(FULL, root_dir=top, services=_Quiet(top)), at, torn=True):  # type: ignore[misc]
                return
            killed(lambda top=top: recover(root_dir=top, services=_Quiet(top)), again, torn=True)  # type: ignore[misc]
            recover(root_dir=top, services=FakeServices(top))
            undo(root_dir=top, services=FakeServices(top))
            assert plain(top) == before, f"killed at {at}, then at {again}"
