"""What a booted image knows of its own /var: the volume below it, the policy and certificate that it was built with."""

from __future__ import annotations

import json
from pathlib import Path

from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.host.system.booted import IMAGE_RECORD
from bedplate.model.var import OnVarFailure, RecoveryCertificate

RECOVERY = "/usr/lib/bedplate/recovery.json"
MAPPED = "varcrypt"
LABEL = "bedplate-var"
"""Of the partition, whatever the image's id: image/os/initrd/init and systemd-cryptsetup@varcrypt.service look for it."""


def read_policy(root: Root) -> OnVarFailure:
    """What the image was built to do without /var; serve where it does not say."""
    try:
        return OnVarFailure(json.loads(root.read_text(IMAGE_RECORD) or "{}").get("on_var_failure", OnVarFailure.SERVE))
    except (ValueError, AttributeError):
        return OnVarFailure.SERVE


def read_recovery_certificate(root: Root) -> RecoveryCertificate | None:
    """The certificate that the image was built with; None without one. Raises ReadError."""
    text = root.read_text(RECOVERY)
    if text is None:
        return None
    try:
        record = json.loads(text)
        return RecoveryCertificate(
            modulus=int(record["modulus"], 16), exponent=int(record["exponent"]), fingerprint=str(record["fingerprint"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{RECOVERY}: {error}") from error


def find_var_volume(root: Root) -> Path | None:
    """The encrypted partition below /dev/mapper/varcrypt; None while it is not open."""
    for name in root.listdir("/sys/class/block"):
        if name.startswith("dm-") and (root.read_text(f"/sys/class/block/{name}/dm/name") or "").strip() == MAPPED:
            for below in root.listdir(f"/sys/class/block/{name}/slaves"):
                return root.at(f"/dev/{below}")
    return None


def has_tpm(root: Root) -> bool:
    """Whether this kernel has a TPM 2.0 with a resource manager (/dev/tpmrm0); the device of a TPM 1.2 has none."""
    return bool(root.listdir("/sys/class/tpmrm"))


def has_var_partition(root: Root) -> bool:
    """Whether any disk has a partition of that name."""
    return any(
        f"PARTNAME={LABEL}" in (root.read_text(f"/sys/class/block/{name}/uevent") or "").splitlines()
        for name in root.listdir("/sys/class/block")
    )
