"""What the guard does, a line each: for people, or as objects for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bedplate.model.guard import GuardStep, Released


def render_step(step: GuardStep, *, dry_run: bool) -> str:
    """A move with its reason, else the remark of a reading; no line end."""
    if step.move is None:
        return step.remark
    move = step.move
    return f"{'would set ' if dry_run else ''}neighbours' {move.resource}: {move.old} -> {move.new}: {move.because}"


def step_object(step: GuardStep, *, at: str, dry_run: bool) -> dict[str, Any]:
    """A step for JSON, with the fields of its move where it has one; `at` is its time as text."""
    moved = asdict(step.move) if step.move is not None else {}
    return {"at": at, "dry_run": dry_run, "remark": step.remark, **moved}


def render_released(released: Released) -> str:
    """A line for each file that was restored, or that there was none; "" where all that was set has drifted."""
    if not released.files and released.drifted:
        return ""
    return "".join(f"restored: {file}\n" for file in released.files) or "no limit was set\n"
