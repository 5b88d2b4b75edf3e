"""A line on every console: those of the kernel and those that a machine usually has, each once, and none waits."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.tree import make_root

from bedplate.act.consoles import find_consoles, write_consoles


def test_a_line_goes_to_every_console_once(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "sys/class/tty/console/active": "tty0 ttyS1",
            "dev/tty0": "",
            "dev/ttyS0": "",
            "dev/hvc0": "",
        },
    )  # ttyS1 is the kernel's and not there
    assert find_consoles(root) == ("tty0", "ttyS1", "ttyS0", "hvc0")
    assert write_consoles(root, "bedplate: it is so.") == ("tty0", "ttyS0", "hvc0")
    for name in ("tty0", "ttyS0", "hvc0"):
        assert (tmp_path / "dev" / name).read_bytes().count(b"bedplate: it is so.\r\n") == 1


def test_a_console_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"sys/class/tty/console/active": "hvc0"})
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/hvc0")
    assert write_consoles(root, "nobody") == ()
    full = os.open(tmp_path / "dev/hvc0", os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(full, bytes(4096))
    except BlockingIOError:
        assert write_consoles(root, "full") == ()
    finally:
        os.close(full)
