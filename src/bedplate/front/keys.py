"""Keys in HAProxy's configuration: who asks, what that client may use, and how guessing is slowed down.

A key is looked up by its SHA-256, so that the maps hold no secret. No regular expressions: HAProxy compiles them to machine
code, which the unit's MemoryDenyWriteExecute= forbids. The maps are files that a reload reads again, and `bedplate key`
changes them in the running process, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.front.errors import RETRY_AFTER_S, refuse
from bedplate.model.client_key import ClientKey
from bedplate.model.machine_config import LimitsConfig

FRONT_DIRECTORY = "/run/bedplate/front"
LOCAL_LISTENER = "local"
"""Name of the Unix socket that only root of the machine can open; its requests need no key."""
CERTIFICATE_LISTENER = "certificate"
"""Name of the listener whose clients show a certificate."""
_REFUSED_TABLE, _KEY_TABLE = "refused-addresses", "key-requests"
_ALL, _SOME = "*", "-"
_ANSWERING_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMaps:
    """Texts of the map files, by what they look up."""

    keys: str
    """Digest of a key -> the client's row."""
    clients: str
    """Common name of a certificate -> the client's row."""
    scopes: str
    """"ID/MODEL" -> 1, for clients that may not use every model."""
    state: str
    """Holds "complete 1" once every file of keys has been read; until then an unknown key gets 503 and not 401."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRules:
    """How the front end asks for keys."""

    refusals_per_minute: int
    certificates: bool = False
    """Whether there is a listener for clients with certificates."""
    directory: str = FRONT_DIRECTORY
    """Where the map files lie."""


def map_path(name: str, directory: str = FRONT_DIRECTORY) -> str:
    """Path of the file of one of the `KeyMaps`, by the name of its field."""
    return f"{directory}/{name}.map"


def render_key_maps(keys: Sequence[ClientKey], limits: LimitsConfig, *, complete: bool) -> KeyMaps:
    """The maps for these clients, each with its own bounds or the defaults. complete: whether these are all keys.

    A row is "ID:REQUESTS_PER_MINUTE:CONCURRENCY:MAX_TOKENS:EXPIRES:SCOPE"; 0 is no limit, SCOPE is * or -.
    """
    rows = [f"{key.sha256} {_render_row(key, limits, key.expires_s)}" for key in keys if key.sha256]
    for key in keys:
        if key.previous_sha256:
            ends = (key.previous_expires_s, key.expires_s)
            rows.append(f"{key.previous_sha256} {_render_row(key, limits, min(end for end in ends if end))}")
    return KeyMaps(
        keys=_lines(rows),
        clients=_lines([f"{key.id} {_render_row(key, limits, key.expires_s)}" for key in keys if not key.sha256]),
        scopes=_lines([f"{key.id}/{model} 1" for key in keys for model in key.models]),
        state="complete 1\n" if complete else "",
    )


def _render_row(key: ClientKey, limits: LimitsConfig, expires_s: int) -> str:
    bounds = (
        (key.requests_per_minute, limits.requests_per_minute),
        (key.concurrency, limits.concurrency),
        (key.max_tokens, limits.max_tokens),
    )
    numbers = [str(own if own is not None else default) for own, default in bounds]
    return ":".join([key.id, *numbers, str(expires_s), _SOME if key.models else _ALL])


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(lines))


def render_key_tables() -> str:
    """Two backends without servers: what HAProxy counts for each refused address and for each key."""
    return "\n".join(
        [
            f"backend {_REFUSED_TABLE}",
            "    stick-table type ipv6 size 20k expire 2m store gpc0_rate(1m)",
            "",
            f"backend {_KEY_TABLE}",
            "    stick-table type string len 32 size 8k expire 2m store gpc0_rate(1m),conn_cur",
        ]
    )


def render_key_rules(rules: KeyRules) -> list[str]:
    """Rules of the frontend that find the client and refuse the rest; before anything but /health is answered."""
    keys, clients, state = (map_path(name, rules.directory) for name in ("keys", "clients", "state"))
    digest = f"sha2(256),hex,lower,map_str({keys})"
    lines = [
        "    # Who asks: the row of a client (front/keys.py) is found by the digest of its key.",
        f"    acl local so_name -m str {LOCAL_LISTENER}",
        *(_refuse_two_keys(condition) for condition in _TWO_KEYS),
        _find_client(
            f"req.fhdr(authorization),field(2,' '),{digest}", "req.fhdr(authorization),field(1,' '),lower -m str bearer"
        ),
        _find_client(f"req.fhdr(x-api-key),{digest}", "req.fhdr(x-api-key) -m found"),
    ]
    if rules.certificates:
        lines.append(_find_client(f"ssl_c_s_dn(CN),map_str({clients})", f"so_name -m str {CERTIFICATE_LISTENER}"))
    lines += [
        "    http-request set-var(txn.key) var(txn.client),field(1,:)",
        *(
            f"    http-request set-var(txn.key_{name}) var(txn.client),field({index},:),add(0)"
            for index, name in enumerate(("rate", "concurrency", "max_tokens", "expires"), 2)
        ),
        "    acl key_known var(txn.key) -m found",
        f"    acl keys_complete str(complete),map_str({state}) -m found",
        "    acl key_expires var(txn.key_expires) -m int gt 0",
        "    acl key_expired date,sub(txn.key_expires) ge 0",
    ]
    lines += _refuse_strangers(rules) + _bound_key()
    return lines


def _find_client(expression: str, condition: str) -> str:
    return f"    http-request set-var(txn.client) {expression} if {{ {condition} }}"


_TWO_KEYS = (
    "{ req.fhdr_cnt(authorization) gt 1 }",
    "{ req.fhdr_cnt(x-api-key) gt 1 }",
    "{ req.fhdr_cnt(authorization) gt 0 } { req.fhdr_cnt(x-api-key) gt 0 }",
)


def _refuse_two_keys(condition: str) -> str:
    return refuse(400, "The request has more than one key; send one.", code="ambiguous_api_key", when=condition)


def _refuse_strangers(rules: KeyRules) -> list[str]:
    """Without a valid key: 503 while keys are missing, else 401, and 429 for an address that tries too often.

    A client with a valid key is answered from such an address, too. A key has 256 random bits, so that refusing it would
    protect nothing, and one wrong client behind a proxy could lock out all others.
    """
    stranger = "!key_known !local"
    challenge = "hdr WWW-Authenticate Bearer"
    silent = "!{ req.fhdr(authorization) -m found } !{ req.fhdr(x-api-key) -m found }"
    refusals = [
        refuse(
            503,
            "The keys of this machine cannot be read now.",
            kind="server_error",
            code="keys_not_loaded",
            when=f"{stranger} !keys_complete",
            extra=f"hdr Retry-After {RETRY_AFTER_S}",
        ),
        # A network of IPv6 belongs to one client: 2^64 addresses would be 2^64 attempts.
        f"    http-request track-sc0 src,ipmask(32,64) table {_REFUSED_TABLE} if {stranger}",
        refuse(
            429,
            "Too many requests without a valid key came from this address.",
            kind="rate_limit_error",
            code="too_many_invalid_keys",
            when=f"{stranger} {{ sc0_gpc0_rate ge {rules.refusals_per_minute} }}",
            extra="hdr Retry-After 60",
        ),
        f"    http-request sc-inc-gpc0(0) if {stranger}",
        refuse(
            401,
            "A key is required: send it as Authorization: Bearer KEY.",
            kind="authentication_error",
            code="missing_api_key",
            when=f"{stranger} {silent}",
            extra=challenge,
        ),
        refuse(
            401,
            "This key is not valid.",
            kind="authentication_error",
            code="invalid_api_key",
            when=stranger,
            extra=challenge,
        ),
    ]
    expired = refuse(
        401,
        "This key has expired.",
        kind="authentication_error",
        code="expired_api_key",
        when="key_known key_expires key_expired",
        extra=challenge,
    )
    return [*refusals, expired]


def _bound_key() -> list[str]:
    """Requests of each key in a minute, and at once. Refused ones are not counted: a client that asks faster than it may
    still gets as many answers as it may."""
    return [
        f"    http-request track-sc1 var(txn.key) table {_KEY_TABLE} if key_known",
        refuse(
            429,
            "This key has sent its requests for this minute.",
            kind="rate_limit_error",
            code="rate_limit_exceeded",
            when="key_known { var(txn.key_rate) -m int gt 0 } { sc1_gpc0_rate,sub(txn.key_rate) ge 0 }",
            extra=f"hdr Retry-After {RETRY_AFTER_S}",
        ),
        refuse(
            429,
            "This key has as many requests running as it may.",
            kind="rate_limit_error",
            code="concurrency_limit_exceeded",
            when="key_known { var(txn.key_concurrency) -m int gt 0 } { sc1_conn_cur,sub(txn.key_concurrency) gt 0 }",
            extra=f"hdr Retry-After {RETRY_AFTER_S}",
        ),
        "    http-request sc-inc-gpc0(1) if key_known",
    ]


def render_visible(models: Sequence[str], rules: KeyRules | None) -> list[str]:
    """Conditions that the rules behind use: visible_N, whether the client may know of a model, and all_visible.

    rules: None where everybody may know of all of them.
    """
    if rules is None:
        return [f"    acl {name} always_true" for name in ("all_visible", *(f"visible_{i}" for i in range(len(models))))]
    scopes = map_path("scopes", rules.directory)
    whole = ("var(txn.client),field(6,:) -m str *", f"so_name -m str {LOCAL_LISTENER}")
    lines = [f"    acl all_visible {condition}" for condition in whole]
    for index, model in enumerate(models):
        lines += [f"    acl visible_{index} {condition}" for condition in whole]
        lines.append(f"    acl visible_{index} var(txn.key),concat(/{model}),map_str({scopes}) -m found")
    return lines


def render_length_rules() -> list[str]:
    """Rules once the body was read: bound the answer that it asks for, which catalog/request.lua gives as txn.asked."""
    limited = f"key_known {{ var(txn.key_max_tokens) -m int gt 0 }} {{ path {' '.join(_ANSWERING_PATHS)} }}"
    return [
        refuse(
            400,
            "The request asks for a longer answer than this key may have.",
            code="max_tokens_exceeded",
            param="max_tokens",
            when=f"{limited} {{ var(txn.asked),sub(txn.key_max_tokens) gt 0 }}",
        ),
        refuse(
            400,
            "Requests with this key must say how long the answer may be.",
            code="max_tokens_required",
            param="max_tokens",
            when=f"{limited} !{{ var(txn.asked) -m found }}",
        ),
    ]


def render_key_removal() -> list[str]:
    """No engine ever sees a key."""
    return ["    http-request del-header authorization", "    http-request del-header x-api-key"]
