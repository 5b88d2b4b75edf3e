"""[[administrator]]: who may manage the machine. SSH public keys by their own form (RFC 4253, section 6.6; PROTOCOL.u2f)."""

from __future__ import annotations

import base64
import binascii
import re

from bedplate.config.kind import ConfigKind, check_length, shown
from bedplate.model.machine_config import MachineConfig
from bedplate.model.machine_tables import AdministratorConfig

_NAME = re.compile(r"[a-z][a-z0-9-]{1,31}")
_TAKEN = ("root", "nobody", "daemon", "bedplate")
_ECDSA = tuple(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521))
_TYPES = ("ssh-ed25519", *_ECDSA, "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-rsa")
_LEAST_RSA_BITS = 3072  # NIST SP 800-57 part 1, table 2: 128 bits of security


def _check(config: MachineConfig) -> list[str]:
    problems = check_length("administrator", config.administrator)
    names: list[str] = []
    for index, person in enumerate(config.administrator):
        where = f"administrator[{index}]"
        problems += _check_person(where, person)
        if person.name in names:
            problems.append(f"{where}.name: got {shown(person.name)}, which an earlier administrator has")
        names.append(person.name)
    return problems


def _check_person(where: str, person: AdministratorConfig) -> list[str]:
    problems = check_length(f"{where}.keys", person.keys)
    if _NAME.fullmatch(person.name) is None or person.name in _TAKEN:
        expected = f"2 to 32 of a-z, 0-9 and -, a letter first, and none of {', '.join(_TAKEN)}"
        problems.append(f"{where}.name: got {shown(person.name)}, expected {expected}")
    if not person.keys:
        problems.append(f"{where}.keys: is empty, expected at least one SSH public key")
    for index, key in enumerate(person.keys):
        problem = _key_problem(key)
        if problem:
            problems.append(f"{where}.keys[{index}]: {problem}")
    return problems


def _key_problem(line: str) -> str:
    """What is wrong with a line of a .pub file; "" for nothing."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or not line.isprintable():
        return f"got {shown(line)}, expected the one line of a .pub file: TYPE BASE64 COMMENT"
    if words[0] not in _TYPES:
        return f"got a key of type {shown(words[0])}, expected one of {', '.join(_TYPES)}"
    try:
        fields = _parse_fields(base64.b64decode(words[1], validate=True))
    except (ValueError, binascii.Error):
        return f"got {shown(words[1])}, which is no whole key; copy the whole line of the .pub file"
    if fields[0] != words[0].encode() or len(fields) < 2:
        return f"says {words[0]}, but the key itself says {shown(fields[0].decode(errors='replace'))}"
    if words[0] == "ssh-rsa" and (bits := int.from_bytes(fields[-1]).bit_length()) < _LEAST_RSA_BITS:
        return f"got an RSA key of {bits} bits, expected {_LEAST_RSA_BITS} or more"
    return ""


def _parse_fields(blob: bytes) -> list[bytes]:
    """The fields of a key, each behind its length of four bytes. Raises ValueError where one is cut or bytes are left."""
    fields: list[bytes] = []
    while blob:
        size = int.from_bytes(blob[:4])
        if len(blob) < 4 + size or (not size and len(blob) < 4):
            raise ValueError("cut")
        fields.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    if not fields:
        raise ValueError("empty")
    return fields


KIND = ConfigKind(
    table="administrator",
    check=_check,
    later="is kept for managing the machine over SSH, which this version of bedplate does not do yet",
)
