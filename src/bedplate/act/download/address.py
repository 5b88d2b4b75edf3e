"""Which addresses are fetched from, and what of an address may be shown. Source: RFC 3986, RFC 6454 (origins)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit

from bedplate.errors import DownloadError

_PORTS = {"http": 80, "https": 443}
_LONGEST = 8192  # characters; a signed URL of a store of objects has some 1,500


def check_address(url: str, *, plain_http: bool) -> None:
    """Raise DownloadError for an address that is not fetched from: other schemes, a user or password in it, http of others.

    plain_http: http is taken from every host; without it only from this one.
    """
    shown = url[:200] if "@" not in url else "the address"
    if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise DownloadError(f"{shown!r}: is not an address: expected at most {_LONGEST} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DownloadError(f"{shown}: is not an address: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise DownloadError(
            f"the address at {parts.hostname}: has a user or a password in it, which every list of processes shows",
            hint="Leave it out, and give the token with HF_TOKEN or --token-file FILE.",
        )
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise DownloadError(f"{shown}: expected https://HOST/PATH")
    if parts.scheme == "http" and not plain_http and not is_loopback(parts.hostname):
        raise DownloadError(
            f"{show_address(url)}: is plain http, which anybody on the way can read and change",
            hint="Use https, or allow it for this pull with --plain-http.",
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this one: "localhost", or an address of 127.0.0.0/8 or ::1. No name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """ "https://Hub.example/a?b" -> "https://hub.example:443": who answers for it, and who may get a token."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS.get(parts.scheme, 0)}"


def show_address(url: str) -> str:
    """The address without its query and fragment, which may hold signatures; at most 200 characters."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"[:200]


def resolve_redirect(url: str, location: str, *, plain_http: bool) -> str:
    """Where a redirect leads. Raises DownloadError for a way that is not gone: other schemes, and from https to http."""
    target = urljoin(url, location)
    try:
        check_address(target, plain_http=plain_http)
    except DownloadError as error:
        raise DownloadError(f"{show_address(url)}: redirects to where nothing is fetched from: {error.message}") from error
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise DownloadError(f"{show_address(url)}: redirects from https to http, at {urlsplit(target).hostname}")
    return target
