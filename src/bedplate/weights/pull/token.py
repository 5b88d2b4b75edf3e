"""The hub that is asked and the token for it, where the hub's own programs look for them.

Source: huggingface_hub, "Environment variables": HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME. In a unit the credential
`hf-token` counts first. The token stands in no record, no message and no list of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.errors import ReadError, UsageError
from bedplate.host.root.regular import open_regular

DEFAULT_ENDPOINT = "https://huggingface.co"
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """Which hub is asked, and as whom."""

    endpoint: str
    """Without a slash at its end."""
    token: str = field(default="", repr=False)


def read_hub_settings(environment: Mapping[str, str], *, token_file: Path | None = None) -> HubSettings:
    """Of the environment; token_file counts first. Raises ReadError, and UsageError for what is no token."""
    endpoint = (environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    return HubSettings(endpoint=endpoint, token=_find_token(environment, token_file))


def read_token(path: Path) -> str:
    """The token that a file holds. Raises ReadError, and UsageError that does not show what is there instead."""
    try:
        with open_regular(path) as file:
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise ReadError(f"{path}: cannot read the token: {error.strerror}") from error
    return _check(data.decode("ascii", "replace").strip(), str(path))


def _find_token(environment: Mapping[str, str], token_file: Path | None) -> str:
    if token_file is not None:
        return read_token(token_file)
    if credentials := environment.get("CREDENTIALS_DIRECTORY"):
        path = Path(credentials) / "hf-token"
        if path.exists():
            return read_token(path)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := environment.get(name, "").strip():
            return _check(token, name)
    if environment.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return ""
    if named := environment.get("HF_TOKEN_PATH"):
        return read_token(Path(named))
    home = environment.get("HOME") or "/root"
    cache = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    path = Path(environment.get("HF_HOME") or f"{cache}/huggingface") / "token"
    return read_token(path) if path.is_file() else ""


def _check(token: str, where: str) -> str:
    if not token or len(token) > 1024 or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{where}: is not a token: expected one word of printable ASCII characters")
    return token
