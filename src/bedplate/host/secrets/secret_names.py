"""Names of options, variables, keys of JSON, headers and parts of queries whose value is a secret. Pure.

Where a name may mean either, its value is a secret; what engines' own options are called and is none, is listed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from bedplate.model.lazy_pattern import LazyPattern

HIDDEN = "***"

# Words of a name that make its value a secret, wherever they stand in it. "token" alone counts, "tokens" and "tokenizer" do
# not: --max-num-batched-tokens is a limit, --hf-token is a secret.
_WORDS = {
    *("token", "secret", "secrets", "password", "passwords", "passwd", "passphrase", "passcode", "pass", "pwd", "pw"),
    *(
        "credential",
        "credentials",
        "creds",
        "authorization",
        "bearer",
        "jwt",
        "cookie",
        "cookies",
        "auth",
        "mnemonic",
        "totp",
        "authentication",
    ),
    *("passwort", "kennwort", "contraseña", "contrasena", "senha", "wachtwoord", "passe"),  # German, Spanish, Dutch, French
    *("fernet", "csrf", "xsrf", "chap", "dhchap"),
    *("hft",),  # llama.cpp: -hft is --hf-token
}
# Ends of words that are written as one: --ngrok-authtoken, --p2ptoken, --adminpassword, --requirepass, --masterauth, APIKEY.
_ENDS = (
    *("token", "password", "passwd", "passphrase", "secret", "apikeys", "pass", "pw", "auth", "authorization", "cookie"),
    "key",
    "secrets",
)
# ... which are other words: a bypass is no password, and a monkey no key.
_OTHER_WORDS = LazyPattern(
    r".*(?:bypass|compass|encompass|surpass|noauth|unauth)"
    r"|(?:mon|don|tur|hot|whis|joc|hoc|turn|pub|public|sort|primary|foreign|partition|routing|cache)key"
)
_INSIDE = ("password", "passwd", "passphrase", "apikey", "authtoken")  # --passwordhash
# Words that do so at the end of a name only: module.sig_enforce is a setting, ?sig= signs a request.
_LAST = {
    *("sig", "signature", "hmac", "psk", "otp", "sas", "dsn", "userpass", "webhook", "pat", "assertion", "phrase", "ticket"),
    *("session", "sessionid", "jsessionid", "phpsessid"),
}
_LAST_PAIRS = {
    *(("webhook", "url"), ("session", "id"), ("restricted", "api"), ("restricted", "protocol")),
    *((word, "pin") for word in ("so", "user", "luks", "tpm", "tpm2", "card")),
    *((word, "code") for word in ("mfa", "unlock", "activation", "recovery", "verification")),
    ("pin", "value"),
}
_KEY_ID = {("access", "key"), ("api", "key"), ("secret", "key")}  # AWSAccessKeyId
_PLAIN_KEYS = {"public", "pub", "sort", "primary", "partition", "routing", "cache", "foreign"}
# A name that ends so tells where a secret lies, or how it is sent.
_WHERE = {"file", "keyfile", "certfile", "path", "dir", "directory"}
_HOW = {"mode", "type", "backend", "method", "enabled", "url", "port", "host", "endpoint", "timeout"}
# A token of the vocabulary: --stop-token-ids, --return-tokens-as-token-ids, --speculative-token-map.
_VOCABULARY = {"id", "ids", "map", "count", "limit", "budget", "threshold", "length", "len", "size", "level"}
# "tokens" are a limit, but not those of who may come in: --api-tokens, {"tokens": ["a"]}.
_TOKENS_OF = {
    *("api", "auth", "access", "bearer", "hf", "user", "users", "secret", "valid", "allowed", "accepted", "client"),
    "",
}
# Any header may be one: {"headers": {"x-team": "a"}}, OTEL_EXPORTER_OTLP_HEADERS; these are lists of names.
_HEADER_LISTS = {"allowed", "allow", "expose", "exposed", "no"}
# Beginnings of a name's last word, which argparse takes for the whole: --api-k, --hf-tok, --ssl-keyfile-passw.
# No other word begins with so many letters; with fewer, the word before it tells.
_ABBREVIATED = (
    *(("token", 3), ("password", 3), ("passphrase", 5), ("passcode", 5), ("secret", 4), ("credentials", 4)),
    *(
        ("authorization", 5),
        ("bearer", 4),
        ("cookies", 4),
        ("apikeys", 4),
        ("authtoken", 5),
        ("authkey", 5),
        ("p2ptoken", 4),
    ),
    *(("hftoken", 4), ("adminpassword", 6), ("accesskey", 7), ("secretkey", 7), ("requirepass", 8), ("masterauth", 7)),
    ("mnemonic", 4),
)
_ABBREVIATED_SHORT = (
    (("k", "ke"), ("api", "access", "secret", "admin", "hf", "openai", "auth", "private", "signing", "license")),
    (("t", "to"), ("hf", "auth", "access", "api", "bearer", "ngrok", "github", "session", "refresh")),
    (("p", "pa"), ("keyfile", "user", "proxy", "keystore")),
    (("s", "se", "sec"), ("client", "app", "jwt", "webhook", "shared")),
)
_OTHER_BEGINNINGS = {"author", "cooking"}
# ... of which the rest is left out: SGLang has no other options that begin so.
_ABBREVIATED_WHOLE = (["api"], ["ap"], ["admin"], ["adm"], ["admin", "api"], ["admin", "ap"], ["admin", "a"])
_SWITCHES = {"allow", "disable", "no", "skip", "return", "ignore"}  # --allow-credentials has no value
_USERS = {"user", "username", "login", "u"}
_NEVER = {*("", "true", "false", "none", "null", "nil", "auto", "on", "off", "yes", "no", "y", "n", "m"), HIDDEN}
# --pad-token 0, --stop-token-ids 1,2 and --override-kv tokenizer.ggml.eos_token_id=int:2 are numbers of tokens
_COUNT = LazyPattern(
    r"(?:(?:int|float):)?\[?-?[0-9]{1,7}(?:, ?-?[0-9]{1,7}){0,63}\]?|[0-9]{1,7}(?:\.[0-9]{1,3})?[kKmM]i?|bool:(?:true|false)"
)
_IDS = LazyPattern(r"[0-9]{0,10}:[0-9]{1,10}")  # --user 1000:1000
_NUMBERED = re.compile(r"(?<=[a-z]{3})[0-9]{1,3}$")  # password2, token1; not p2, nor v1
_SCHEME = LazyPattern(r"(?:Bearer|Basic|Token|Digest|ApiKey|Negotiate)\b", re.IGNORECASE)
_ESCAPED_QUOTE = LazyPattern(r"\\{1,8}[\"']")


def hide_value(name: str, value: str) -> str | None:
    """What stands for a value of that name; None where it is no secret."""
    plain = value.strip("\"'\\ ")
    if plain.lower() in _NEVER:
        return None
    if not is_secret_name(name):
        is_account = bool(_USERS & set(words_of(name)[-1:])) and (
            ":" in plain or "%" in plain or plain.startswith(f"{HIDDEN}@")
        )
        return HIDDEN if is_account and not _IDS.fullmatch(plain) else None
    if (_COUNT.fullmatch(plain) and _is_token(name)) or is_place(name, plain):
        return None
    scheme = _SCHEME.match(plain)
    if scheme is not None:
        rest = plain[scheme.end() :].strip()
        return None if rest in ("", HIDDEN) else f"{scheme[0]} {HIDDEN}"
    quote = value[0] if value[:1] in ('"', "'") and value[-1:] == value[:1] and len(value) > 1 else ""
    escaped = _ESCAPED_QUOTE.match(value)
    quote = escaped[0] if escaped is not None else quote
    return f"{quote}{HIDDEN}{quote}"


def is_secret_name(name: str) -> bool:
    """Whether a value of that name is a secret, if it is none of the values that never are."""
    words = words_of(name)
    if not words:
        return False
    if name.startswith("-") and _is_abbreviated(words):
        return True
    if (
        {"auth", "authentication"} & set(words)
        and words[-1] in _HOW
        and not (_WORDS - {"auth", "authentication"}) & set(words)
    ):
        return False
    before = words[-2] if len(words) > 1 else ""
    if (words[-1] == "tokens" and before in _TOKENS_OF) or (words[-1] == "headers" and before not in _HEADER_LISTS):
        return True
    if words[-1] in _VOCABULARY and _is_token(name):
        return False
    if (
        words in (["key"], ["keys"])
        or _WORDS & set(words)
        or is_key_name(name)
        or words[-1] in _LAST
        or tuple(words[-2:]) in _LAST_PAIRS
    ):
        return True
    return any(
        (word.endswith(_ENDS) and len(word) > 3 and not _OTHER_WORDS.fullmatch(word))
        or any(part in word for part in _INSIDE)
        for word in words
    )


def _is_abbreviated(words: list[str]) -> bool:
    """Whether the words of an option are the beginning of those of a secret's: ["api", "k"]; ["top", "k"] is none."""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if words in _ABBREVIATED_WHOLE or any(last in ends and before in starts for ends, starts in _ABBREVIATED_SHORT):
        return True
    return last not in _OTHER_BEGINNINGS and any(
        len(last) >= letters and word.startswith(last) and last != word for word, letters in _ABBREVIATED
    )


