"""Keys of the front end's clients, as their file holds them: a name, the digest of a secret, and bounds."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_KEYS = "/usr/lib/bedplate/client-keys.toml"
"""Keys that the build was given; part of the image, so that they hold from the first second of a boot."""
MACHINE_KEYS = "/var/lib/bedplate/client-keys.toml"
"""Keys that were added on the machine; known once /var is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """One client: who it is, how it proves that, and what it may use. None stands for the default of machine.toml."""

    id: str
    """2 to 32 of a-z, 0-9 and -; it is public, and stands in the access log."""
    sha256: str = ""
    """Hex digest of the whole key, "bp_ID_SECRET"; empty for a client that shows a certificate with this common name."""
    models: tuple[str, ...] = ()
    """Names of the models that it may use; empty: all."""
    requests_per_minute: int | None = None
    concurrency: int | None = None
    max_tokens: int | None = None
    created_s: int
    """When it was made, in seconds since 1970."""
    expires_s: int = 0
    """When it stops being valid, in seconds since 1970; 0: never."""
    previous_sha256: str = ""
    """After a rotation: digest of the key before, which holds until `previous_expires_s`."""
    previous_expires_s: int = 0
    note: str = ""
    """What the operator wrote about it; printable ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKeyFile:
    """client-keys.toml: keys, and the ids of keys of the image that no longer hold."""

    schema: int = 1
    revoked: tuple[str, ...] = ()
    key: tuple[ClientKey, ...] = ()


def merge_keys(image: ClientKeyFile, machine: ClientKeyFile) -> tuple[ClientKey, ...]:
    """The keys that hold: those of the image, less what the machine has revoked or has itself, then the machine's."""
    gone = {*machine.revoked, *(key.id for key in machine.key)}
    return (*(key for key in image.key if key.id not in gone), *machine.key)
