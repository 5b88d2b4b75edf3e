"""Every console of the machine: a line that a person must see wherever they look."""

from __future__ import annotations

import os

from bedplate.host.root.root import Root

_OTHERS = ("ttyS0", "hvc0", "tty0")


def find_consoles(root: Root) -> tuple[str, ...]:
    """Names of devices: the kernel's consoles and those that a machine usually has, each once.

    /dev/console is one of the kernel's, by another name. Source: Documentation/ABI/testing/sysfs-tty.
    """
    active = (root.read_text("/sys/class/tty/console/active") or "").split()
    names = dict.fromkeys([*active, *(name for name in _OTHERS if root.exists(f"/dev/{name}"))])
    return tuple(names) or ("console",)


def write_consoles(root: Root, line: str) -> tuple[str, ...]:
    """Write a line to each console and return the names of those that took it; never waits for one that nobody reads."""
    took = []
    for name in find_consoles(root):
        try:
            descriptor = os.open(root.at(f"/dev/{name}"), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue  # a serial port that is listed and not there
        try:
            os.write(descriptor, f"\r\n{line}\r\n".encode())
            took.append(name)
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return tuple(took)