def may_be_secret(name: str) -> bool:
    """Whether a value of that name is a secret, or an account and its password."""
    return is_secret_name(name) or bool(_USERS & set(words_of(name)))


def is_key_name(name: str) -> bool:
    """Whether a name is that of a service's key: "AWSAccessKeyId", "hf_key"; not "primary_key", nor "key" alone."""
    words = words_of(name)
    if any(pair in _KEY_ID for pair in pairwise(words)):
        return True
    return len(words) > 1 and words[-1] in ("key", "keys") and words[-2] not in _PLAIN_KEYS


def is_header(name: str) -> bool:
    """Whether it is a header of HTTP whose value goes on to the end of the line, whatever stands in it."""
    return bool({"authorization", "cookie", "cookies"} & set(words_of(name)))


def is_switch(option: str) -> bool:
    """Whether an option has no value by its name: what follows it is another argument."""
    return option.startswith("--") and words_of(option)[:1] != [] and words_of(option)[0] in _SWITCHES


def is_place(name: str, value: str) -> bool:
    """Whether a name and its value say where a secret lies."""
    return words_of(name)[-1:] != [] and words_of(name)[-1] in _WHERE and value.startswith(("/", "./", "../", "~"))


def is_plain(name: str, value: str) -> bool:
    """Whether a value is none of a secret though its name is that of one: none, a number of a token, a path."""
    plain = value.strip("\"'\\ ")
    return plain.lower() in _NEVER or is_place(name, plain) or (_COUNT.fullmatch(plain) is not None and _is_token(name))


def is_ids(value: str) -> bool:
    """Whether it is the number of a user and of a group: 1000:1000."""
    return _IDS.fullmatch(value) is not None


def _is_token(name: str) -> bool:
    """Whether the name says no more than that a number of the vocabulary may follow."""
    words = words_of(name)
    is_cut = words[-1:] != [] and len(words[-1]) > 2 and "token".startswith(words[-1])  # --max-num-batched-tok
    is_vocabulary = is_cut or bool({"token", "tokens"} & set(words))
    return is_vocabulary and not is_key_name(name) and not (_WORDS - {"token"}) & set(words)


@lru_cache(maxsize=1024)
def words_of(name: str) -> list[str]:
    """ "--hfToken" and "HF_TOKEN" -> ["hf", "token"]."""
    if len(name) > 512:
        name = name[-512:]
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)  # "AWSAccessKeyId" too
    words = [word.lower() for word in re.split(r"[\W_]+", apart) if word]
    return [_NUMBERED.sub("", word) for word in words]
