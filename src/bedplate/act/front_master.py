"""HAProxy's master process: reload it, and look into the processes that a reload left (management.txt of HAProxy 3.0, 9.4).

After a reload a new process takes every new connection; a former one answers the requests that it has, and ends.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bedplate.act.front_socket import ask_front, parse_stat_rows
from bedplate.errors import CommandError

_RELOAD_S = 60.0


def reload_front(path: Path) -> None:
    """Start a process of the front with the configuration as it is now; returns when it takes connections.

    Raises CommandError with what HAProxy says of a configuration that it refuses, and where its master does not answer; the
    process of before then goes on as it was.
    """
    answer = ask_front(path, "reload", answer_s=_RELOAD_S)
    if answer is None:
        raise CommandError(f"{path}: the front's master process does not answer", status=None)
    if not answer.startswith("Success=1"):
        said = [line for line in answer.splitlines() if "[ALERT]" in line] or answer.splitlines()[:1]
        raise CommandError(f"the front refuses its new configuration: {' '.join(said)[:1000]}", status=None)


def read_former_requests(path: Path) -> dict[str, int] | None:
    """Requests that former processes still have, waiting ones too, by backend; None when the master does not answer."""
    text = ask_front(path, "show proc")
    if text is None:
        return None
    requests: Counter[str] = Counter()
    for pid in parse_former(text):
        requests.update(parse_requests(ask_front(path, f"@!{pid} show stat") or ""))
    return dict(requests)


def parse_former(text: str) -> tuple[int, ...]:
    """Process ids of the former workers in what `show proc` prints; () where a reload left none."""
    _, _, rest = text.partition("# old workers")
    rows = rest.partition("\n# ")[0].splitlines()
    return tuple(int(row.split()[0]) for row in rows if row.split() and row.split()[0].isdigit())


def parse_requests(text: str) -> dict[str, int]:
    """Requests by backend in the CSV that `show stat` prints; () for a process that has ended meanwhile."""
    found: dict[str, int] = {}
    for row in parse_stat_rows(text):
        count = row.get("scur") or ""
        if row.get("svname") == "BACKEND" and count.isdigit():
            found[str(row["pxname"])] = int(count)
    return found
