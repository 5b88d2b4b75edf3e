"""One connection at a time: a request, the redirects that it meets, and a body that is read piece by piece.

A token goes to one origin only, over TLS or to this host, whatever redirects where. Certificates are verified as Python does
it: $SSL_CERT_FILE names a CA. Proxies are those of the environment (https_proxy, http_proxy, no_proxy), for other hosts than
this one. http.client bounds the headers: 100 of at most 64 KiB.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from bedplate import __version__
from bedplate.act.download.address import check_address, is_loopback, origin_of, resolve_redirect, show_address
from bedplate.errors import DownloadError
from bedplate.model.download import Access

_REDIRECTS = frozenset([301, 302, 303, 307, 308])
_MOST_REDIRECTS = 8
_PASSING = frozenset([408, 425, 429])  # and every 5xx: asked again later, the answer may be another one
_WANTED = frozenset([200, 206, 416])
_SHUT_BOTH = 2  # SHUT_RDWR of sys/socket.h
_DRAINED = 1 << 16  # bytes of the body of a redirect that are read to keep its connection
_EVERY_CALL = 1 << 18  # bytes; less while little arrives, so that what came is counted before a connection is given up
_SLOW_CALL = 1 << 12
_FAST_S = 0.05


class PassingFailure(Exception):
    """Something that may go by itself; wait_s is what the server asked to wait, None where it did not."""

    def __init__(self, message: str, *, wait_s: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message, self.wait_s, self.status = message, wait_s, status


@dataclass(slots=True, kw_only=True)
class Answer:
    """The answer behind all redirects; status is 200, 206 or 416."""

    status: int
    headers: http.client.HTTPMessage
    url: str
    """Where it came from at last."""
    response: http.client.HTTPResponse
    hops: tuple[http.client.HTTPMessage, ...]
    """Headers of the redirects and of the answer, in their order."""
    host: str
    hide: Callable[[str], str]
    _call_bytes: int = _SLOW_CALL

    def read_into(self, view: memoryview) -> int:
        """How many bytes of the body came, at most as many as the view holds; 0 at its end. Raises PassingFailure."""
        wanted = min(len(view), self._call_bytes)
        begun_s = time.monotonic()
        try:
            count = self.response.readinto(view[:wanted])
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # ValueError, AttributeError: another thread has ended the connection (HttpLink.abort).
            raise PassingFailure(self.hide(f"{self.host}: the connection broke: {describe(error)}")) from error
        fast = time.monotonic() - begun_s < _FAST_S
        self._call_bytes = min(_EVERY_CALL, wanted * 4) if fast else _SLOW_CALL
        return count


class HttpLink:
    """At most one open connection, reused where the next request goes to the same origin. Closed by its owner."""

    def __init__(self, access: Access, *, silence_s: float) -> None:
        self.access = access
        self.waiting_since: float | None = None
        """time.monotonic() since when nothing has come; None while nothing is waited for. For whoever watches it."""
        self._silence_s = silence_s
        self._connection: http.client.HTTPConnection | None = None
        # Where a server closes after its answer, http.client gives these up before the body is read.
        self._socket: Any = None
        self._response: http.client.HTTPResponse | None = None
        self._origin = ""
        self._aborted = False

    def ask(self, url: str, headers: Mapping[str, str]) -> Answer:
        """The answer to a GET, redirects followed. Raises PassingFailure, and DownloadError for what stays as it is."""
        hops: list[http.client.HTTPMessage] = []
        check_address(url, plain_http=self.access.plain_http)
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._send(url, headers)
            hops.append(response.headers)
            host = urlsplit(url).hostname or ""
            if response.status not in _REDIRECTS:
                answer = Answer(
                    status=response.status,
                    headers=response.headers,
                    url=url,
                    response=response,
                    hops=tuple(hops),
                    host=host,
                    hide=self.hide,
                )
                self._check_status(answer)
                return answer
            location = response.headers.get("Location", "")
            if not location:
                raise DownloadError(f"{show_address(url)}: redirects ({response.status}) and does not say where")
            target = resolve_redirect(url, location, plain_http=self.access.plain_http)
            self._drain(response)
            url = target
        raise DownloadError(f"{show_address(url)}: more than {_MOST_REDIRECTS} redirects")

    def hide(self, text: str) -> str:
        """The text without the token, which a server may have sent back."""
        return text.replace(self.access.token, "[token]") if self.access.token else text

    def abort(self) -> None:
        """End the connection under whoever reads from it, in another thread, which then gets a PassingFailure."""
        self._aborted = True
        with contextlib.suppress(OSError, AttributeError):  # it was closed meanwhile, or is not open yet
            self._socket.shutdown(_SHUT_BOTH)

    def close(self) -> None:
        """Give the connection up, with what of a body is not read yet."""
        for opened in (self._response, self._connection, self._socket):
            if opened is not None:
                with contextlib.suppress(OSError, ValueError):
                    opened.close()
        self._response = self._connection = self._socket = None
        self._origin = ""

    def _send(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        origin = origin_of(url)
        sent = {"Accept-Encoding": "identity", "User-Agent": f"bedplate/{__version__}", **headers}
        if self.access.token and origin == self.access.token_origin and may_get_token(url):
            sent["Authorization"] = f"Bearer {self.access.token}"
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        for is_last in (False, True):
            fresh = self._connection is None or self._origin != origin or self._connection.sock is None
            self.waiting_since = time.monotonic()
            try:
                connection, prefix, extra = self._connect(url) if fresh else self._reused()
                connection.request("GET", prefix + path, headers=sent | extra)
                self._socket = connection.sock
                self._response = response = connection.getresponse()
                if self._aborted:  # http.client takes a connection that ends within the headers for their end
                    raise TimeoutError
                return response
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise DownloadError(
                    f"{show_address(url)}: its certificate is not trusted: {error.verify_message}",
                    hint="If a CA of your own signed it, name its certificate: SSL_CERT_FILE=FILE.",
                ) from error
            except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
                self.close()
                if fresh or is_last or self._aborted:
                    self._aborted = False
                    raise PassingFailure(
                        self.hide(f"{parts.hostname}: no answer: {describe(error)}")
                    ) from error  # an idle connection may have been closed by the server: asked once more on a new one
        raise AssertionError("unreachable")

    def _reused(self) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        assert self._connection is not None
        return self._connection, "", {}

    def _connect(self, url: str) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """(connection, what goes before the path, headers for a proxy)"""
        self.close()
        parts = urlsplit(url)
        host = parts.hostname or ""
        proxy = _find_proxy(parts.scheme, host)
        made: http.client.HTTPConnection
        extra: dict[str, str] = {}
        prefix = ""
        target, port = (proxy.hostname, proxy.port) if proxy is not None else (host, parts.port)
        if proxy is not None and proxy.username:
            secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            extra = {"Proxy-Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
        if parts.scheme == "https":
            made = http.client.HTTPSConnection(
                target or "", port, timeout=self._silence_s, context=ssl.create_default_context()
            )
            if proxy is not None:
                made.set_tunnel(host, parts.port or 443, headers=extra)
                extra = {}
        else:
            made = http.client.HTTPConnection(target or "", port, timeout=self._silence_s)
            prefix = f"http://{parts.netloc}" if proxy is not None else ""
        self._connection = made
        self._origin = origin_of(url) if not prefix else ""  # absolute requests are not reused
        return made, prefix, extra

    def _drain(self, response: http.client.HTTPResponse) -> None:
        try:
            response.read(_DRAINED)
        except (OSError, http.client.HTTPException):
            self.close()
        if not response.isclosed():
            self.close()

    def _check_status(self, answer: Answer) -> None:
        if answer.status in _WANTED:
            return
        self.close()
        reason = answer.headers.get("X-Error-Message") or http.client.responses.get(answer.status, "")
        reason = "".join(sign for sign in self.hide(reason) if sign.isprintable())[:200]
        text = f"{show_address(answer.url)}: status {answer.status}{f' ({reason})' if reason else ''}"
        if answer.status in _PASSING or answer.status >= 500:
            raise PassingFailure(text, wait_s=parse_retry_after(answer.headers.get("Retry-After", "")), status=answer.status)
        raise DownloadError(text, status=answer.status, hint=_HINTS.get(answer.status))


_HINTS = {
    401: "It wants a token that it knows: give one with HF_TOKEN, or --token-file FILE.",
    403: "Accept the conditions of the model on its page, and give a token of the account that did: HF_TOKEN.",
    404: "Check the name, the revision and the file.",
}


def may_get_token(url: str) -> bool:
    """Whether a secret may go to an address: over TLS, or to this host."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def parse_retry_after(text: str, *, now_s: float | None = None) -> float | None:
    """Seconds of a Retry-After: "30", or a date; None for anything else. Source: RFC 9110, section 10.2.3."""
    if re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII):
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, when - (time.time() if now_s is None else now_s))


def describe(error: BaseException) -> str:
    """What a broken connection says of itself; those of Python without a text are called by their class."""
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return "".join(sign for sign in text if sign.isprintable())[:200]


def _find_proxy(scheme: str, host: str) -> _Proxy | None:
    """That of the environment; None where there is none for this host."""
    if is_loopback(host):
        return None
    from urllib.request import getproxies, proxy_bypass

    named = getproxies().get(scheme)
    if not named or proxy_bypass(host):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme != "http" or not parts.hostname:
        raise DownloadError(
            f"{scheme}_proxy: expected http://HOST:PORT", hint="Set it to a proxy that is spoken to over http, or unset it."
        )
    return _Proxy(hostname=parts.hostname, port=parts.port or 80, username=parts.username, password=parts.password)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proxy:
    hostname: str
    port: int
    username: str | None
    password: str | None
