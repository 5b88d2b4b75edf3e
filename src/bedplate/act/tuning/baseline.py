"""The machine as it would be without what is applied: plans are made from it, so that planning twice gives the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bedplate.act.tuning.journal import read_record
from bedplate.act.tuning.kinds.kind import TextsBefore
from bedplate.act.tuning.kinds.registry import by_kind
from bedplate.act.tuning.place import Place
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing


@dataclass(frozen=True, slots=True)
class Unapplied(Root):
    """A root in which files that the applied plan changed have the text that was there before. What somebody else changed
    since stays."""

    texts: Mapping[str, str | None] = field(default_factory=dict)
    """Path -> text; None: the file was not there."""

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        if where not in self.texts:
            return Root.read_bytes(self, where, limit)
        text = self.texts[where]
        if text is None:
            return missing(Unknown.ABSENT, where)
        return known(f"{text}\n".encode()[:limit], where, "before")


def read_unapplied(place: Place) -> Root:
    """The root to plan from, as each kind of setting says it was before; the plain one when nothing is applied."""
    record = read_record(place)
    if record is None:
        return place.root
    texts: TextsBefore = {}
    for kind, changes in by_kind(record.plan.changes):
        texts |= kind.texts_before(changes, record.values, place.root)
    return Unapplied(place.top, texts=texts)
