"""Ed25519 signatures with openssl(1), as front end and images use it: make a key, sign, verify.

A private key is never an argument and never printed. Keys and data go through files in a directory of mode 0700, since
openssl signs with Ed25519 only what it can read whole. Sources: RFC 8032; RFC 8410 (the 12 bytes before a raw public key);
openssl-pkeyutl(1), -rawin.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bedplate.act.files import naming, write_whole
from bedplate.act.run import Argument, Completed, find_program, run
from bedplate.errors import CommandError, PreflightError, ReadError, UsageError

PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: SubjectPublicKeyInfo of Ed25519 up to the key itself
_LIMIT_S = 60.0
_NEEDED = "Install openssl 3 or newer."
_VERIFIED, _NOT_VERIFIED = "Signature Verified Successfully", "Signature Verification Failure"  # apps/pkeyutl.c of openssl 3


def make_signing_key(path: Path) -> bytes:
    """A new private key at `path`, PEM, mode 0600; returns its public key, 32 bytes.

    Raises UsageError where something is there already or the directory is not, PreflightError without openssl, OSError.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: is there already, and a key is never overwritten", hint="Choose another name.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: is no directory", hint="Make it first, or choose another name.")
    with tempfile.TemporaryDirectory(dir=path.parent) as work:  # not in /tmp, which may be another disk
        made = Path(work) / "key.pem"
        _openssl(["genpkey", "-algorithm", "ed25519", "-out", made], "the key could not be made")
        pem = made.read_bytes()
    write_whole(path, pem, sync=True, mode=0o600)
    return read_public_key(path)


def read_public_key(private: Path) -> bytes:
    """The 32 bytes of the public key of a private one. Raises ReadError where the file is no Ed25519 key in PEM."""
    if not private.exists():
        raise ReadError(f"{private}: is not there", hint="Make a key: bedplate catalog make-key FILE")
    with tempfile.TemporaryDirectory() as work:
        public = Path(work) / "public.der"
        what = f"{private}: is no private key without a passphrase"
        # -passin: a key with a passphrase must fail, not wait for a person
        _openssl(["pkey", "-in", private, "-passin", "pass:", "-pubout", "-outform", "DER", "-out", public], what)
        der = public.read_bytes()
    if len(der) != len(_PREFIX) + PUBLIC_BYTES or not der.startswith(_PREFIX):
        raise ReadError(f"{private}: is no Ed25519 key", hint="Make one: bedplate catalog make-key FILE")
    return der[len(_PREFIX) :]


def sign_bytes(data: bytes, private: Path) -> bytes:
    """The signature of the data, 64 bytes; the same for the same data and key. Raises ReadError for a wrong key."""
    read_public_key(private)
    with tempfile.TemporaryDirectory() as work:
        message, signature = Path(work) / "message", Path(work) / "signature"
        _write(message, data)
        files: list[Argument] = ["-inkey", private, "-in", message, "-out", signature]
        argv = ["pkeyutl", "-sign", "-rawin", "-passin", "pass:", *files]
        _openssl(argv, f"{private}: openssl does not sign with it")
        return signature.read_bytes()


def verify_bytes(data: bytes, signature: bytes, public: bytes, *, what: str) -> None:
    """Raise ReadError unless the key made this signature of exactly these bytes; `what` names them in the message.

    Raises PreflightError without openssl, CommandError where it fails for another reason: what it does not say is no yes.
    """
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        raise ReadError(f"{what}: got a key of {len(public)} bytes and a signature of {len(signature)}, expected 32 and 64")
    with tempfile.TemporaryDirectory() as work:
        message, signed, key = (Path(work) / name for name in ("message", "signature", "key"))
        for path, content in ((message, data), (signed, signature), (key, _PREFIX + public)):
            _write(path, content)
        files: list[Argument] = ["-inkey", key, "-in", message, "-sigfile", signed]
        done = _run(["pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", *files], ok=(0, 1))
    if done.status == 0 and _VERIFIED in done.output:
        return
    if _NOT_VERIFIED in done.output:
        raise ReadError(f"{what}: the signature is not of this content: it was changed after it was signed, or is damaged")
    raise CommandError(
        f"{what}: openssl does not say whether the signature is right", status=done.status, tail=done.errors, hint=_NEEDED
    )


def _write(path: Path, content: bytes) -> None:
    """Write a temporary file; an OSError names it, so that a full /tmp is not taken for another full disk."""
    with naming(path):
        path.write_bytes(content)


def _openssl(words: Sequence[Argument], problem: str) -> None:
    try:
        _run(words)
    except CommandError as error:
        if error.status is None:
            raise
        raise ReadError(problem) from error


def _run(words: Sequence[Argument], *, ok: Sequence[int] = (0,)) -> Completed:
    if find_program("openssl") is None:
        raise PreflightError("openssl is not installed, which makes and checks signatures", hint=_NEEDED)
    return run(["openssl", *words], timeout_s=_LIMIT_S, split=True, ok=ok)
