"""A system that was booted from a bedplate image, as it sees itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """A booted image in one look: what it is, how it was verified, its /var.

    Source: /usr/lib/bedplate/image.json, /proc and /sys. A field that image.json lacks is "unknown".
    """

    version: str
    """Of the image."""
    variant: str
    kernel: str
    slot: str | None
    """Label of the partition that holds the running root; None when the root is not a partition."""
    verity: bool
    """The root is read through dm-verity."""
    secure_boot: bool | None
    """None when the firmware is not UEFI, or does not say."""
    var: str
    """What /var is: "encrypted, sealed to the TPM, with a recovery key", "encrypted", "plain", "volatile"."""
    memory_bytes: int
    memory_available_bytes: int
    uptime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One row of `systemctl list-units`; `sub` is the state in the unit's own terms ("running", "exited")."""

    name: str
    active: str
    """systemd's ActiveState: active, activating, failed, inactive."""
    sub: str
