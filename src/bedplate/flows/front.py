"""The front end of this machine: who may connect, how, and with which keys; from machine.toml and the files of keys.

Whatever is damaged closes it: a machine.toml that cannot be read leaves only the machine's own Unix socket, a file of keys
that cannot be read leaves no valid key. `prepare` and `renew` hold the lock of serving.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bedplate.act.files import sync_directory, write_whole
from bedplate.act.front_admin import replace_certificate, replace_map
from bedplate.act.front_files import settle_front, write_front_files
from bedplate.catalog.client_keys import parse_client_keys
from bedplate.catalog.machine_config import is_loopback, parse_machine_config
from bedplate.errors import BedplateError, CommandError, DataError, ReadError
from bedplate.front.keys import FRONT_DIRECTORY, KeyRules, render_key_maps
from bedplate.front.tls import ADMIN_SOCKET, CLIENT_CA_PEM, SERVER_PEM, TlsFiles, render_listeners
from bedplate.host.root.root import Root
from bedplate.host.system.addresses import read_addresses, read_host_name
from bedplate.host.system.booted import is_bedplate_system
from bedplate.host.system.front_record import read_front_record
from bedplate.model.client_key import IMAGE_KEYS, MACHINE_KEYS, ClientKey, ClientKeyFile, merge_keys
from bedplate.model.machine_config import CLOSED, MACHINE_FILES, FrontConfig, MachineConfig, TlsSource
from bedplate.model.progress import Progress
from bedplate.model.serving_host import FRONT_RECORD

CA_DIRECTORY = "/var/lib/bedplate/front/ca"
_DAY_S = 86_400
_MAPS = ("keys", "clients", "scopes", "state")
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSetting:
    """What the files of this machine say of its front end."""

    config: MachineConfig
    source: str
    """The machine.toml that counts; "" when there is none, and the defaults hold."""
    keys: tuple[ClientKey, ...]
    complete: bool
    """Whether all files of keys were read; before /var is open, and with a damaged file, they were not."""
    var_open: bool
    ipv6: bool
    problems: tuple[BedplateError, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a person must see, but closes nothing: a machine.toml that was edited by hand, a damaged record of it."""

    @property
    def front(self) -> FrontConfig:
        """The table [front]; `CLOSED`'s where the file is damaged."""
        return self.config.front

    @property
    def has_tls(self) -> bool:
        """Whether the listeners speak TLS: always, but where `insecure` says no or all of them are loopback addresses."""
        front = self.front
        if not front.addresses or front.insecure:
            return False
        return bool(front.tls.client_ca) or not all(is_loopback(address) for address in front.addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """The certificate in use: how it came to be, what it names and when it ends. It holds no secret."""

    kind: str
    """"own-ca", "files", "ephemeral", or "temporary": self-signed until the files of /var can be read."""
    names: tuple[str, ...]
    ends_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFront:
    """The setting that is in force, closed where its files could not be made, and the files that changed."""

    setting: FrontSetting
    changed: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    """What a person must see on the consoles: what is damaged, and the fingerprint of a CA that was made now."""


def read_front_setting(root: Root) -> FrontSetting:
    """Read the configuration and the keys; what is wrong with them is in `problems`, and closes the front end."""
    problems: list[BedplateError] = []
    remarks: tuple[str, ...] = ()
    source, config = "", MachineConfig()
    var_open = is_var_open(root)
    for path in MACHINE_FILES:
        if path.startswith("/var/") and not var_open:
            continue
        try:
            if path == MACHINE_FILES[0]:
                from bedplate.flows.config_served import read_served_config  # not before the first token

                served = read_served_config(root)
                text, remarks = served.text, served.remarks
            else:
                text = root.read_text(path)
            if text is not None:
                source, config = path, parse_machine_config(text, name=path)
        except (ReadError, DataError) as error:
            source, config = path, CLOSED
            problems.append(error)
        if source:
            break
    try:
        keys = merge_keys(read_key_file(root, IMAGE_KEYS), read_key_file(root, MACHINE_KEYS if var_open else None))
        complete = var_open
    except (ReadError, DataError) as error:
        keys, complete = (), False
        problems.append(error)
    return FrontSetting(
        config=config,
        source=source,
        keys=keys,
        complete=complete,
        var_open=var_open,
        ipv6=root.exists("/proc/net/if_inet6"),
        problems=tuple(problems),
        remarks=remarks,
    )


def read_key_file(root: Root, path: str | None) -> ClientKeyFile:
    """A file of keys; empty where it does not exist, or path is None. Raises ReadError, DataError."""
    text = root.read_text(path) if path is not None else None
    return parse_client_keys(text, name=path) if text is not None and path is not None else ClientKeyFile()


def is_var_open(root: Root) -> bool:
    """Whether files below /var can be read: in a booted image once it is mounted, elsewhere always."""
    if not is_bedplate_system(root):
        return True
    return any(line.split()[4:5] == ["/var"] for line in (root.read_text("/proc/self/mountinfo") or "").splitlines())


def listeners_of(setting: FrontSetting) -> list[str]:
    """Arguments of HAProxy's `bind`, one for each listener."""
    files = TlsFiles(client_ca=CLIENT_CA_PEM if setting.front.tls.client_ca else "") if setting.has_tls else None
    return render_listeners(setting.front, tls=files, ipv6=setting.ipv6)


def key_rules_of(setting: FrontSetting) -> KeyRules | None:
    """How keys are asked for; None where everybody is answered."""
    front = setting.front
    if not front.require_key:
        return None
    certificates = setting.has_tls and bool(front.tls.client_ca)
    return KeyRules(refusals_per_minute=front.limits.refusals_per_minute, certificates=certificates)


def write_front(root: Root, setting: FrontSetting, progress: Progress, *, now_s: int) -> WrittenFront:
    """Write what HAProxy reads beside its configuration, and make or renew the certificate. The caller holds the lock.

    Where a certificate cannot be made or read, the front end is closed, and the setting says why.
    """
    remarks = list(setting.remarks)
    certificate: CertificateRecord | None = None
    changed: tuple[str, ...] = ()
    try:
        certificate, changed = write_certificate(root, setting, remarks, now_s=now_s)
    except (BedplateError, OSError) as error:
        setting = _close(setting, error)
    changed += write_keys(root, setting, certificate)
    remarks += [f"the front end is closed: {problem.message.splitlines()[0]}" for problem in setting.problems]
    for remark in [*remarks, *find_openings(setting)]:
        progress.note(remark)
    return WrittenFront(setting=setting, changed=changed, remarks=tuple(remarks))


def write_certificate(
    root: Root, setting: FrontSetting, remarks: list[str], *, now_s: int, keep_client_ca: bool = False
) -> tuple[CertificateRecord | None, tuple[str, ...]]:
    """Make the certificate that is wanted now, or keep the one in use: (what it is, names of the files that changed).

    None and () for plain HTTP. keep_client_ca: the front end runs and is not reloaded, without which it does not take
    another CA of the clients; a remark says so. Nothing is written where this raises: CommandError, ReadError, OSError.
    """
    if not setting.has_tls:
        return None, ()
    certificate, pem = _ensure_certificate(root, setting, remarks, now_s)
    texts = {Path(SERVER_PEM).name: pem}
    if path := setting.front.tls.client_ca:
        client_ca = _read_client_ca(root, path)
        if not keep_client_ca:
            texts[Path(CLIENT_CA_PEM).name] = client_ca
        elif root.read_text(CLIENT_CA_PEM) != client_ca.rstrip("\n"):
            remarks.append(f"{path}: the CA of the clients has changed; this takes it over: bedplate serve prepare")
    return certificate, write_front_files(root.at(FRONT_DIRECTORY), texts)


def write_keys(root: Root, setting: FrontSetting, certificate: CertificateRecord | None) -> tuple[str, ...]:
    """Write the maps of keys, and the record for `bedplate status`; names of the maps that changed. Raises OSError."""
    changed: tuple[str, ...] = ()
    if setting.front.require_key:
        maps = render_key_maps(setting.keys, setting.front.limits, complete=setting.complete)
        texts = {f"{name}.map": getattr(maps, name) for name in _MAPS}
        changed = write_front_files(root.at(FRONT_DIRECTORY), texts)
    write_front_record(root, setting, certificate)
    return changed


def write_front_record(root: Root, setting: FrontSetting, certificate: CertificateRecord | None) -> None:
    """Write the record for `bedplate status`, which also says what the certificate in use is. Raises OSError."""
    record = root.at(FRONT_RECORD)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_whole(record, _render_record(setting, certificate), sync=False)


def read_certificate(root: Root) -> CertificateRecord | None:
    """The certificate in use, by the record; None where there is none, or the record cannot be read."""
    try:
        row = read_front_record(root).get("certificate")
        return row and CertificateRecord(kind=row["kind"], names=tuple(row["names"]), ends_s=int(row["ends_s"]))
    except (ReadError, KeyError, TypeError, ValueError):
        return None  # it is made anew


def apply_front(root: Root, changed: Sequence[str]) -> None:
    """Let the running HAProxy take these files without a reload. Raises CommandError where it does not, and is owed them."""
    admin = root.at(ADMIN_SOCKET)
    for name in ("scopes.map", "keys.map", "clients.map", "state.map"):  # a key is known once its scope is
        if name in changed:
            path = f"{FRONT_DIRECTORY}/{name}"
            replace_map(admin, path, root.at(path).read_text())
    if Path(SERVER_PEM).name in changed:
        replace_certificate(admin, SERVER_PEM, root.at(SERVER_PEM).read_text())
    if Path(CLIENT_CA_PEM).name in changed:
        raise CommandError("the CA of the clients changed, which takes a reload", status=None)
    settle_front(root.at(FRONT_DIRECTORY), changed)


def find_openings(setting: FrontSetting) -> list[str]:
    """A sentence for each way in which the front end is open to others than holders of keys, for journal and status."""
    front, lines = setting.front, []
    if front.addresses and not front.require_key:
        lines.append("the front end answers everybody who can connect, without a key (require_key is false)")
    if front.addresses and front.insecure:
        lines.append("the front end speaks plain HTTP on the network (insecure is true)")
    return lines


def _close(setting: FrontSetting, error: BedplateError | OSError) -> FrontSetting:
    problem = error if isinstance(error, BedplateError) else ReadError(f"{error.filename}: {error.strerror or error}")
    return replace(setting, config=CLOSED, keys=(), complete=False, problems=(*setting.problems, problem))


def _ensure_certificate(root: Root, setting: FrontSetting, remarks: list[str], now_s: int) -> tuple[CertificateRecord, str]:
    """The certificate that is wanted now, the one in use if that still serves. Raises CommandError, OSError."""
    from bedplate.act.certificates import BACKDATED_S, CA_DAYS, LEAF_DAYS, issue_certificate, read_supplied

    tls = setting.front.tls
    kind = str(tls.source) if setting.var_open or tls.source is TlsSource.EPHEMERAL else "temporary"
    if kind == TlsSource.FILES:
        found = read_supplied(root.at(tls.certificate), root.at(tls.private_key), now_s=now_s)
        return CertificateRecord(kind=kind, names=(), ends_s=found.ends_s), found.pem
    fixed = (read_host_name(root) or "bedplate", "localhost", "127.0.0.1", "::1", *tls.names)
    names = tuple(dict.fromkeys((*fixed, *read_addresses(root))))
    signed = kind == TlsSource.OWN_CA
    authority = _ensure_authority(root, fixed[0], remarks, now_s) if signed else None
    current, pem = read_certificate(root), root.read_text(SERVER_PEM)
    if current is not None and pem is not None and current.kind == kind:
        left_s, longest = current.ends_s - now_s, LEAF_DAYS * _DAY_S
        # Clients pin a self-signed certificate: it does not change with the addresses of the machine.
        if signed and longest / 2 < left_s <= longest + BACKDATED_S and set(names) <= set(current.names):
            return current, f"{pem}\n"
        if not signed and left_s > 0 and set(fixed) <= set(current.names):
            return current, f"{pem}\n"
    work = root.at("/run/bedplate")
    days = LEAF_DAYS if signed else CA_DAYS
    issued = issue_certificate(names, authority=authority, work=work, now_s=now_s, days=days)
    return CertificateRecord(kind=kind, names=names, ends_s=issued.ends_s), issued.pem


def _ensure_authority(root: Root, host: str, remarks: list[str], now_s: int) -> Any:
    """The CA of this machine, made where there is none; a making that is killed leaves only a directory .ca-*."""
    from bedplate.act.certificates import CertificateAuthority, make_authority, read_fingerprint

    place = root.at(CA_DIRECTORY)
    authority = CertificateAuthority(key=place / "ca.key", certificate=place / "ca.pem")
    if authority.key.is_file() and authority.certificate.is_file():
        return authority
    if place.exists():
        raise ReadError(
            f"{CA_DIRECTORY}: ca.key or ca.pem is missing", hint="Remove the directory; clients must then trust a new CA."
        )
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    partial = Path(tempfile.mkdtemp(prefix=".ca-", dir=place.parent))
    try:
        made = make_authority(partial, name=f"bedplate CA of {host}", now_s=now_s)
        fingerprint = read_fingerprint(made.certificate)
        partial.chmod(0o700)
        partial.rename(place)
        sync_directory(place.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    remarks.append(f"the front end has a new CA, whose SHA-256 fingerprint is {fingerprint}")
    return authority


def _read_client_ca(root: Root, path: str) -> str:
    import ssl  # most machines name no such file, and a boot waits for what is loaded

    parts = [part.partition(_END) for part in (root.read_text(path) or "").split(_BEGIN)[1:]]
    found = [f"{_BEGIN}{body}{_END}\n" for body, end, _ in parts if body and end]
    hint = "front.tls.client_ca names the CAs of the clients."
    if not found:
        raise ReadError(f"{path}: expected certificates in PEM", hint=hint)
    for number, certificate in enumerate(found, 1):  # HAProxy does not start with one that it cannot read
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=certificate)
        except ssl.SSLError as error:
            reason = error.reason or error.strerror
            raise ReadError(f"{path}: certificate {number} cannot be read: {reason}", hint=hint) from error
    return "".join(found)


def _render_record(setting: FrontSetting, certificate: CertificateRecord | None) -> str:
    front = setting.front
    record = {
        "schema": 1,
        "source": setting.source,
        "addresses": list(front.addresses),
        "port": front.port,
        "tls": setting.has_tls,
        "insecure": front.insecure and bool(front.addresses),
        "require_key": front.require_key,
        "keys": len(setting.keys),
        "keys_complete": setting.complete,
        "certificate": asdict(certificate) if certificate is not None else None,
        "openings": find_openings(setting),
        "problems": [problem.message for problem in setting.problems],
    }
    return json.dumps(record) + "\n"
