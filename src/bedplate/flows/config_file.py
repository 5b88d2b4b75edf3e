"""A configuration that is given as a file: read, verified, checked for secrets, signed."""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.files import write_report
from bedplate.act.paths import find_paths
from bedplate.act.signatures import make_signing_key, read_public_key, sign_bytes, verify_bytes
from bedplate.catalog.bundle import TrustedKey, has_signature, render_key, render_signature, split_signature
from bedplate.catalog.machine_config import REFERENCE, parse_machine_config
from bedplate.catalog.strict import parse_table, read_data
from bedplate.errors import BedplateError, DataError, ReadError, UsageError
from bedplate.flows.catalog import CatalogPlaces, read_trusted_keys
from bedplate.host.root.root import Root
from bedplate.host.secrets.secret_names import is_secret_name
from bedplate.host.secrets.secret_shapes import hide_forms
from bedplate.host.system.booted import is_bedplate_system, read_image_record
from bedplate.model.machine_config import CONFIG_KEYS, MachineConfig

HOST_KEYS = "/etc/bedplate/config.keys"
"""What CONFIG_KEYS is in an image, on another host."""
HOW_TO = "docs/how-to/configure.md"
_SIGN = "Sign it where the key is: bedplate config sign FILE --output FILE"
_NO_SECRETS = (
    "A configuration is read by many and kept in histories. Take the secret out, change it where it was issued, and give it "
    "to the machine as a systemd credential, or as a file that only root reads."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenConfig:
    """A machine.toml that was read and holds no mistake."""

    path: Path
    text: str
    """Whole, with its signature."""
    config: MachineConfig
    sha256: str
    """Of the whole text."""
    key: str = ""
    """The public key that signed it, verified and trusted; "" where no signature was asked for."""


def read_given(path: Path) -> GivenConfig:
    """The file, signed or not, without looking at its signature. Raises ReadError, DataError with all of its problems."""
    return _parse(path, read_data(path), key="")


def read_trusted(path: Path, root: Root) -> GivenConfig:
    """The file as this machine accepts it: where it asks for a signature, that of a key which it trusts.

    A signature is verified before the file is parsed. Raises ReadError for a file that is unsigned, changed or signed by
    another key, UsageError for one without a sequence, DataError for mistakes, PreflightError without openssl.
    """
    text = read_data(path)
    keys = read_config_keys(root)
    if not asks_signature(root, keys):
        return _parse(path, text, key="")
    signed = split_signature(text, name=str(path), hint=_SIGN)
    public = render_key(signed.public)
    if signed.public not in [key.public for key in keys]:
        raise ReadError(
            f"{path}: is signed with the key {public}, which {keys_file(root)} does not have",
            hint=f"Sign it with the owner's key; {HOW_TO} says where that is.",
        )
    verify_bytes(signed.content.encode(), signed.signature, signed.public, what=str(path))
    given = _parse(path, text, key=public)
    if given.config.sequence < 1:
        raise UsageError(
            f"{path}: sequence: got {given.config.sequence}, expected 1 or more", hint="Set it, and sign again."
        )
    return given


def keys_file(root: Root) -> str:
    """The file of trusted keys that counts on this machine."""
    return CONFIG_KEYS if is_bedplate_system(root) else HOST_KEYS


def read_config_keys(root: Root) -> tuple[TrustedKey, ...]:
    """The keys that may sign a configuration of this machine; () where none is named. Raises ReadError, DataError."""
    return read_trusted_keys(CatalogPlaces(keys=root.at(keys_file(root))))


def asks_signature(root: Root, keys: tuple[TrustedKey, ...]) -> bool:
    """Whether a configuration must be signed: in a production image always, elsewhere once a key is named."""
    record = read_image_record(root) or {}
    return bool(keys) or (is_bedplate_system(root) and record.get("variant") != "development")


def _parse(path: Path, text: str, *, key: str) -> GivenConfig:
    secrets = list(find_secrets(text, name=str(path)))
    if secrets:
        raise DataError(secrets, hint=_NO_SECRETS)
    config = parse_machine_config(text, name=str(path))
    return GivenConfig(path=path, text=text, config=config, sha256=hashlib.sha256(text.encode()).hexdigest(), key=key)


def find_secrets(text: str, *, name: str) -> Iterator[str]:
    """A sentence for each line with what looks like a secret, and each key that is called like one; never the secret itself.

    Comments are looked at too. Raises DataError for what is no TOML.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if hide_forms(line) != line:
            yield f"{name}: line {number} holds what looks like a secret, expected none in a configuration"
    known = _known_keys(MachineConfig)
    for key in _keys(parse_table(text, name=name), ""):
        last = key.rpartition(".")[2]
        if last not in known and is_secret_name(last):
            yield f"{name}:{key}: is called like a secret, expected none in a configuration"


def _keys(value: Any, prefix: str) -> Iterator[str]:
    for key, entry in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{key}"
        for inner in entry if isinstance(entry, list) else [entry]:
            yield from _keys(inner, f"{prefix}{key}.")


def _known_keys(cls: type) -> set[str]:
    """The names of all keys of a table and of those below it."""
    known: set[str] = set()
    for name, hint in typing.get_type_hints(cls).items():
        known.add(name)
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                known |= _known_keys(typing.cast(type, inner))
    return known


def own_key() -> Path:
    """The private key that signs where no other is named: beside the other keys of the owner."""
    return find_paths().keys / "config.key"


def make_key(path: Path | None) -> tuple[Path, str]:
    """Make a key that signs configurations; (its file, the line for config.keys). Raises UsageError where one is there.

    Of the key beside the owner's others, every image that is built from then on has the line; where that key is there
    without its line, only the line is added.
    """
    if path is not None:
        return path, _key_line(make_signing_key(path))
    target, keys = own_key(), find_paths().config_keys
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = keys.read_text().splitlines() if keys.is_file() else []
    line = _key_line(read_public_key(target)) if target.exists() else ""
    if not line or line in lines:  # else an earlier run was killed after it had made the key
        line = _key_line(make_signing_key(target))
    write_report(keys, "".join(f"{text}\n" for text in (*lines, line)))
    return target, line


def _key_line(public: bytes) -> str:
    return f"owner ed25519 {render_key(public)}"


def sign_config(source: Path, key: Path | None, output: Path) -> GivenConfig:
    """Write the configuration of `source` with a signature; returns what was written.

    Raises ReadError for the text and the key, DataError for mistakes, UsageError for one that is signed already or has no
    sequence, BedplateError where the file cannot be written, PreflightError without openssl.
    """
    text = read_data(source)
    text = text if text.endswith("\n") else f"{text}\n"
    if has_signature(text):
        raise UsageError(f"{source}: has a signature already", hint="Remove its last line, and raise the sequence.")
    given = _parse(source, text, key="")
    if given.config.sequence < 1:
        raise UsageError(
            f"{source}: sequence: got {given.config.sequence}, expected 1 or more",
            hint=f"Add a line before the first table, with a higher number than the last signed one; {REFERENCE}.",
        )
    private = key or own_key()
    if not private.exists():
        raise ReadError(f"{private}: is not there", hint="Make a key: bedplate config make-key")
    public = read_public_key(private)
    signed = text + render_signature(public, sign_bytes(text.encode(), private))
    try:
        write_report(output, signed)
    except OSError as error:
        raise BedplateError(f"{output}: cannot write: {error.strerror or error}") from error
    return dataclasses.replace(
        given, path=output, text=signed, sha256=hashlib.sha256(signed.encode()).hexdigest(), key=render_key(public)
    )
