"""The file of the front end's keys, client-keys.toml: its strict reader, and the text that `bedplate key` writes."""

from __future__ import annotations

import json
import re

from bedplate.catalog.strict import parse_toml, schema_problems
from bedplate.errors import DataError
from bedplate.model.client_key import ClientKey, ClientKeyFile

REFERENCE = "docs/reference/machine.md"
MOST_KEYS = 4096
_MOST_MODELS = 256
_MOST = 1_000_000
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z
_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,31}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_NOTE = re.compile(r"[ -~]{0,200}")
_HEAD = "# Keys of the front end's clients, by digest. Written by `bedplate key`; the secrets are stored nowhere.\n"


def is_key_id(text: str) -> bool:
    """Whether a key may have this id: it stands in maps of HAProxy, in log lines and in names of certificates."""
    return _ID.fullmatch(text) is not None


def is_model_text(text: str) -> bool:
    """Whether this can be the name of a model, known or not."""
    return _MODEL.fullmatch(text) is not None


def is_note(text: str) -> bool:
    """Whether this is printable ASCII of at most 200 characters."""
    return _NOTE.fullmatch(text) is not None


def parse_client_keys(text: str, *, name: str) -> ClientKeyFile:
    """The text of a client-keys.toml; `name` stands for the file in messages. Raises DataError with all of its problems."""
    found = parse_toml(text, ClientKeyFile, name=name, reference=REFERENCE)
    problems = schema_problems(found.schema)
    if len(found.key) > MOST_KEYS or len(found.revoked) > MOST_KEYS:
        problems.append(f"key: got {max(len(found.key), len(found.revoked))} entries, expected at most {MOST_KEYS}")
    problems += [f"revoked[{index}]: {_wrong_id(id)}" for index, id in enumerate(found.revoked) if not is_key_id(id)]
    for index, key in enumerate(found.key):
        problems += [f"key[{index}].{problem}" for problem in _check(key)]
    problems += _find_doubles("id", [key.id for key in found.key])
    problems += _find_doubles(
        "sha256", [digest for key in found.key for digest in (key.sha256, key.previous_sha256) if digest]
    )
    if problems:
        raise DataError(
            [f"{name}:{problem}" for problem in problems],
            hint=f"Correct {name}, or remove it and add the keys again with `bedplate key add`.",
        )
    return found


def render_client_keys(file: ClientKeyFile) -> str:
    """The text of a client-keys.toml; `parse_client_keys` reads it back. All values have been checked: JSON's strings of
    printable ASCII are TOML's."""
    lines = [_HEAD, f"schema = {file.schema}", f"revoked = {json.dumps(list(file.revoked))}"]
    for key in file.key:
        lines += ["", "[[key]]", f"id = {json.dumps(key.id)}"]
        if key.sha256:
            lines.append(f"sha256 = {json.dumps(key.sha256)}")
        if key.models:
            lines.append(f"models = {json.dumps(list(key.models))}")
        bounds = (
            ("requests_per_minute", key.requests_per_minute),
            ("concurrency", key.concurrency),
            ("max_tokens", key.max_tokens),
        )
        lines += [f"{name} = {value}" for name, value in bounds if value is not None]
        lines.append(f"created_s = {key.created_s}")
        if key.expires_s:
            lines.append(f"expires_s = {key.expires_s}")
        if key.previous_sha256:
            lines.append(f"previous_sha256 = {json.dumps(key.previous_sha256)}")
            lines.append(f"previous_expires_s = {key.previous_expires_s}")
        if key.note:
            lines.append(f"note = {json.dumps(key.note)}")
    return "\n".join(lines) + "\n"


def _check(key: ClientKey) -> list[str]:
    problems = [] if is_key_id(key.id) else [f"id: {_wrong_id(key.id)}"]
    for name, digest in (("sha256", key.sha256), ("previous_sha256", key.previous_sha256)):
        if digest and _DIGEST.fullmatch(digest) is None:
            problems.append(f"{name}: got {len(digest)} characters, expected 64 hexadecimal digits in lower case")
    if bool(key.previous_sha256) != bool(key.previous_expires_s) or (key.previous_sha256 and not key.sha256):
        problems.append("previous_sha256: expected sha256 and previous_expires_s beside it")
    if len(key.models) > _MOST_MODELS:
        problems.append(f"models: got {len(key.models)} entries, expected at most {_MOST_MODELS}")
    problems += [
        f"models[{index}]: got {model[:80]!r}, expected the name of a model"
        for index, model in enumerate(key.models)
        if not is_model_text(model)
    ]
    for name, value, most in (
        ("requests_per_minute", key.requests_per_minute, _MOST),
        ("concurrency", key.concurrency, _MOST),
        ("max_tokens", key.max_tokens, _MOST),
        ("created_s", key.created_s, _LAST_SECOND),
        ("expires_s", key.expires_s, _LAST_SECOND),
        ("previous_expires_s", key.previous_expires_s, _LAST_SECOND),
    ):
        if value is not None and not 0 <= value <= most:
            problems.append(f"{name}: got {value}, expected 0 to {most}")
    if not is_note(key.note):
        problems.append("note: expected at most 200 characters of printable ASCII")
    return problems


def _wrong_id(text: str) -> str:
    return f"got {text[:80]!r}, expected 2 to 32 characters of a-z, 0-9 and -"


def _find_doubles(what: str, values: list[str]) -> list[str]:
    seen: set[str] = set()
    doubles = []
    for value in values:
        if value in seen:
            doubles.append(f"key: two keys have the {what} {value[:32]!r}")
        seen.add(value)
    return doubles
