"""Secrets that are known by their own shape, whatever stands before them. Pure.

The issuers' prefixes, JSON web tokens, private keys, account:password@, and letters and digits that no word has.
"""

from __future__ import annotations

import re

from bedplate.host.secrets.secret_names import HIDDEN, is_ids, words_of
from bedplate.model.lazy_pattern import LazyPattern

# What begins with one of these is another notation: --hf-token "a", --hf-token = a.
_BEARER = re.compile(r"(?P<kind>\b(?:Bearer|Basic|Token)[ \t]{1,8})(?P<value>[^\s\"'$\\=:][^\s\"']*)", re.IGNORECASE)
_WORD = LazyPattern(r"[a-z]{1,9}[.,;:)]?")
_ACCOUNT = LazyPattern(r"(?<![^\s\"'=,;(\[{<>|])[\w.%+-]{1,128}:[^\s/\"']{1,256}@(?=[\w\[])")
_NO_SCHEME = LazyPattern(r"(?<![:/])//[^\s/\"'@:]{1,128}:[^\s/\"'@]{1,256}@")  # //NAME:PASSWORD@filer/share
# The same in an argument of its own: a slash may stand in the password; "hf:Qwen/Qwen3@main", "registry:5000/x@1" have none.
_ACCOUNT_WORD = LazyPattern(
    r"(?P<option>(?:-{0,2}[\w.-]{1,80}=)?)(?!(?:hf|huggingface|modelscope|ms|github|git|docker|oci|ollama):)"
    r"[\w.%+-]{1,128}:(?![:/]|[0-9]{1,5}[/,])\S{1,1000}@(?=[\w\[])"
)
# curl's -uNAME:PASSWORD; -u1000:1000 are numbers, and -uhttp://x is an address
_GLUED = re.compile(r"(?<!\S)(?P<option>-[uU])(?P<account>[\w.@%+\\-]{1,128}[:%](?!//)[^\s\"']+)")
_GLUED_WORD = re.compile(r"(?P<option>-[uU])(?P<account>[\w.@%+\\-]{1,128}[:%](?!//).+)", re.DOTALL)
_URL_RUN = LazyPattern(r"[^\s\"']++")
_URL_WORD = LazyPattern(r"(?:-{0,2}[\w.-]{1,80}=)?[A-Za-z][\w+.-]{0,40}://[^\s/:@]*+:(?![0-9]{1,5}/)")
_SCHEME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"
_PORT = LazyPattern(r"[0-9]{1,5}(?:/|$)")
# Of these no digest and no revision follows an @: what stands before the last one is an account.
_DATABASES = LazyPattern(
    r"(?:postgres|mysql|mariadb|mongo|redis|valkey|amqp|mssql|sqlserver|clickhouse|cockroach|ldap|nats|kafka)"
)
# Values that are secrets whatever stands before them, by the prefixes that their issuers gave them to be found by.
_VALUES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org|gsk|r8|npm|lin_api|fw|tgp_v1|dop_v1|dckr_pat|shpat|whsec)_[A-Za-z0-9]{8,}"
    r"|(?:sk|rk|pk|xai|pplx|csk|nvapi|glpat|gldt|glrt|glcbt|xapp|tskey|GOCSPX|pypi)-[\w-]{8,}|(?:sk|rk)_(?:live|test)_\w{8,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|xox[abeprs]-[\w-]{8,}"
    r"|eyJ[\w-]{8,}[\w.-]*|ya29\.[\w-]{16,}|AIza[\w-]{30,}|SG\.[\w-]{16,}[\w.-]*|hv[sbr]\.[\w-]{16,}|AGE-SECRET-KEY-1\w{16,}"
    r"|[0-9]{8,10}:[\w-]{35}|[0-9A-Za-z]{26,30}_[0-9A-Za-z]{20,24}(?![0-9A-Za-z_])"
    r")"
)
_WEBHOOK = re.compile(r"(?P<where>/(?:services|webhooks?|webhookb2|hooks|tokens?)/|/bot[0-9]{4,12}:)[\w/@-]{8,}")
_QUERY = re.compile(r"(?P<name>[?&;](?:code|sid)=)[^\s\"'&;#]+")
_TOKEN = re.compile(r"[A-Za-z0-9_+~=-]{20,}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_PEM = LazyPattern(
    r"----[- ]BEGIN [A-Za-z0-9 ]{0,40}(?:PRIVATE KEY|SECRET|Static key)[A-Za-z0-9 ]{0,20}[- ]----|Private-Lines: ",
    re.IGNORECASE,
)
_PEM_END = LazyPattern(r"----[- ]END [^-]{0,80}-{0,5}|Private-MAC: ", re.IGNORECASE)  # and of PuTTY's files
# Digests and revisions are as random as secrets, and say which model runs.
_RANDOM_NAMES = {"revision", "commit", "sha", "sha256", "digest", "hash", "checksum"}


