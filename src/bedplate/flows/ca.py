"""The certificate authority of a machine: show it, renew what it signs, and fetch it from another host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bedplate.act.certificates import read_fingerprint
from bedplate.act.serving import hold_serving
from bedplate.errors import BedplateError, CommandError, ReadError
from bedplate.flows.front import (
    CA_DIRECTORY,
    apply_front,
    read_front_setting,
    write_certificate,
    write_front_record,
)
from bedplate.front.tls import ADMIN_SOCKET
from bedplate.host.root.root import Root
from bedplate.host.system.front_record import read_front_record
from bedplate.host.system.tls_chain import check_signed_by, read_presented_chain
from bedplate.model.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAuthority:
    """The certificate of a CA, and the one of the front end that is in use."""

    pem: str
    fingerprint: str
    """SHA-256, as openssl writes it: "AB:CD:..."."""
    certificate: dict[str, Any] | None
    """As `bedplate status --json` has it; None where the front end has none."""


def show(root: Root | None = None) -> ShownAuthority:
    """The CA that this machine made. Raises ReadError where it made none."""
    root = root or Root()
    path = f"{CA_DIRECTORY}/ca.pem"
    pem = root.read_text(path)
    if pem is None:
        raise ReadError(
            f"{path}: this machine has no CA of its own",
            hint='It makes one when /var is open and front.tls.source is "own-ca": bedplate serve prepare',
        )
    fingerprint = read_fingerprint(root.at(path))
    return ShownAuthority(pem=f"{pem}\n", fingerprint=fingerprint, certificate=read_front_record(root).get("certificate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedAuthority:
    """The CA that a machine presents, and whether the caller knew its fingerprint before."""

    pem: str
    fingerprint: str
    """SHA-256, as the machine prints it on its consoles: "AB:CD:..."."""
    confirmed: bool
    """Whether the caller gave this fingerprint; if not, somebody in between may have sent the certificate."""
    names_problem: str | None
    """Why the machine's own certificate is not verified under the name that was asked, with this CA alone; None: it is."""


def fetch(host: str, port: int, *, fingerprint: str | None = None) -> FetchedAuthority:
    """The CA of the front end at host and port, from the chain that it presents; no request is sent.

    fingerprint: SHA-256 that the CA must have, 64 hexadecimal digits with or without colons.

    Raises NotRunningError where nobody answers; ReadError where that is no TLS, there is no CA in the chain, or its
    fingerprint is another one: nothing may be trusted then.
    """
    chain = read_presented_chain(host, port)
    authority = chain[-1]
    if len(chain) == 1:
        raise ReadError(
            f"{host}:{port}: presents one certificate, and no CA ({authority.fingerprint})",
            hint=(
                "Its front.tls.source is not own-ca, or its image is older than this command. Get the CA from whoever"
                " issued the certificate."
            ),
        )
    wanted = None if fingerprint is None else fingerprint.replace(":", "").upper()
    if wanted is not None and wanted != authority.fingerprint.replace(":", ""):
        raise ReadError(
            f"{host}:{port}: the CA that it presents has another fingerprint:\n"
            f"  got       {authority.fingerprint}\n  expected  {fingerprint}",
            hint="Do not trust it: another machine may have answered, or /var was made anew. Look at the machine's console.",
        )
    return FetchedAuthority(
        pem=authority.pem,
        fingerprint=authority.fingerprint,
        confirmed=wanted is not None,
        names_problem=check_signed_by(host, port, authority),
    )


def renew(progress: Progress, *, now_s: int, root: Root | None = None) -> bool:
    """Make the certificate anew if half of its time is over, it lacks a name, or the supplied files changed; whether it was.

    The running front end takes it without a reload. What cannot be renewed stays in use until it ends. Raises BedplateError
    for that, and where the running front end does not take the new one.
    """
    root = root or Root()
    with hold_serving(root):
        setting, remarks = read_front_setting(root), list[str]()
        runs = root.exists(ADMIN_SOCKET)
        certificate, changed = write_certificate(root, setting, remarks, now_s=now_s, keep_client_ca=runs)
        for remark in remarks:
            progress.note(remark)
        # Not the maps of keys: a map that is written and not applied would be taken for applied by the next `prepare`.
        write_front_record(root, setting, certificate)
        if changed and runs:
            try:
                apply_front(root, changed)
            except CommandError as error:
                raise BedplateError(
                    f"the running front end did not take the certificate: {error.message}",
                    hint="Restart it: systemctl restart bedplate-haproxy",
                ) from error
    return bool(changed)
