"""The audit of what is installed: by itself, by the rows of the catalogue, and by a lock. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bedplate.model.audit import Audit, FindingRow, Suppression
from bedplate.model.facts.host import HostFacts
from bedplate.model.stack import StackCatalogue, StackRecord
from bedplate.plan.audit import conclude
from bedplate.plan.rules.checks.stack_rules import make_stack_rules


def audit_stack(
    facts: HostFacts,
    rows: Iterable[FindingRow],
    catalogue: StackCatalogue,
    record: StackRecord | None,
    suppressions: Sequence[Suppression],
    *,
    today: str,
) -> Audit:
    """Findings about what is installed, ranked, and what could not be judged; `record` None leaves the lock out.

    Suppressions of other findings are left alone: they are those of the whole audit. `today` is a date, "2026-11-24".
    """
    rows = tuple(rows)
    ids = {row.id for row in rows if row.id.startswith(("stack.", "driver.")) or row.id == "system.unattended-driver"}
    own = [suppression for suppression in suppressions if suppression.id in ids]
    return conclude(facts, make_stack_rules(rows, catalogue, record), own, known=ids, today=today)
