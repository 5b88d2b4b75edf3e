"""How phases look: a live line with elapsed time on a terminal, plain lines with times anywhere else.

The caller gives the stream or the console, and what writes a log. rich draws the live line and is imported only then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self

from bedplate.interrupts import hold_signals
from bedplate.model.units import render_seconds
from bedplate.report.escape import escape_line, escape_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_DETAIL_EVERY_S = 10.0  # a pipe gets a detail line at most this often


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTime:
    """A phase that ended. depth: how many phases were open around it; failed: an exception left it, Ctrl-C included."""

    name: str
    seconds: float
    depth: int
    failed: bool


class PhaseClock:
    """What both forms share: the open phases, the times of those that ended, and the log."""

    def __init__(self, *, log: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.times: list[PhaseTime] = []
        self.failed_phase: str | None = None
        """The innermost phase that an exception left; None while none did."""
        self._clock = clock
        self._started = clock()
        self._open: list[tuple[str, float]] = []
        self._log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Enter a phase; leaving it by an exception marks it failed, and adds it to `times` in any case.

        Phases may lie in phases.
        """
        started = self._clock()
        self._open.append((name, started))
        self._write_log(f"== {name}")
        self._begin(name)
        failed = True
        try:
            yield
            failed = False
        finally:
            with hold_signals():  # a Ctrl-C in here would leave it untold whether the phase was done
                self._open.pop()
                ended = PhaseTime(name=name, seconds=self._clock() - started, depth=len(self._open), failed=failed)
                if failed and self.failed_phase is None:
                    self.failed_phase = name
                self.times.append(ended)
                self._write_log(f"== {name}: {'failed' if failed else 'done'} after {render_seconds(ended.seconds)}")
                self._end(ended)

    def sum_outer(self) -> dict[str, float]:
        """Seconds spent in each outermost phase that ended, by its name, in the order in which they were entered first.

        A phase may be entered twice: image and engine are built with the same tools.
        """
        spent_s: dict[str, float] = {}
        for phase in self.times:
            if phase.depth == 0:
                spent_s[phase.name] = spent_s.get(phase.name, 0.0) + phase.seconds
        return spent_s

    def detail(self, text: str) -> None:
        """Replace the line that says what the current phase does."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """Say something that stays."""
        raise NotImplementedError

    def close(self) -> None:
        """Take the live line off the screen; called more than once without harm."""

    def _begin(self, name: str) -> None:
        raise NotImplementedError

    def _end(self, ended: PhaseTime) -> None:
        raise NotImplementedError

    def _write_log(self, text: str) -> None:
        if self._log is not None:
            self._log(text)


class PlainProgress(PhaseClock):
    """Lines with the seconds since the start: for pipes, logs and continuous integration."""

    def __init__(
        self, stream: IO[str], *, log: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(log=log, clock=clock)
        self._stream = stream
        self._said_at = float("-inf")

    def detail(self, text: str) -> None:
        if self._clock() - self._said_at >= _DETAIL_EVERY_S:
            self._say(f"{'  ' * len(self._open)}{text}")

    def note(self, text: str) -> None:
        self._write_log(text)
        self._say(f"{'  ' * len(self._open)}{text}")

    def _begin(self, name: str) -> None:
        self._say(f"{'  ' * (len(self._open) - 1)}{name} ...")

    def _end(self, ended: PhaseTime) -> None:
        word = "FAILED" if ended.failed else "done"
        self._say(f"{'  ' * ended.depth}{ended.name}: {word} ({render_seconds(ended.seconds)})")

    def _say(self, text: str) -> None:
        self._said_at = self._clock()
        for line in escape_lines(text) or [""]:
            self._stream.write(f"[{self._said_at - self._started:7.1f}] {line}\n")
        self._stream.flush()


class LiveProgress(PhaseClock):
    """Ended phases stay as ticked lines; below them one live line: spinner, phase, elapsed time, what it does now."""

    def __init__(self, console: Console, *, log: Callable[[str], None] | None = None) -> None:
        super().__init__(log=log)
        self._console = console
        self._live: Live | None = None
        self._detail = ""
        self._headed = 0  # open phases that already stand as headings
        self._utf8 = console.encoding.lower().replace("-", "") == "utf8"
        self._spinner: RenderableType | None = None

    def detail(self, text: str) -> None:
        self._detail = escape_line(" ".join(text.split()))

    def note(self, text: str) -> None:
        self._write_log(text)
        shown = "\n".join(escape_lines(text))
        self._console.print(f"{'  ' * len(self._open)}{shown}", markup=False, highlight=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _begin(self, name: str) -> None:
        from rich.live import Live

        self._detail = ""
        if len(self._open) > 1:  # an inner phase: its parent becomes a heading that stays
            depth = len(self._open) - 1
            if self._headed < depth:
                self._headed = depth
                self._console.print(f"{'  ' * (depth - 1)}- {self._open[-2][0]}", markup=False, style="dim")
        if self._live is None:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()

    def _end(self, ended: PhaseTime) -> None:
        from rich.text import Text

        self._detail = ""
        self._headed = min(self._headed, ended.depth)
        tick, style = ("✗", "bold red") if ended.failed else ("✓", "green")
        if not self._utf8:
            tick = "x" if ended.failed else "+"
        line = Text("  " * ended.depth)
        line.append(tick, style=style)
        line.append(f" {ended.name} ")
        line.append(f"{'failed after ' if ended.failed else ''}{render_seconds(ended.seconds)}", style="dim")
        self._console.print(line)
        if not self._open:
            self.close()

    def _render(self) -> RenderableType:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        if not self._open:
            return Text("")
        name, started = self._open[-1]
        text = Text("", no_wrap=True, overflow="ellipsis")
        text.append(f"{name} ")
        text.append(render_seconds(self._clock() - started), style="cyan")
        if self._detail:
            text.append(f"  {self._detail}", style="dim")
        row = Table.grid(padding=(0, 1))
        if self._spinner is None:  # one object, so that it keeps turning
            self._spinner = Spinner("dots" if self._utf8 else "line")
        row.add_row("  " * (len(self._open) - 1), self._spinner, text)
        return row
