"""The owner's keys: made at the first build, mode 0600, never leaving the state directory.

One RSA-2048 key with a self-signed certificate each for Secure Boot and verity (what may boot) and for PCR policies (what
may unseal). RSA since UEFI firmware and TPM policies both verify it, and PKCS#1 v1.5 signatures are deterministic, which
bit-identical builds need.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import sync_directory
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import ReadError
from bedplate.image.recovery import find_recovery_certificate
from bedplate.image.tools import tools_command

_DAYS = 3650  # days; firmware does not check the end, verity keyrings neither
_PARTIAL = "keys.partial-{}"
_OWNERS = {"owner": "bedplate owner: Secure Boot and verity", "pcr": "bedplate owner: PCR policy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Files of the owner's keys: what signs images and layers.

    Keys and certificates are PEM; the recovery one as it was given.
    """

    owner_key: Path
    owner_certificate: Path
    pcr_key: Path
    pcr_certificate: Path
    recovery_certificate: Path | None = None
    """Given by the owner, whose private key for it is elsewhere; None where none was given."""
    client_keys: Path | None = None
    """Digests of the keys of clients that each machine of an image accepts; None where none was made."""
    config_keys: Path | None = None
    """Public keys that may sign the configuration of each machine of an image; None where none was made."""


def ensure_keys(paths: Paths) -> Keys:
    """The owner's keys, made now if there are none. Raises ReadError when only a part of them is there and no killed making
    left the rest.

    The recovery certificate is never made: its private key must not lie where images are built.
    """
    keys = Keys(
        owner_key=paths.keys / "owner.key",
        owner_certificate=paths.keys / "owner.crt",
        pcr_key=paths.keys / "pcr.key",
        pcr_certificate=paths.keys / "pcr.crt",
        recovery_certificate=find_recovery_certificate(paths),
        client_keys=paths.client_keys if paths.client_keys.is_file() else None,
        config_keys=paths.config_keys if paths.config_keys.is_file() else None,
    )
    files = (keys.owner_key, keys.owner_certificate, keys.pcr_key, keys.pcr_certificate)
    missing = [file for file in files if not _is_there(file)]
    if not missing:
        return keys
    if len(missing) < len(files):
        _finish_interrupted(paths, files, missing)
        return keys
    for left_over in paths.state.glob(
        _PARTIAL.format("*")
    ):  # of a killed making that had published none: nobody has used them
        shutil.rmtree(left_over)
    partial = paths.state / _PARTIAL.format(os.getpid())
    paths.state.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o700)
    try:
        _make_keys(paths, partial)
    except BaseException:
        shutil.rmtree(partial)
        raise
    if paths.keys.is_dir():  # the recovery certificate can be there before the first build
        _publish(partial, files)
    else:
        partial.rename(paths.keys)
        sync_directory(paths.state)
    return keys


def _is_there(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _make_keys(paths: Paths, directory: Path) -> None:
    for name, subject in _OWNERS.items():
        key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", str(_DAYS)]
        argv += ["-subj", f"/CN={subject}/", "-keyout", os.fspath(key), "-out", os.fspath(certificate)]
        run(tools_command(paths, argv), timeout_s=120)
        key.chmod(0o600)
        for file in (key, certificate):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())  # a key that has signed something must be there after a power cut
    sync_directory(directory)


def _publish(partial: Path, files: Sequence[Path]) -> None:
    """Move a whole set into the directory of the keys. Interrupted anywhere, each key is in one of the two."""
    for file in files:
        if (source := partial / file.name).is_file():
            source.rename(file)
    sync_directory(files[0].parent)
    shutil.rmtree(partial)


def _finish_interrupted(paths: Paths, files: Sequence[Path], missing: Sequence[Path]) -> None:
    """Publish the rest of an interrupted set: what a making left that is just what is missing. Raises ReadError."""
    names = {file.name for file in missing}
    for left_over in sorted(paths.state.glob(_PARTIAL.format("*"))):
        if {file.name for file in left_over.iterdir() if _is_there(file)} == names:
            _publish(left_over, files)
            return
    present = next(file.name for file in files if file not in missing)
    raise ReadError(
        f"{paths.keys}: {', '.join(file.name for file in missing)} missing or empty beside {present}",
        hint="Restore the missing files from your backup; machines that trust the old keys would reject new ones.",
    )
