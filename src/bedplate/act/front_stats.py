"""Ask HAProxy on its Unix socket what its checks say and which engines made a token (management.txt of HAProxy 3.0, 9.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bedplate.act.front_socket import ask_front, parse_stat_rows
from bedplate.model.supervision import FrontCheck


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
    for row in parse_stat_rows(text):
        if row.get("svname") in ("FRONTEND", "BACKEND", None) or not (row.get("pxname") or "").strip():
            continue
        since, check = row.get("lastchg") or "", (row.get("check_status") or "").lstrip("* ")
        found[str(row["pxname"])] = FrontCheck(
            up=(row.get("status") or "").startswith("UP") and check != "INI",  # before the first check all are up
            check=check,
            since_s=int(since) if since.isdigit() else 0,
        )
    return found
