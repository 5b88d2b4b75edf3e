"""Who listens on a TCP port of 127.0.0.1: /proc/net/tcp and the descriptors of the processes that we may see."""

from __future__ import annotations

import socket

from bedplate.host.root.root import Root

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_REACHED_BY = ("0100007F", "00000000")  # 127.0.0.1 and every address, as /proc/net/tcp writes them on little-endian hosts


def is_port_free(port: int) -> bool:
    """Whether this host would let us listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """A port that is free now, chosen by the kernel."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_port_owner(root: Root, port: int) -> str | None:
    """ "process 812 (nginx)" for the listener of the port; None when there is none or its process is not ours to see."""
    wanted = {
        f"socket:[{words[9]}]"
        for line in (root.read_text("/proc/net/tcp") or "").splitlines()[1:]
        if len(words := line.split()) > 9 and words[3] == _LISTEN
        for address, _, number in [words[1].partition(":")]
        if address in _REACHED_BY and int(number, 16) == port
    }
    if not wanted:
        return None
    for pid in root.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            links = {str(entry.readlink()) for entry in root.at(f"/proc/{pid}/fd").iterdir()}
        except OSError:  # it ended, or belongs to somebody else
            continue
        if wanted & links:
            return f"process {pid} ({root.read_text(f'/proc/{pid}/comm') or 'unknown'})"
    return None
