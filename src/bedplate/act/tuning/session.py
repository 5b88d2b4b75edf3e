"""The one door to tuning as a transaction: whoever holds the lock of a host recovers, applies, takes back and confirms here.

A host has two transactions, one until the next boot and one for all boots. A session sees both, unless it is given another
directory for the journal: then it is a transaction of its own over what is applied (an arm of prove).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.tuning import confirm, transaction
from bedplate.act.tuning import services as service_manager
from bedplate.act.tuning.execute import OnStep
from bedplate.act.tuning.journal import read_record
from bedplate.act.tuning.place import Place, hold_tune_lock, make_place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.transaction import Applied, Undone
from bedplate.errors import BedplateError
from bedplate.model.tuning import Plan, Recovered

OnRecovered = Callable[[Recovered], None]
"""Called for each interrupted change as soon as it is ended, also where another one then fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSession:
    """What the holder of the lock may do. Each function that meets both transactions tries the second also when the first
    fails, and then raises one error that says all."""

    root_dir: Path
    services: Services
    state: str | None = None
    """Directory of the journal, where it is another one than the usual."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Until the next boot first; one place only for a transaction of its own."""
        modes = (False, True) if self.state is None else (False,)
        return tuple(self._place(persist) for persist in modes)

    def is_applied(self, *, persist: bool) -> bool:
        """Whether a plan is in force, until the next boot or for all boots. Raises ReadError."""
        return read_record(self._place(persist)) is not None

    def waits(self) -> bool:
        """Whether what is applied is taken back unless it is confirmed, in either transaction. Raises ReadError."""
        records = [read_record(place) for place in self.places]
        return any(record is not None and bool(record.confirm) for record in records)

    def recover(
        self, *, persist: bool | None = None, abandon: bool = False, on_recovered: OnRecovered | None = None
    ) -> tuple[Recovered, ...]:
        """Bring interrupted changes to before or after; () when there are none. persist None: of both transactions."""
        found: list[Recovered] = []
        failed: list[BedplateError] = []
        for place in self._chosen(persist):
            try:
                recovered = transaction.recover(place, self.services, abandon=abandon)
            except BedplateError as error:
                failed.append(error)
                continue
            if recovered is not None:
                found.append(recovered)
                if on_recovered is not None:
                    on_recovered(recovered)
        _raise_all(failed)
        return tuple(found)

    def apply(
        self,
        plan: Plan,
        *,
        persist: bool = False,
        on_step: OnStep | None = None,
        confirm_within_s: int | None = None,
        probe: str | None = None,
    ) -> Applied:
        """Carry out a plan, in place of the one that is applied; `recover` was called.

        confirm_within_s: it is taken back after that time unless it is confirmed, or the address `probe` answers then.
        Raises PlanRefused before anything is changed, BedplateError when a step failed and all was taken back.
        """
        place = self._place(persist)
        if confirm_within_s is None or plan.refusals:
            return transaction.apply(plan, place, self.services, on_step=on_step)
        words = ["--probe", probe] if probe else []
        confirm.arm(place, confirm_within_s, [*words, "--root", str(self.root_dir)])
        try:
            return transaction.apply(plan, place, self.services, on_step=on_step, confirm=confirm.TIMER)
        except BaseException:
            confirm.disarm(self.root_dir)
            raise

    def undo(
        self,
        *,
        persist: bool | None = None,
        on_step: OnStep | None = None,
        why: str = "asked",
        abandon: bool = False,
    ) -> Undone:
        """Revert what is applied, where it still has the value that bedplate wrote; `recover` was called.

        persist None: both transactions.
        """
        undone: list[Undone] = []
        failed: list[BedplateError] = []
        for place in self._chosen(persist):
            try:
                undone.append(transaction.undo(place, self.services, on_step=on_step, why=why, abandon=abandon))
            except BedplateError as error:
                failed.append(error)
        _raise_all(failed)
        return Undone(
            restored=tuple(text for part in undone for text in part.restored),
            drifted=tuple(text for part in undone for text in part.drifted),
            abandoned=tuple(text for part in undone for text in part.abandoned),
            journal=", ".join(part.journal for part in undone if part.journal),
        )

    def confirm(self) -> bool:
        """Keep what is applied, and stop the timer; whether something waited for it."""
        waited = [confirm.confirm(place) for place in self.places]
        self.disarm()
        return any(waited)

    def disarm(self) -> None:
        """Stop the timer that takes a plan back, and remove its units; where there is none, nothing is done."""
        confirm.disarm(self.root_dir)

    def remove_everything(self) -> tuple[str, ...]:
        """After `undo`: the logs, and generated files that no journal knows of. Gives what was removed."""
        gone = tuple(path for place in self.places for path in transaction.remove_everything(place))
        if self.services.is_running() and any("/systemd/system/" in path for path in gone):
            self.services.reload()
        return gone

    def _place(self, persist: bool) -> Place:
        return make_place(self.root_dir, persist=persist, state=self.state)

    def _chosen(self, persist: bool | None) -> tuple[Place, ...]:
        return self.places if persist is None else (self._place(persist),)


@contextmanager
def hold_tuning(
    root_dir: Path = Path("/"), *, state: str | None = None, services: Services | None = None, wait_s: float = 0.0
) -> Iterator[TuningSession]:
    """Take the lock of a host. Raises BusyError when somebody else still has it after wait_s seconds."""
    manager = services or find_services(root_dir)
    with hold_tune_lock(root_dir, wait_s=wait_s):
        yield TuningSession(root_dir=root_dir, services=manager, state=state)


def find_services(root_dir: Path) -> Services:
    """The service manager of the host below root_dir. It is not asked yet: `is_running` says whether it can be."""
    return service_manager.Systemctl(root_dir)


def _raise_all(failed: Sequence[BedplateError]) -> None:
    """One error that says all; nothing where there is none."""
    if len(failed) == 1:
        raise failed[0]
    if failed:
        hints = dict.fromkeys(error.hint for error in failed if error.hint)
        raise BedplateError("\n".join(error.message for error in failed), hint="\n".join(hints) or None)
