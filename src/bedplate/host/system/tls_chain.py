"""The certificates that a TLS server presents, before anybody trusts it."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bedplate.errors import NotRunningError, ReadError

_LIMIT_S = 20.0
_LONGEST_CHAIN = 10
_DER = 2
"""_ssl.ENCODING_DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedCertificate:
    """One certificate of a chain, as the server sent it: nothing about it was verified."""

    der: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256, as openssl and browsers write it: "AB:CD:..."."""
        return hashlib.sha256(self.der).digest().hex(":").upper()

    @property
    def pem(self) -> str:
        """The certificate in PEM, with its last line ended."""
        return ssl.DER_cert_to_PEM_cert(self.der)


def read_presented_chain(host: str, port: int) -> tuple[PresentedCertificate, ...]:
    """The chain of the server at host and port, its own certificate first. Nothing is sent over the connection.

    Raises NotRunningError where nobody answers, ReadError where the answer is no TLS or has no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with _connected(host, port) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as connection:
                chain = _read_chain(connection)
        except (ssl.SSLError, OSError) as error:
            raise ReadError(
                f"{host}:{port}: does not speak TLS: {error}", hint="Name the port on which the front end listens with TLS."
            ) from error
    if not chain or len(chain) > _LONGEST_CHAIN:
        raise ReadError(f"{host}:{port}: presented {len(chain)} certificates, expected 1 to {_LONGEST_CHAIN}")
    return tuple(PresentedCertificate(der=der) for der in chain)


def check_signed_by(host: str, port: int, authority: PresentedCertificate) -> str | None:
    """Connect again and trust this CA alone: why the server is not verified under the name `host`, or None where it is.

    Raises NotRunningError where nobody answers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=authority.der)
        with _connected(host, port) as plain, context.wrap_socket(plain, server_hostname=host):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (ssl.SSLError, ValueError, OSError) as error:
        return str(error)


@contextlib.contextmanager
def _connected(host: str, port: int) -> Iterator[socket.socket]:
    try:
        plain = socket.create_connection((host, port), timeout=_LIMIT_S)
    except OSError as error:
        raise NotRunningError(
            f"{host}:{port}: {error.strerror or error}", hint="Check the name and the port, and whether the machine runs."
        ) from error
    with plain:
        yield plain


def _read_chain(connection: ssl.SSLSocket) -> list[bytes]:
    public = getattr(connection, "get_unverified_chain", None)  # Python 3.13; before that, the same without the public name
    if public is not None:
        return [bytes(der) for der in public()]
    inner: Any = connection._sslobj  # type: ignore[attr-defined]
    return [certificate.public_bytes(_DER) for certificate in inner.get_unverified_chain() or ()]
