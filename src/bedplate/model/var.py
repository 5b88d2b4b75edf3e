"""/var of a machine: what is done when it does not open, why it did not, and who can open it without this machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RECOVERY_TOKEN = "systemd-recovery"
"""Type of the LUKS2 token that systemd-cryptenroll makes for a recovery key."""
RECOVERY_FIELD = "bedplate-recovery"
"""What of that token holds the key, encrypted to the owner's certificate."""


class OnVarFailure(StrEnum):
    """What a machine does, after it has said why, when /var does not open."""

    SERVE = "serve"
    """Go on with all that needs no /var: engines, front, network."""
    REBOOT = "reboot"
    """The same, and start again after ten minutes."""
    WAIT = "wait"
    """Serve nothing and wait for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCertificate:
    """The public half of the owner's recovery key (RSA)."""

    modulus: int
    exponent: int
    fingerprint: str
    """SHA-256 of the certificate in DER, 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VarTrouble:
    """Why /var did not open, and what to do, made from the journal by plan/var_trouble.py."""

    why: str
    """A clause without a full stop: "this machine has no TPM"."""
    remedy: str
    """One sentence in the imperative."""
