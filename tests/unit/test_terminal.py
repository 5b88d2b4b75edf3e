from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bedplate.flows.logs import append_log
from bedplate.report.progress import LiveProgress, PlainProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_carry_the_time_since_the_start() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PlainProgress(out, clock=clock)
    with progress.phase("image"):
        clock.now += 1.0
        progress.detail("said too soon after the line before")
        clock.now += 11.0
        with progress.phase("packages"):
            clock.now += 20.0
            progress.detail("unpacking")
        progress.note("kept")
    assert out.getvalue() == (
        "[    0.0] image ...\n"
        "[   12.0]   packages ...\n"
        "[   32.0]     unpacking\n"
        "[   32.0]   packages: done (20 s)\n"
        "[   32.0]   kept\n"
        "[   32.0] image: done (32 s)\n"
    )
    assert [(phase.name, phase.depth, phase.failed) for phase in progress.times] == [
        ("packages", 1, False),
        ("image", 0, False),
    ]


def test_the_innermost_failed_phase_is_remembered(tmp_path: Path) -> None:
    log = tmp_path / "logs/up.log"
    progress = PlainProgress(io.StringIO(), log=partial(append_log, log))
    with pytest.raises(KeyboardInterrupt), progress.phase("outer"), progress.phase("inner"):
        raise KeyboardInterrupt
    assert progress.failed_phase == "inner"
    assert [phase.failed for phase in progress.times] == [True, True]
    assert "== inner: failed after" in log.read_text()


@pytest.mark.parametrize("width", [20, 80])
def test_live_lines_tick_and_never_wrap(width: int) -> None:
    out = io.StringIO()
    progress = LiveProgress(Console(file=out, force_terminal=True, width=width, color_system=None))
    with progress, progress.phase("boot"):
        progress.detail("a line that is much longer than the terminal is wide " * 3)
    text = out.getvalue()
    assert "boot" in text
    assert "x boot" in text or "✗ boot" not in text
    assert max(len(line) for line in text.replace("\r", "\n").splitlines() if "\x1b" not in line) <= width


def test_a_live_failure_is_crossed_and_a_parent_becomes_a_heading() -> None:
    out = io.StringIO()
    progress = LiveProgress(Console(file=out, force_terminal=True, width=80, color_system=None))
    with pytest.raises(ValueError, match="no"), progress, progress.phase("image"), progress.phase("packages"):
        raise ValueError("no")
    text = out.getvalue()
    assert "- image" in text
    assert "packages failed after" in text
    assert progress.failed_phase == "packages"
