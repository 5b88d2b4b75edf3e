"""The dead man's switch: a timer of systemd that takes a change back unless somebody confirms it.

It is armed before the change is made, so that a machine that hangs meanwhile comes back too. It does not depend on the
process that made the change: nothing is reverted because a process stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.durable import make_directories, no_space, remove_whole, unfinished, write_whole
from bedplate.act.revert_timer import render_service, render_timer
from bedplate.errors import BedplateError

_HOST = Path("/")  # the service manager that can be asked is this machine's
_DIRECTORIES = ("/run/systemd/system", "/etc/systemd/system")  # until the next boot, for all boots


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmTimer:
    """A timer and the service that it starts, below any root; below another than "/" no service manager is asked."""

    name: str
    """Of both units, without their ending."""
    head: str
    """Whole lines of comment above both units."""
    description: str

    def arm(self, top: Path, within_s: int, argv: Sequence[str], *, lasts: bool) -> None:
        """Let a command run after the time; lasts: also after a boot, from which it counts anew.

        Raises BedplateError; then nothing is left of it.
        """
        self.disarm(top)
        timer, service = self._units(top, _DIRECTORIES[lasts])
        try:
            try:
                make_directories(timer.parent, top)
                write_whole(service, render_service(argv, head=self.head, description=self.description))
                write_whole(timer, render_timer(within_s, head=self.head, description=self.description))
            except OSError as error:
                raise no_space(timer, error) from error
            if top == _HOST:
                systemd.reload_units()
                if lasts:
                    systemd.enable(timer.name)
                else:
                    systemd.start((timer.name,))
        except BaseException:
            self.disarm(top)
            raise

    def is_armed(self, top: Path) -> bool:
        """Whether the timer is there; one that does not last is gone after a boot."""
        return any(self._units(top, directory)[0].exists() for directory in _DIRECTORIES)

    def disarm(self, top: Path) -> None:
        """Stop the timer and take its units away, if there are any. One that has fired finds that nothing waits."""
        paths = [path for directory in _DIRECTORIES for path in self._units(top, directory)]
        there = [path for path in paths if path.exists() or unfinished(path).exists()]
        if not there:
            return
        if top == _HOST:
            with contextlib.suppress(BedplateError):
                systemd.disable(f"{self.name}.timer")
        for path in there:
            remove_whole(path)
        if top == _HOST:
            with contextlib.suppress(BedplateError):
                systemd.reload_units()

    def _units(self, top: Path, directory: str) -> tuple[Path, Path]:
        where = top / directory.lstrip("/")
        return where / f"{self.name}.timer", where / f"{self.name}.service"
