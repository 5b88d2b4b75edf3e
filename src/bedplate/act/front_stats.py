"""Ask HAProxy on its Unix socket what its checks say and which engines made a token (management.txt of HAProxy 3.0, 9.3)."""

from __future__ import annotations

import csv
import socket
from collections.abc import Sequence
from pathlib import Path

from bedplate.model.supervision import FrontCheck

_ANSWER_S = 5.0
_MOST_BYTES = 4 << 20


def ask_front(path: Path, command: str, *, answer_s: float = _ANSWER_S) -> str | None:
    """What HAProxy answers to one command on one of its sockets; None when it does not in time."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(answer_s)
            client.connect(str(path))
            client.sendall(f"{command}\n".encode())
            client.shutdown(socket.SHUT_WR)
            text = b""
            while len(text) < _MOST_BYTES and (part := client.recv(65536)):
                text += part
    except OSError:
        return None
    return text.decode(errors="replace")


def read_front(path: Path) -> dict[str, FrontCheck] | None:
    """The check of the one server in each backend, by the backend's name; None when nothing answers in 5 s."""
    text = ask_front(path, "show stat")
    return None if text is None else parse_stats(text)


def read_tokens(path: Path, variables: Sequence[str]) -> frozenset[str]:
    """Those of the front's process variables that stand; all are missing where nothing answers."""
    return frozenset(name for name in variables if "type=" in (ask_front(path, f"get var proc.{name}") or ""))


def parse_stats(text: str) -> dict[str, FrontCheck]:
    """Of the CSV that `show stat` prints; rows that are no servers, and lines that are no rows, are left out."""
    found: dict[str, FrontCheck] = {}
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        if row.get("svname") in ("FRONTEND", "BACKEND", None) or not (row.get("pxname") or "").strip():
            continue
        since, check = row.get("lastchg") or "", (row.get("check_status") or "").lstrip("* ")
        found[str(row["pxname"])] = FrontCheck(
            up=(row.get("status") or "").startswith("UP") and check != "INI",  # before the first check all are up
            check=check,
            since_s=int(since) if since.isdigit() else 0,
        )
    return found
