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


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """What an import or a removal does to one row of a bundle."""

    what: str
    """ "added", "changed" or "removed"."""
    table: str
    """ "device", "release", "model" ..."""
    row: str
    """Its id; of a release its component, versions and sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleChange:
    """What an import or a removal did, or would do."""

    bundle: CatalogBundle
    """The one that was imported, or removed."""
    note: str
    """What its publisher says of it."""
    replaced: CatalogBundle | None
    """The one that was in force before an import; None where there was none."""
    rows: tuple[RowChange, ...]
    """Rows that were added, changed or removed; () where the same bundle was imported again."""
    problems: tuple[str, ...] = ()
    """What is wrong with the rows that a removal leaves, such as one that needed a row of the bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBundle:
    """A bundle that is in force."""

    bundle: CatalogBundle
    note: str
    rows: int
    """Tables of rows in it."""
    key: str
    """The public key that signed it."""
    doubt: str
    """Why it would not be imported now: a key that is not trusted any more, a file that was changed; "" for neither.

    Its rows count all the same, until it is removed.
    """
    text: str
    """The whole file."""
