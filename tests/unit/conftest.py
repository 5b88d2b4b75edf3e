"""Unit tests start no program, connect to nothing outside themselves and do not see the machine that they run on.

An audit hook (PEP 578) sees every such call, also through a library. A test that needs one of these says so with a reason:
`@pytest.mark.touches("spawn", why="...")`; the kinds are spawn, connect and machine. What needs more belongs beside
tests/machine_lifecycle or tests/serving.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

_SPAWNS = ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")
_CONNECTS = ("socket.connect", "socket.sendto", "socket.getaddrinfo")
_MACHINE = ("/sys/", "/proc/", "/run/", "/var/lib/")
# What Python and pytest themselves look at: their own descriptors, and whether they have terminals or cgroups for threads.
_OWN = ("/proc/self/", f"/proc/{os.getpid()}/", "/proc/thread-self/")

_allowed: set[str] | None = None  # None: no test of this directory runs
_seen: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event in _SPAWNS:
        kind, what = "spawn", f"{event} {arguments[:2]!r}"
    elif event in _CONNECTS:
        kind, what = "connect", f"{event} {arguments[1:]!r}"
    elif event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
        if not arguments[0].startswith(_MACHINE) or arguments[0].startswith(_OWN):
            return
        kind, what = "machine", f"{event} {arguments[0]}"
    else:
        return
    if kind not in _allowed:
        _seen.append(f"{kind}: {what[:200]}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def walls(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that spawned, connected or read the machine without saying so."""
    global _allowed
    marker = request.node.get_closest_marker("touches")
    if marker is not None and not marker.kwargs.get("why"):
        pytest.fail("touches() needs why=")
    _seen.clear()
    _allowed = set(marker.args) if marker is not None else set()
    try:
        yield
    finally:
        _allowed = None
    if _seen:
        pytest.fail("a unit test reached outside itself:\n  " + "\n  ".join(dict.fromkeys(_seen)), pytrace=False)
