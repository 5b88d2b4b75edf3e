"""[recovery]: certificates to whose keys the recovery key of /var is encrypted; what they hold is read when one is used."""

from __future__ import annotations

import base64
import binascii
import re

from bedplate.config.kind import ConfigKind, check_length, shown
from bedplate.model.machine_config import MachineConfig

_ONE_BLOCK = re.compile(r"\s*-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----\s*")


def _check(config: MachineConfig) -> list[str]:
    problems = check_length("recovery.recipients", config.recovery.recipients)
    for index, text in enumerate(config.recovery.recipients):
        if not _is_certificate(text):
            problems.append(f"recovery.recipients[{index}]: got {shown(text)}, expected one whole certificate in PEM")
    return problems


def _is_certificate(text: str) -> bool:
    """Whether this is one PEM block whose bytes are one DER SEQUENCE of just their length (RFC 7468; X.690, 8.1.3)."""
    found = _ONE_BLOCK.fullmatch(text)
    if found is None:
        return False
    try:
        der = base64.b64decode(found[1].replace("\n", ""), validate=True)
    except binascii.Error:
        return False
    return len(der) > 256 and der[:2] == b"\x30\x82" and int.from_bytes(der[2:4]) == len(der) - 4


KIND = ConfigKind(
    table="recovery",
    check=_check,
    later="is kept for the installer; the recovery key of a machine that runs is managed by `bedplate var`",
)
