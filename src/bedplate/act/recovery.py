"""A second key for /var: made once by systemd-cryptenroll, encrypted to the owner's certificate, kept in the LUKS2 header.

systemd-cryptenroll prints the key; it is read from a pipe and is never an argument, in a file, in a log or on a console. The
header takes the ciphertext through libcryptsetup, so that it travels with the disk and needs no file system. It is part of
the token that systemd wrote for the key: a second token for one key slot makes systemd call the slot a conflict and wipe it
no more, and so the ciphertext goes when its key goes.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
from pathlib import Path

from bedplate.act.oaep import encrypt_oaep
from bedplate.act.run import run
from bedplate.errors import BedplateError, CommandError, ReadError
from bedplate.host.system.luks import Token, read_luks_header
from bedplate.model.var import RECOVERY_FIELD, RECOVERY_TOKEN, RecoveryCertificate

ENCRYPTION = "RSA-OAEP-SHA256"
# 256 bits in modhex, as systemd prints them: eight groups of eight letters.
_KEY = re.compile(r"\b[cbdefghijklnrtuv]{8}(?:-[cbdefghijklnrtuv]{8}){7}\b")
_ENROL_S = 600.0


def ensure_recovery_key(device: Path, certificate: RecoveryCertificate) -> bool:
    """Give the LUKS2 volume a recovery key for this certificate; False when it has one. The volume may be in use.

    A key for another certificate is replaced. The TPM opens the volume for it. Raises BedplateError; the volume opens as
    before then, and the next call starts again.
    """
    before = _read_tokens(device)
    if any(_is_for(token, certificate) for token in before):
        return False
    try:
        done = run(
            ["systemd-cryptenroll", "--unlock-tpm2-device=auto", "--recovery-key", "--wipe-slot=recovery", device],
            timeout_s=_ENROL_S,
            split=True,
        )
    except CommandError as error:  # what it printed may hold the key: not a word of it goes on
        said = [line for line in error.tail.splitlines() if line.startswith(("Failed", "TPM")) and _KEY.search(line) is None]
        reason = said[-1] if said else "no reason"
        raise BedplateError(
            f"{device}: systemd-cryptenroll made no recovery key (status {error.status}): {reason}"
        ) from None
    found = _KEY.search(done.output)
    if found is None:
        raise BedplateError(f"{device}: systemd-cryptenroll printed no valid recovery key")
    now = [token for token in _read_tokens(device) if token.type == RECOVERY_TOKEN]
    if len(now) != 1 or now[0].keyslots in [token.keyslots for token in before if token.type == RECOVERY_TOKEN]:
        slots = ", ".join(slot for token in now for slot in token.keyslots) or "none"
        raise BedplateError(
            f"{device}: its header has recovery keys in the slots {slots}, expected only the new one",
            hint="Wipe the old keys: systemd-cryptenroll --wipe-slot=SLOT DEVICE; the next boot makes a new key.",
        )
    made = now[0]
    blob = encrypt_oaep(found[0].encode(), modulus=certificate.modulus, exponent=certificate.exponent, seed=os.urandom(32))
    encrypted = {
        "encryption": ENCRYPTION,
        "certificate": certificate.fingerprint,
        "key": base64.b64encode(blob).decode(),
    }
    _write_token(device, made.id, json.dumps(made.body | {RECOVERY_FIELD: encrypted}))
    if not any(_is_for(written, certificate) for written in _read_tokens(device)):
        raise BedplateError(f"{device}: its header does not hold the recovery key that was written")
    return True


def find_blob(tokens: tuple[Token, ...], *, name: str) -> tuple[bytes, str]:
    """(encrypted recovery key, fingerprint of the certificate it is for). Raises ReadError when there is none."""
    for token in tokens:
        if token.type == RECOVERY_TOKEN and RECOVERY_FIELD in token.body:
            try:
                encrypted = dict(token.body[RECOVERY_FIELD])  # type: ignore[call-overload]
                return base64.b64decode(encrypted["key"], validate=True), str(encrypted["certificate"])
            except (KeyError, ValueError, TypeError) as error:
                raise ReadError(f"{name}: its recovery key is damaged: {error}") from error
    raise ReadError(
        f"{name}: it has no recovery key",
        hint="Boot it once with an image that was built with keys/recovery.crt (docs/reference/keys.md).",
    )


def _is_for(token: Token, certificate: RecoveryCertificate) -> bool:
    encrypted = token.body.get(RECOVERY_FIELD)
    return (
        token.type == RECOVERY_TOKEN
        and isinstance(encrypted, dict)
        and encrypted.get("certificate") == certificate.fingerprint
    )


def _read_tokens(device: Path) -> tuple[Token, ...]:
    try:
        with device.open("rb") as volume:
            return read_luks_header(volume, name=os.fspath(device)).tokens
    except OSError as error:
        raise ReadError(f"{device}: {error.strerror}") from error


def _write_token(device: Path, number: int, token: str) -> None:
    """Replace the token of that number. Source: libcryptsetup.h, crypt_token_json_set()."""
    try:
        library = ctypes.CDLL("libcryptsetup.so.12")
    except OSError as error:
        raise BedplateError(f"{device}: cannot write a token: {error}") from error
    context = ctypes.c_void_p()

    def check(what: str, result: int) -> None:
        if result < 0:
            raise BedplateError(f"{device}: {what}: {os.strerror(-result)}")

    check("cannot be opened", library.crypt_init(ctypes.byref(context), os.fsencode(device)))
    try:
        check("is not a LUKS2 volume", library.crypt_load(context, b"LUKS2", None))
        check("cannot store a token", library.crypt_token_json_set(context, number, token.encode()))
    finally:
        library.crypt_free(context)