def hide_forms(text: str) -> str:
    """Any text without private keys, accounts of URLs, and the tokens that issuers made to be found."""
    text = hide_private_keys(text)
    if "://" in text and "@" in text:
        text = _URL_RUN.sub(lambda found: hide_accounts(found[0]), text)
    if "@" in text:
        text = _NO_SCHEME.sub(f"//{HIDDEN}@", _ACCOUNT.sub(f"{HIDDEN}@", text))
    if "-u" in text or "-U" in text:
        text = _GLUED.sub(_hide_glued, text)
    if "://" in text:
        text = _QUERY.sub(rf"\g<name>{HIDDEN}", _WEBHOOK.sub(rf"\g<where>{HIDDEN}", text))
    text = _BEARER.sub(lambda found: found[0] if _is_prose(found) else found["kind"] + HIDDEN, text)
    return _VALUES.sub(HIDDEN, text)


def _is_prose(found: re.Match[str]) -> bool:
    """Whether "token" and what follows are of a sentence, "each token waits": a short word of small letters.

    Behind the name of a header the value is hidden by that name.
    """
    return not found["kind"].lower().startswith("bearer") and _WORD.fullmatch(found["value"]) is not None


def hide_account_word(word: str) -> str:
    """One argument without its account, in which a password may hold blanks and quotes too: nothing ends it but the word."""
    glued = _GLUED_WORD.fullmatch(word)
    if glued is not None:
        return _hide_glued(glued)
    if "@" not in word:
        return word
    if _URL_WORD.match(word) is not None:
        return hide_accounts(word)
    found = _ACCOUNT_WORD.match(word)
    return word if found is None else f"{found['option']}{HIDDEN}@{word[found.end() :]}"


def _hide_glued(found: re.Match[str]) -> str:
    return found[0] if is_ids(found["account"]) else f"{found['option']}{HIDDEN}"


def hide_accounts(run: str) -> str:
    """URLs of one run of characters without NAME:PASSWORD@ and TOKEN@: "redis://:a/b@cache:1" -> "redis://***@cache:1".

    A password may hold slashes and at signs, though the standard wants them escaped: it ends at the last at sign. A path may
    hold one too (oci://registry:5000/model@sha256:ab): then no colon, or only that of a port, stands before it.
    """
    if "://" not in run or "@" not in run:
        return run
    pieces = run.split("://")
    scheme = pieces[0]
    for number, piece in enumerate(pieces[1:], 1):
        last = number == len(pieces) - 1
        end = len(piece) if last else len(piece.rstrip(_SCHEME_LETTERS))
        if (cut := _account_end(piece[:end], scheme)) > 0:
            pieces[number] = f"{HIDDEN}@{piece[cut:]}"
        scheme = piece[end:]
    return "://".join(pieces)


def _account_end(piece: str, scheme: str) -> int:
    """Where the host begins behind the account of a URL without its scheme; 0 when it has none."""
    slash = piece.find("/")
    first = piece.rfind("@", 0, slash if slash >= 0 else len(piece)) + 1  # of the host as the standard has it
    last = piece.rfind("@") + 1
    name, colon, rest = piece[: max(last - 1, 0)].partition(":")
    if not colon or "/" in name or "@" in name:
        return first
    is_port = _PORT.match(rest) is not None and _DATABASES.search(scheme) is None and "/" in rest
    return first if is_port else last


def hide_private_keys(text: str) -> str:
    """Without private keys in PEM; one that has no end hides all that follows."""
    if "----" not in text and "rivate-" not in text:
        return text
    parts: list[str] = []
    place = 0
    while (found := _PEM.search(text, place)) is not None:
        closing = _PEM_END.search(text, found.end())
        end = len(text) if closing is None else closing.end()
        parts += [text[place : found.start()], HIDDEN]
        place = end
    return "".join([*parts, text[place:]])


def hide_random(word: str, option: str) -> str:
    """Runs of letters and digits that no name of a model or a file has; a path stays, since the audit asks where it lies."""
    name, equals, value = word.partition("=")
    name = name if equals and name.startswith("-") else option
    plain = value if equals and word.startswith("-") else word
    if len(plain) < 20 or plain.startswith(("/", "./", "../", "~")) or _RANDOM_NAMES & set(words_of(name)):
        return word
    if _HEX.fullmatch(plain) and len(plain) >= 32:
        return word.removesuffix(plain) + HIDDEN
    return _TOKEN.sub(lambda found: HIDDEN if _is_random(found[0]) else found[0], word)


def _is_random(token: str) -> bool:
    """Whether letters and digits change as those of a secret do: "v2ZqT0b9LrXk81JmPw4c" yes, "DeepSeek-R1-Distill" no."""
    if _HEX.fullmatch(token) and len(token) in (40, 64):  # a commit, a digest: parts of the paths of a cache
        return False
    changes, letters = 0, 0
    for first, second, third in zip(token, token[1:], f"{token[2:]}\0", strict=False):
        if not first.isalnum() or not second.isalnum():
            continue
        letters += 1
        if first.isdigit() != second.isdigit():
            changes += 1
        elif first.islower() and second.isupper():  # "deepSeek" is a word, "dS9" is none
            changes += not third.islower()
        elif first.isupper() and second.islower() and third.isupper():
            changes += 1
    return letters >= 16 and (changes >= 0.28 * letters or (token.endswith("==") and changes >= 3))
