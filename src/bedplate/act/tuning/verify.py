"""What is in force: each change with the effective value that its kind reads, and how that compares with what was wanted.

"Cannot know" is UNKNOWN and never counts as holding.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.act.tuning.kinds.registry import by_kind
from bedplate.act.tuning.services import Services
from bedplate.host.root.root import Root
from bedplate.model.tuning import Change, Verified


def verify_changes(
    changes: Sequence[Change], *, root: Root, services: Services, since_s: float | None = None
) -> tuple[Verified, ...]:
    """Each change with what is in force. since_s: CLOCK_MONOTONIC at which it was applied, for properties that show only in
    units that started after; None when it was in another boot."""
    found: dict[Change, Verified] = {}
    for kind, of_kind in by_kind(changes):
        verified = kind.verify(of_kind, root=root, services=services, since_s=since_s)
        found |= {result.change: result for result in verified}
    return tuple(found[change] for change in changes)
