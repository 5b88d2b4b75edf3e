"""How a virtual machine of this host runs: on which accelerator of QEMU, and how it gets its kernel."""

from __future__ import annotations

from enum import StrEnum

from bedplate.model.units import GIB

DEFAULT_PORT = 8080
"""Of 127.0.0.1 of this host, where a machine serves its API."""
DEFAULT_MEMORY_BYTES = 2 * GIB
DEFAULT_TIMEOUT_S = 900.0
"""How long a boot may take, in seconds."""
MOST_CPUS = 4
"""By default; beyond them a small model gains nothing."""


class AccelChoice(StrEnum):
    """What --accel asks for; AUTO takes KVM where a trial shows that it works."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class Accel(StrEnum):
    """What a machine runs with: the choice, decided.

    The values are QEMU's names of accelerators, and stand in machine.json.
    """

    KVM = "kvm"
    TCG = "tcg"


class BootMode(StrEnum):
    """How a machine gets its kernel: from QEMU itself, or by UEFI firmware from the disk, with Secure Boot or without."""

    DIRECT = "direct"
    UEFI = "uefi"
    SECURE = "secure"
