"""CORS: which web pages of other origins may call the front from a browser. Source: the Fetch standard, section 3.3."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.errors import UsageError
from bedplate.model.network_names import is_origin

ANY = "*"
_PREFLIGHT_S = 600


def check_origins(origins: Sequence[str]) -> None:
    """Raise UsageError for what is not an origin as browsers write it: https://host, http://host:port, or "*" for all."""
    for origin in origins:
        if origin != ANY and not is_origin(origin):
            raise UsageError(
                f"{origin!r} is not an origin: expected https://HOST, http://HOST:PORT or {ANY}",
                hint="Write it as the browser sends it, without a path and without a slash at the end.",
            )


def render_cors(origins: Sequence[str]) -> list[str]:
    """The rules for requests of these origins, a preflight and any other; none without origins. Raises as check_origins."""
    check_origins(origins)
    if not origins:
        return []
    match = "-m found" if ANY in origins else f"-m str {' '.join(origins)}"
    known = "{ var(txn.origin) -m found }"
    preflight = "{ req.hdr(access-control-request-method) -m found }"
    allowed = (
        "hdr Access-Control-Allow-Methods GET,POST"
        " hdr Access-Control-Allow-Headers %[req.fhdr(access-control-request-headers)]"
        f" hdr Access-Control-Max-Age {_PREFLIGHT_S}"
    )
    return [
        f"    acl cors req.hdr(origin) {match}",
        "    http-request set-var(txn.origin) req.hdr(origin) if cors",
        f"    http-after-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if {known}",
        f"    http-after-response set-header Access-Control-Expose-Headers x-request-id,retry-after if {known}",
        "    # A cache must not give the answer for one origin to another.",
        "    http-after-response add-header Vary Origin",
        f"    http-request return status 204 {allowed} if METH_OPTIONS cors {preflight}",
    ]
