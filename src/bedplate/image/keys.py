"""The owner's keys: made at the first build, mode 0600, never leaving the state directory.

One RSA-2048 key with a self-signed certificate each for Secure Boot and verity (what may boot) and for PCR policies (what
may unseal). RSA since UEFI firmware and TPM policies both verify it, and PKCS#1 v1.5 signatures are deterministic, which
bit-identical builds need.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import ReadError
from bedplate.image.tools import tools_command

_DAYS = 3650  # days; firmware does not check the end, verity keyrings neither
_OWNERS = {"owner": "bedplate owner: Secure Boot and verity", "pcr": "bedplate owner: PCR policy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    owner_key: Path
    owner_certificate: Path
    pcr_key: Path
    pcr_certificate: Path


def ensure_keys(paths: Paths) -> Keys:
    """The owner's keys, made now if there are none. Raises ReadError when only a part of them is there."""
    keys = Keys(
        owner_key=paths.keys / "owner.key",
        owner_certificate=paths.keys / "owner.crt",
        pcr_key=paths.keys / "pcr.key",
        pcr_certificate=paths.keys / "pcr.crt",
    )
    files = (keys.owner_key, keys.owner_certificate, keys.pcr_key, keys.pcr_certificate)
    present = [file for file in files if file.is_file()]
    if len(present) == len(files):
        return keys
    if present:
        missing = ", ".join(file.name for file in files if file not in present)
        raise ReadError(
            f"{paths.keys}: {missing} missing beside {present[0].name}",
            hint="Restore the missing files from your backup; new keys would lock out every machine that trusts the old.",
        )
    partial = paths.state / f"keys.partial-{os.getpid()}"
    paths.state.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o700)
    try:
        for name, subject in _OWNERS.items():
            key, certificate = partial / f"{name}.key", partial / f"{name}.crt"
            argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", str(_DAYS)]
            argv += ["-subj", f"/CN={subject}/", "-keyout", os.fspath(key), "-out", os.fspath(certificate)]
            run(tools_command(paths, argv), timeout_s=120)
            key.chmod(0o600)
        partial.rename(paths.keys)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    return keys
