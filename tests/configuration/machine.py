"""A small machine below a directory, and a service manager that only remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedplate.errors import CommandError
from bedplate.model.config_change import UnitAction

FULL = (Path(__file__).parent / "full.toml").read_text()
FILES = {
    "etc/hostname": "bedplate\n",
    "proc/sys/kernel/hostname": "bedplate\n",
    "proc/net/fib_trie": "     |-- 192.0.2.9\n        /32 host LOCAL\n",
    "usr/lib/os-release": "ID=bedplate\n",
    "usr/lib/bedplate/machine.toml": "schema = 1\n",
}


def make_machine(top: Path, *, variant: str = "development", image: bool = True) -> Path:
    for name, text in FILES.items():
        if image or not name.startswith("usr/"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
    if image:
        record = {"id": "bedplate", "version": "0.1", "variant": variant}
        (top / "usr/lib/bedplate/image.json").write_text(json.dumps(record))
        (top / "proc/self").mkdir()
        (top / "proc/self/mountinfo").write_text("1 1 0:1 / /var rw - ext4 /dev/x rw\n")
    for name in ("etc/systemd/network", "etc/systemd/system", "run/systemd/system", "var/lib/bedplate/config"):
        (top / name).mkdir(parents=True)
    return top


def snapshot(top: Path) -> dict[str, str | None]:
    """Every file and directory but the records of what was done."""
    found = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if not name.startswith(("var/lib/bedplate/config", "run/systemd/system/bedplate-", "run/systemd/system/.bedplate-")):
            found[name] = path.read_text() if path.is_file() else None
    return found


class FakeServices:
    """Remembers each action; `fails` are those that it refuses, `cuts` those after which the machine has no address."""

    def __init__(self, top: Path, *, fails: tuple[str, ...] = (), cuts: tuple[str, ...] = ()) -> None:
        self.top, self.fails, self.cuts = top, fails, cuts
        self.asked: list[str] = []

    def is_running(self) -> bool:
        return True

    def carry_out(self, action: UnitAction) -> None:
        self.asked.append(str(action))
        if str(action) in self.fails:
            raise CommandError(f"{action}: refused", status=1)
        if str(action) in self.cuts:
            changed = (self.top / "etc/systemd/network/40-bedplate-eno1.network").exists()
            (self.top / "proc/net/fib_trie").write_text("" if changed else FILES["proc/net/fib_trie"])


class Silence:
    """A Progress that keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def phase(self, name: str, /) -> Iterator[None]:
        raise AssertionError(name)
        yield

    def detail(self, text: str) -> None:
        raise AssertionError(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


def put(top: Path, text: str, name: str = "given.toml") -> Path:
    """A file to apply, outside of the machine."""
    path = top.parent / f"{top.name}-{name}"
    path.write_text(text)
    return path
