"""What a person names to be pulled, and what a repository of a hub has."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.download import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """hf:ORG/NAME[@REVISION]"""

    repository: str
    """"ORG/NAME"; old models have no ORG."""
    revision: str = ""
    """A branch, a tag or a commit; "" for the main branch, of which the commit is taken that it has now."""

    def __str__(self) -> str:
        return f"hf:{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressSource:
    """One file at an https address."""

    url: str
    """With its query, which may hold a signature: not to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSource:
    """A file or directory of this host or of a disk that is mounted."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryFile:
    """One file of a repository, by the hub's words; its path was checked: no part of it leads anywhere else."""

    path: str
    """With "/" between directories."""
    size_bytes: int
    digest: Digest | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What a hub lists at one commit."""

    source: HubSource
    endpoint: str
    commit: str
    """40 hex digits."""
    files: tuple[RepositoryFile, ...]
    left_out: tuple[str, ...]
    """Paths that are no plain names, made printable."""
