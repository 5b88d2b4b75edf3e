"""Keys of clients: add, list, revoke and rotate them; on a running machine without a lost request.

Inside the operating system they are those of this machine, in /var, and the running front end takes a change at once. On a
host they are those that go into every image that is built from then on.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.serving import hold_serving
from bedplate.catalog.client_keys import MOST_KEYS, is_key_id, is_model_text, is_note, parse_client_keys, render_client_keys
from bedplate.errors import BedplateError, CommandError, NotRunningError, UsageError
from bedplate.flows.front import (
    find_openings,
    is_var_open,
    read_certificate,
    read_front_setting,
    read_key_file,
    write_keys,
)
from bedplate.flows.front_reload import give_front
from bedplate.front.tls import ADMIN_SOCKET
from bedplate.host.root.root import Root
from bedplate.host.system.booted import is_bedplate_system
from bedplate.model.client_key import IMAGE_KEYS, MACHINE_KEYS, ClientKey, ClientKeyFile, merge_keys

_SECRET_BYTES = 32  # 43 characters of base64url
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without those that look alike
_ID_LENGTH = 8
NOT_TAKEN_HINT = "Remove the reason, then run: bedplate serve prepare"
"""What to do where the running front end does not take a change."""
_WAIT_S = 10  # for another `bedplate key`, which takes a part of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """The client that is asked for; None: the default of machine.toml."""

    id: str | None = None
    """None: eight random letters and digits."""
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    concurrency: int | None = None
    max_tokens: int | None = None
    lasts_s: int | None = None
    """How long the key is valid; None: for ever."""
    note: str = ""
    certificate: bool = False
    """The client shows a certificate with the id as its common name, and gets no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKey:
    """A key as it is stored, and its secret the only time that it can be seen."""

    key: ClientKey
    secret: str
    """"bp_ID_SECRET"; empty for a client with a certificate."""
    not_taken: str = ""
    """Why the running front end does not have the key, though it is stored; the next change gives it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """A key that holds, and where it comes from: "image" or "machine"."""

    key: ClientKey
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStore:
    """Where keys are kept: files of a machine, or the one that images are built with."""

    root: Root
    file: Path
    """The file that is written."""
    on_machine: bool

    def read(self) -> ClientKeyFile:
        """What the file holds; empty where there is none. Raises ReadError, DataError."""
        if self.on_machine:
            return read_key_file(self.root, MACHINE_KEYS)
        if not self.file.exists():
            return ClientKeyFile()
        return parse_client_keys(self.file.read_text(), name=str(self.file))

    def read_image(self) -> ClientKeyFile:
        """Keys that came with the image; empty on a build host."""
        return read_key_file(self.root, IMAGE_KEYS) if self.on_machine else ClientKeyFile()


def open_key_store(root: Root | None = None) -> KeyStore:
    """The store of this machine, or of this build host. Raises NotRunningError in a machine whose /var is not open."""
    root = root or Root()
    if is_bedplate_system(root) or not root.is_live:
        if not is_var_open(root):
            raise NotRunningError("/var is not open, so that no key can be kept", hint="See bedplate status.")
        return KeyStore(root=root, file=root.at(MACHINE_KEYS), on_machine=True)
    from bedplate.act.paths import check_paths, find_paths

    paths = find_paths()
    check_paths(paths)
    return KeyStore(root=root, file=paths.client_keys, on_machine=False)


def add_key(store: KeyStore, request: KeyRequest, *, now_s: int) -> ShownKey:
    """A new client. Raises UsageError for an id that is taken and for values out of bounds."""
    _check(request)
    with _changing(store) as (file, write):
        taken = {key.id for key in merge_keys(store.read_image(), file)} | set(file.revoked)
        id = request.id or _make_id(taken)
        if id in taken:
            raise UsageError(f"{id}: a key with this id exists, or was revoked", hint="Choose another id.")
        if len(file.key) >= MOST_KEYS:
            raise UsageError(f"{store.file}: has {MOST_KEYS} keys already", hint="Revoke those that nobody uses.")
        secret = "" if request.certificate else _make_secret(id)
        key = ClientKey(
            id=id,
            sha256=_digest(secret) if secret else "",
            models=request.models,
            requests_per_minute=request.requests_per_minute,
            concurrency=request.concurrency,
            max_tokens=request.max_tokens,
            created_s=now_s,
            expires_s=now_s + request.lasts_s if request.lasts_s is not None else 0,
            note=request.note,
        )
        not_taken = write(replace(file, key=(*file.key, key)))
    return ShownKey(key=key, secret=secret, not_taken=not_taken)


def find_open_front(store: KeyStore) -> tuple[str, ...]:
    """Why keys do not protect this machine now, as sentences; () where they do, and on a build host."""
    return tuple(find_openings(read_front_setting(store.root))) if store.on_machine else ()


def list_keys(store: KeyStore) -> tuple[ListedKey, ...]:
    """The keys that hold, those of the image first; expired ones are among them. Raises ReadError, DataError."""
    machine = store.read()
    own = {key.id for key in machine.key}
    return tuple(
        ListedKey(key=key, origin="machine" if key.id in own and store.on_machine else "image")
        for key in merge_keys(store.read_image(), machine)
    )


def revoke_key(store: KeyStore, id: str) -> ClientKey:
    """Remove a key; one of the image is written down as revoked.

    Raises UsageError where no key has this id, BedplateError where it is removed and the running front end still takes it.
    """
    with _changing(store) as (file, write):
        image = store.read_image()
        key = _find(merge_keys(image, file), id)
        of_image = any(other.id == id for other in image.key)
        revoked = (*file.revoked, id) if of_image and id not in file.revoked else file.revoked
        not_taken = write(replace(file, key=tuple(other for other in file.key if other.id != id), revoked=revoked))
    if not_taken:
        raise BedplateError(not_taken, hint=NOT_TAKEN_HINT)
    return key


def rotate_key(store: KeyStore, id: str, *, grace_s: int, now_s: int) -> ShownKey:
    """A new secret for the same client; the old one holds for grace_s.

    Raises UsageError where no key has this id, and where the secret of before still holds and would end unnoticed.
    """
    with _changing(store) as (file, write):
        before = _find(merge_keys(store.read_image(), file), id)
        if not before.sha256:
            raise UsageError(f"{id}: the client shows a certificate and has no key", hint="Give it a new certificate.")
        if grace_s and before.previous_expires_s > now_s:
            ends = datetime.fromtimestamp(before.previous_expires_s, UTC)
            raise UsageError(
                f"{id}: was rotated already, and its key of before holds until {ends:%Y-%m-%d %H:%M} UTC",
                hint=f"Wait until then, or end all of its old keys now: bedplate key rotate {id} --grace 0",
            )
        secret = _make_secret(id)
        key = replace(
            before,
            sha256=_digest(secret),
            previous_sha256=before.sha256 if grace_s else "",
            previous_expires_s=now_s + grace_s if grace_s else 0,
        )
        not_taken = write(replace(file, key=(*(other for other in file.key if other.id != id), key)))
    return ShownKey(key=key, secret=secret, not_taken=not_taken)


@contextmanager
def _changing(store: KeyStore) -> Iterator[tuple[ClientKeyFile, Callable[[ClientKeyFile], str]]]:
    """The file as it is, and what writes another in its place, gives it to the running front end and says why that does not
    have it; one at a time."""
    if not store.on_machine:
        from bedplate.act.lock import hold_lock
        from bedplate.act.paths import find_paths

        with hold_lock(find_paths(), "key", wait_s=_WAIT_S):
            yield store.read(), lambda file: _write(store, file)
        return
    with hold_serving(store.root):

        def write(file: ClientKeyFile) -> str:
            _write(store, file)
            return _apply(store)

        yield store.read(), write


def _write(store: KeyStore, file: ClientKeyFile) -> str:
    store.file.parent.mkdir(parents=True, exist_ok=True, mode=0o755 if store.on_machine else 0o700)
    write_whole(store.file, render_client_keys(file), sync=True, mode=0o600)
    return ""


def _apply(store: KeyStore) -> str:
    try:
        changed = write_keys(store.root, read_front_setting(store.root), read_certificate(store.root))
        if store.root.exists(ADMIN_SOCKET):  # else it does not run, and reads the files when it starts
            give_front(store.root, changed)
    except CommandError as error:
        return f"{store.file}: is written, but the running front end did not take it: {error.message}"
    except OSError as error:
        return f"{store.file}: is written, but the files of the front end are not: {error.filename}: {error.strerror}"
    return ""


def _check(request: KeyRequest) -> None:
    if request.id is not None and not is_key_id(request.id):
        raise UsageError(f"{request.id!r}: expected an id of 2 to 32 characters of a-z, 0-9 and -")
    if request.certificate and request.id is None:
        raise UsageError("a client with a certificate needs an id", hint="Give the common name of its certificate as ID.")
    for model in request.models:
        if not is_model_text(model):
            raise UsageError(f"--model: got {model!r}, expected the name of a model")
    if not is_note(request.note):
        raise UsageError("--note: expected at most 200 characters of printable ASCII")


def _find(keys: tuple[ClientKey, ...], id: str) -> ClientKey:
    found = next((key for key in keys if key.id == id), None)
    if found is None:
        raise UsageError(f"{id}: no key has this id", hint="List them: bedplate key list")
    return found


def _make_id(taken: set[str]) -> str:
    while (id := "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))) in taken:
        pass
    return id


def _make_secret(id: str) -> str:
    return f"bp_{id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
