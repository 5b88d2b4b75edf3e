"""Secrets in command lines: what must not stand in a fact, a report or a recording. Pure."""

from __future__ import annotations

import re
from itertools import pairwise

HIDDEN = "***"

# Words of an option's name that make its value a secret. "token" alone counts, "tokens" and "tokenizer" do not:
# --max-num-batched-tokens is a limit, --hf-token is a secret.
_WORDS = {
    "token",
    "secret",
    "secrets",
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "credential",
    "credentials",
    "apikey",
}
_PAIRS = {("api", "key"), ("api", "keys"), ("access", "key"), ("private", "key"), ("secret", "key"), ("auth", "key")}
_COUNT = re.compile(r"-?[0-9]{1,7}")  # --pad-token 0 is an id of a token

_NAMED = re.compile(r"(?P<name>-{0,2}[A-Za-z][\w.-]*)(?P<equals>[=:])(?P<value>.+)", re.DOTALL)
_INSIDE = re.compile(r"(?P<name>[A-Za-z][\w.-]*)=(?P<value>[^\s\"',;&\0]+)")
# Values that are secrets whatever stands before them: the issuers' own prefixes, JSON web tokens, private keys.
_VALUES = re.compile(
    r"\bhf_[A-Za-z0-9]{8,}|\bsk-[A-Za-z0-9_-]{8,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bnvapi-[\w-]{8,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bxox[abprs]-[\w-]{8,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|\bglpat-[\w-]{8,}"
)
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)
_BEARER = re.compile(r"(?P<kind>\b(?:Bearer|Basic|Token)\s+)[^\s\"']+", re.IGNORECASE)


def hide_secrets(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments with each secret replaced by ***: ("--api-key", "abc") -> ("--api-key", "***")."""
    shown: list[str] = []
    option = ""  # the secret option whose values come now
    for word in argv:
        if option and not word.startswith("--"):
            shown.append(word if _COUNT.fullmatch(word) and not _is_key(option) else HIDDEN)
            option = option if _is_key(option) else ""  # vllm takes several keys behind one --api-key
            continue
        option = word if word.startswith("-") and "=" not in word and _is_secret(word) else ""
        shown.append(hide_secrets_in(word))
    return tuple(shown)


def hide_secrets_in(text: str) -> str:
    """A single argument, or any text: NAME=VALUE of a secret name, known forms of tokens, user:password@ of a URL."""
    text = _BEARER.sub(rf"\g<kind>{HIDDEN}", text)
    text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _VALUES.sub(HIDDEN, text)
    found = _NAMED.fullmatch(text)
    if found is not None and _is_secret(found["name"]) and not _COUNT.fullmatch(found["value"]):
        return f"{found['name']}{found['equals']}{HIDDEN}"
    return _INSIDE.sub(_hide_value, text) if "=" in text else text


def _hide_value(found: re.Match[str]) -> str:
    is_secret = _is_secret(found["name"]) and not _COUNT.fullmatch(found["value"])
    return f"{found['name']}={HIDDEN}" if is_secret else found[0]


def _is_secret(name: str) -> bool:
    words = _words(name)
    return bool(_WORDS & set(words)) or _is_key(name)


def _is_key(name: str) -> bool:
    words = _words(name)
    return any(pair in _PAIRS for pair in pairwise(words))


def _words(name: str) -> list[str]:
    """ "--hfToken" and "HF_TOKEN" -> ["hf", "token"]."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", apart) if word]
