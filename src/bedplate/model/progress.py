"""How long work says what it is doing, without knowing who listens."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Phases in order, each with what it does right now. The terminal, a log or a test implements it."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Enter a phase ("boot the machine"); leaving it by an exception marks it failed with that name."""

    def detail(self, text: str) -> None:
        """Say what the current phase is doing now: one short line that replaces the one before."""

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
