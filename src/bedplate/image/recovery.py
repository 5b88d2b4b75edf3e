"""The owner's recovery certificate, which every machine of an image encrypts the recovery key of its /var to.

It is given, never made: its private key must not lie where images are built. openssl reads it, so that the image needs only
two numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import CommandError, UsageError
from bedplate.image.tools import tools_command

_FEWEST_BITS = 2048


def find_recovery_certificate(paths: Paths) -> Path | None:
    """keys/recovery.crt of the state directory; None when the owner gave none."""
    file = paths.keys / "recovery.crt"
    return file if file.is_file() else None


def render_recovery(paths: Paths, file: Path) -> str:
    """The file that goes into the image: modulus, exponent, fingerprint as JSON. Raises UsageError where it is not RSA."""
    hint = "Make one: openssl req -x509 -newkey rsa:3072 -keyout recovery.key -out recovery.crt (docs/reference/keys.md)."
    try:
        argv = ["openssl", "x509", "-in", str(file), "-noout", "-text", "-modulus", "-nameopt", "utf8"]
        text = run(tools_command(paths, argv), timeout_s=60, split=True).output
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(_first_certificate(file.read_text()))).hexdigest()
    except (CommandError, ValueError) as error:
        raise UsageError(f"{file}: openssl cannot read it as a PEM certificate", hint=hint) from error
    modulus = re.search(r"^Modulus=([0-9A-F]+)$", text, re.MULTILINE)
    exponent = re.search(r"^[ \t]*Exponent: (\d+) ", text, re.MULTILINE)
    if modulus is None or exponent is None:
        raise UsageError(f"{file}: expected a certificate with an RSA key", hint=hint)
    bits = int(modulus[1], 16).bit_length()
    if bits < _FEWEST_BITS:
        raise UsageError(f"{file}: got an RSA key of {bits} bits, expected at least {_FEWEST_BITS}", hint=hint)
    record = {"modulus": modulus[1].lower(), "exponent": int(exponent[1]), "fingerprint": fingerprint}
    return json.dumps(record, indent=1) + "\n"


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----"
    body, found, _ = text.partition(begin)[2].partition(end)
    if not found:
        raise ValueError("no certificate")
    return f"{begin}{body}{end}\n"
