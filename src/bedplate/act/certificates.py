"""Make the front end's certificates with openssl(1): a CA of the machine, certificates that it signs, and self-signed ones.

Keys are ECDSA P-256. A private key is never an argument and never printed; where its file lies is the caller's choice. Each
command reads a configuration written here, so that none of the system's decides what a certificate says.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.run import Argument, run
from bedplate.errors import CommandError
from bedplate.model.network_names import is_ip_address

CA_DAYS, LEAF_DAYS = 3650, 8
BACKDATED_S = 3600
"""A client whose clock is behind by less than this accepts a new certificate."""
_DAY_S = 86_400
_LIMIT_S = 120.0
_HINT = "Check the files named in machine.toml, or let the machine make its own certificate."
_BEGIN = "-----BEGIN CERTIFICATE-----"
_FINGERPRINT = re.compile(r"Fingerprint=([0-9A-F:]+)", re.IGNORECASE)
_CA_EXTENSIONS = (
    "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
)
_LEAF_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
    "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """Files of a CA, PEM: its private key and its certificate."""

    key: Path
    certificate: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A server certificate with its private key, as HAProxy reads them, and when it ends."""

    pem: str
    """Private key, then the certificate and its chain."""
    ends_s: int
    """Seconds since 1970."""


def make_authority(directory: Path, *, name: str, now_s: int, openssl: Sequence[str] = ("openssl",)) -> CertificateAuthority:
    """A new CA in `directory`, ca.key (0600) and ca.pem, valid for ten years. Raises CommandError, OSError.

    Both are on the disk when this returns; the caller puts the directory into its place once both are whole.
    """
    authority = CertificateAuthority(key=directory / "ca.key", certificate=directory / "ca.pem")
    with tempfile.TemporaryDirectory(dir=directory) as work:
        argv = _request(Path(work), name, _CA_EXTENSIONS, now_s, CA_DAYS, openssl)
        run([*argv, "-keyout", authority.key, "-out", authority.certificate], timeout_s=_LIMIT_S)
    for path, mode in ((authority.key, 0o600), (authority.certificate, 0o644)):
        write_whole(path, path.read_bytes(), sync=True, mode=mode)  # openssl leaves to the kernel when it is on the disk
    return authority


def issue_certificate(
    names: Sequence[str],
    *,
    authority: CertificateAuthority | None,
    work: Path,
    now_s: int,
    days: int = LEAF_DAYS,
    openssl: Sequence[str] = ("openssl",),
) -> IssuedCertificate:
    """A certificate for these DNS names and addresses, the first of which is its subject; self-signed without an authority.

    work: a directory in memory, where the private key lies until this returns. Raises CommandError.
    """
    alternatives = ",".join(f"{'IP' if is_ip_address(name) else 'DNS'}:{name}" for name in names)
    extensions = f"{_LEAF_EXTENSIONS}subjectAltName={alternatives}\n"
    with tempfile.TemporaryDirectory(dir=work) as path:  # mode 0700
        private = Path(path)
        argv = _request(private, names[0], extensions, now_s, days, openssl)
        if authority is not None:
            argv += ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
        key, certificate = private / "key.pem", private / "certificate.pem"
        run([*argv, "-keyout", str(key), "-out", str(certificate)], timeout_s=_LIMIT_S)
        pem = key.read_text() + certificate.read_text()
        if authority is not None:  # so that whoever connects can fetch it: `bedplate ca fetch`
            pem += authority.certificate.read_text()
    return IssuedCertificate(pem=pem, ends_s=now_s + days * _DAY_S)


def read_supplied(certificate: Path, key: Path, *, now_s: int, openssl: Sequence[str] = ("openssl",)) -> IssuedCertificate:
    """A certificate and a key that the operator supplies, checked: both can be read, belong together, and are valid now.

    Raises CommandError that names the file, or OSError.
    """
    chain, private = certificate.read_text(errors="replace"), key.read_text(errors="replace")
    if _BEGIN not in chain:
        raise CommandError(f"{certificate}: expected a certificate in PEM", status=None, hint=_HINT)
    public = _output([*openssl, "x509", "-in", str(certificate), "-noout", "-pubkey"], f"{certificate}: is no certificate")
    # -passin: a key with a passphrase must fail, not wait for a person.
    argv = [*openssl, "pkey", "-in", str(key), "-passin", "pass:", "-pubout"]
    if public.strip() != _output(argv, f"{key}: is no private key without a passphrase").strip():
        raise CommandError(f"{key}: is not the private key of {certificate}", status=None, hint=_HINT)
    ends_s = _read_end(certificate, openssl)
    if ends_s <= now_s:
        ended = datetime.fromtimestamp(ends_s, UTC)
        raise CommandError(f"{certificate}: ended on {ended:%Y-%m-%d %H:%M} UTC", status=None, hint="Renew it.")
    return IssuedCertificate(pem=f"{private.rstrip()}\n{chain.rstrip()}\n", ends_s=ends_s)


def read_fingerprint(certificate: Path, *, openssl: Sequence[str] = ("openssl",)) -> str:
    """SHA-256 of a certificate, as openssl and browsers show it: "AB:CD:...". Raises CommandError."""
    argv = [*openssl, "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256"]
    found = _FINGERPRINT.search(_output(argv, f"{certificate}: is no certificate"))
    if found is None:
        raise CommandError(f"{certificate}: openssl shows no fingerprint", status=None)
    return found[1].upper()


def _request(work: Path, subject: str, extensions: str, now_s: int, days: int, openssl: Sequence[str]) -> list[str]:
    configuration = work / "openssl.cnf"
    configuration.write_text(
        f"[req]\ndistinguished_name=subject\nprompt=no\nx509_extensions=ext\n[subject]\nCN={subject[:64]}\n[ext]\n{extensions}"
    )
    argv = [*openssl, "req", "-x509", "-new", "-config", str(configuration), "-newkey", "ec"]
    argv += ["-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"]
    return [*argv, "-not_before", _time(now_s - BACKDATED_S), "-not_after", _time(now_s + days * _DAY_S)]


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%SZ")


def _read_end(certificate: Path, openssl: Sequence[str]) -> int:
    argv = [*openssl, "x509", "-in", str(certificate), "-noout", "-enddate", "-dateopt", "iso_8601"]
    text = _output(argv, f"{certificate}: is no certificate").strip().removeprefix("notAfter=")
    return int(datetime.fromisoformat(text.replace(" ", "T", 1)).timestamp())


def _output(argv: Sequence[Argument], problem: str) -> str:
    try:
        return run(argv, timeout_s=_LIMIT_S, split=True).output
    except CommandError as error:
        raise CommandError(problem, status=error.status, tail=error.tail, hint=_HINT) from error
