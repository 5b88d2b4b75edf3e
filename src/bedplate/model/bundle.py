"""A bundle of rows for the catalog, as an import keeps it and a lock names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogBundle:
    """Which rows somebody published, and when: one bundle of a name is in force, the one with the highest sequence."""

    name: str
    sequence: int
    """Rises with each bundle of the name."""
    date: str
    """Day on which it was published, 2026-11-30."""
    sha256: str
    """Of the whole file, signature included."""

    @property
    def label(self) -> str:
        """ "acme 12 of 2026-11-30"."""
        return f"{self.name} {self.sequence} of {self.date}"
