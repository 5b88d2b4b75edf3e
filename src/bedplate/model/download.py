"""What is to be fetched and from whom, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class DigestKind(StrEnum):
    """How a source says what the content of a file must be."""

    SHA256 = "sha256"
    GIT_BLOB = "git-blob"
    """SHA-1 of "blob SIZE NUL content", as Git names a file that is not in LFS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What the content of a file must be, in hex."""

    kind: DigestKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file to fetch."""

    url: str
    """Where to ask; its query may hold a signature, so that messages show `name` and the host alone."""
    name: str
    """For people."""
    size_bytes: int | None = None
    """What the source says; None where it says nothing."""
    digest: Digest | None = None
    expected_headers: tuple[tuple[str, str], ...] = ()
    """(header, value) that an answer or a redirect on the way must have, where it has this header at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How servers are spoken to, and the secret for one of them."""

    token: str = field(default="", repr=False)
    token_origin: str = ""
    """The only origin (scheme://host:port) that gets the token, whoever redirects where."""
    plain_http: bool = False
    """Whether http is taken from other hosts than this one. The token is never sent over it."""
    connections: int = 4
    """The most at once, for one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the downloader waits, and how often it tries. Injected, so that tests need no time."""

    silence_s: float = 30.0
    """The longest without a byte, of a connection."""
    attempts: int = 6
    """In a row, none of which brought anything."""
    first_wait_s: float = 1.0
    """After the first failure; it doubles with each."""
    longest_wait_s: float = 120.0
    """Also where a server's Retry-After asks for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A file that is whole, and whose digest is what its source says, where it says one."""

    path: str
    size_bytes: int
    sha256: str
    stated: bool
    """Whether the source had said a digest, which this content has."""
