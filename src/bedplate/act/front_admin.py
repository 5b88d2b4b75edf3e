"""Change maps and certificates in the running HAProxy, without a reload (management.txt of HAProxy 3.0, section 9.3).

The socket is of level admin: mode 0600 of HAProxy's user, and not the one that reports states. The files are written first
by the caller, so that a reload finds what was set here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bedplate.act.front_socket import exchange
from bedplate.errors import CommandError

_ANSWER_S = 10.0
_PIECE_BYTES = 8192  # of a payload: HAProxy takes a command with it up to the size of its buffer, 288 KiB and more
_VERSION = re.compile(r"New version created: (\d+)")


def replace_map(admin_socket: Path, path: str, text: str) -> None:
    """Put the lines of `text` ("KEY VALUE") in the place of all entries of the map file `path`, in one step.

    A request sees the old entries or the new ones. Raises CommandError when HAProxy does not answer or refuses.
    """
    answer = _ask(admin_socket, f"prepare map {path}")
    version = _VERSION.search(answer)
    if version is None:
        raise _refused(f"prepare map {path}", answer)
    for piece in _pieces(text):
        _expect(admin_socket, f"add map @{version[1]} {path} <<\n{piece}\n", "")
    _expect(admin_socket, f"commit map @{version[1]} {path}", "")


def replace_certificate(admin_socket: Path, path: str, pem: str) -> None:
    """Put `pem` (key, certificate, chain) in the place of the certificate file `path`; connections that are open go on.

    Raises CommandError when HAProxy does not answer or refuses; the certificate of before stays then.
    """
    lines = "".join(f"{line}\n" for line in pem.splitlines() if line)
    _expect(admin_socket, f"set ssl cert {path} <<\n{lines}\n", "Transaction")
    answer = _ask(admin_socket, f"commit ssl cert {path}")
    if "Success" not in answer:
        _ask(admin_socket, f"abort ssl cert {path}")
        raise _refused(f"commit ssl cert {path}", answer)


def _pieces(text: str) -> Iterator[str]:
    """Lines in pieces of some kilobytes; no line is empty, since an empty line ends a payload."""
    piece = ""
    for line in text.splitlines():
        if line and len(piece) + len(line) > _PIECE_BYTES:
            yield piece
            piece = ""
        piece += f"{line}\n" if line else ""
    if piece:
        yield piece


def _expect(admin_socket: Path, command: str, expected: str) -> None:
    answer = _ask(admin_socket, command)
    if (expected and expected not in answer) or (not expected and answer):
        raise _refused(command.partition(" <<")[0], answer)


def _refused(command: str, answer: str) -> CommandError:
    return CommandError(f"HAProxy: {command}: got {answer[:200]!r}", status=None, hint="Reload the front end.")


def _ask(admin_socket: Path, command: str) -> str:
    try:
        return exchange(admin_socket, command, answer_s=_ANSWER_S).strip()
    except OSError as error:
        raise CommandError(f"{admin_socket}: HAProxy does not answer: {error.strerror or error}", status=None) from error
