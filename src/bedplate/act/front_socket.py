"""One command to HAProxy on one of its Unix sockets, and its answer (management.txt of HAProxy 3.0, sections 9.3 and 9.4).

A process has a socket that reports states, one of level admin, and its master has a third. All three answer the same way:
HAProxy closes the connection after the answer to one line.
"""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator
from pathlib import Path

_ANSWER_S = 5.0
_MOST_BYTES = 4 << 20


def exchange(path: Path, command: str, *, answer_s: float = _ANSWER_S) -> str:
    """The answer to one command, which may have a payload (`add map NAME <<`); at most 4 MiB of it.

    answer_s bounds each read. Raises OSError where nothing listens, and TimeoutError where HAProxy is silent for that long.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(answer_s)
        client.connect(str(path))
        client.sendall(f"{command}\n".encode())
        client.shutdown(socket.SHUT_WR)
        text = b""
        while len(text) < _MOST_BYTES and (part := client.recv(65536)):
            text += part
    return text.decode(errors="replace")


def ask_front(path: Path, command: str, *, answer_s: float = _ANSWER_S) -> str | None:
    """What HAProxy answers to one command on one of its sockets; None when it does not in time."""
    try:
        return exchange(path, command, answer_s=answer_s)
    except OSError:
        return None


def parse_stat_rows(text: str) -> Iterator[dict[str | None, str | None]]:
    """The rows of the CSV that `show stat` prints, by column: {"pxname": "engine", "svname": "BACKEND", "scur": "2", ...}.

    A row that is shorter than the heading has None in its last columns; text that is no CSV gives rows without `pxname`.
    """
    yield from csv.DictReader(text.removeprefix("# ").splitlines())
