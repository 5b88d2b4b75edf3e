"""The owner's keys: made once, and never lost or mixed, wherever their publishing is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.errors import ReadError
from bedplate.image import keys
from bedplate.image.keys import ensure_keys

NAMES = ("owner.key", "owner.crt", "pcr.key", "pcr.crt")
made = 0


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Directories, and an openssl that writes which call made a file."""
    global made
    made = 0

    def run(argv: Sequence[str], **_: object) -> None:
        global made
        made += 1
        for option in ("-keyout", "-out"):
            Path(argv[argv.index(option) + 1]).write_text(f"made by call {made}")

    monkeypatch.setattr(keys, "tools_command", lambda _, argv: argv)
    monkeypatch.setattr(keys, "run", run)
    return Paths(cache=tmp_path / "cache", state=tmp_path / "state")


def read(directory: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in directory.iterdir()}


@pytest.mark.parametrize("recovery", [False, True], ids=["no directory", "recovery.crt is there"])
def test_keys_are_made_once(paths: Paths, *, recovery: bool) -> None:
    if recovery:
        paths.keys.mkdir(parents=True)
        (paths.keys / "recovery.crt").write_text("the owner's")
    assert ensure_keys(paths) == ensure_keys(paths)
    assert made == 2
    wanted = dict(zip(NAMES, ("made by call 1",) * 2 + ("made by call 2",) * 2, strict=True))
    assert read(paths.keys) == wanted | ({"recovery.crt": "the owner's"} if recovery else {})
    assert [path.name for path in paths.state.iterdir()] == ["keys"]
    assert (paths.keys / "owner.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("moved", range(5))
def test_a_set_that_was_killed_while_it_was_published_is_finished(paths: Paths, moved: int) -> None:
    """It was refused for good, with a hint to restore from a backup that nobody could have."""
    partial = paths.state / "keys.partial-4711"
    for directory, names in ((paths.keys, NAMES[:moved]), (partial, NAMES[moved:])):
        directory.mkdir(parents=True)
        for name in names:
            (directory / name).write_text("first set")
    (paths.keys / "recovery.crt").write_text("the owner's")
    ensure_keys(paths)
    held = read(paths.keys)
    assert held.pop("recovery.crt") == "the owner's"
    assert set(held) == set(NAMES)
    # With none published nobody has seen the first set: another one is made.
    assert (set(held.values()) == {"first set"}) is (moved > 0)
    assert moved == 4 or not partial.exists()


@pytest.mark.parametrize("after", range(4))
def test_an_error_while_they_are_published_loses_none(paths: Paths, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    paths.keys.mkdir(parents=True)
    (paths.keys / "recovery.crt").write_text("the owner's")
    renamed: list[str] = []
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if len(renamed) == after:
            raise OSError(28, "No space left on device")
        renamed.append(self.name)
        return rename(self, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="No space"):
            ensure_keys(paths)
    before = read(paths.keys)
    ensure_keys(paths)
    assert read(paths.keys).items() >= before.items()
    assert set(read(paths.keys)) == {*NAMES, "recovery.crt"}
    assert made == (4 if after == 0 else 2)


@pytest.mark.parametrize("left", [None, NAMES[1:2], NAMES])
def test_a_part_without_its_rest_is_refused_and_left_as_it_is(paths: Paths, left: Sequence[str] | None) -> None:
    paths.keys.mkdir(parents=True)
    (paths.keys / "owner.key").write_text("old")
    (paths.keys / "pcr.key").write_text("")
    if left is not None:
        (paths.state / "keys.partial-1").mkdir()
        for name in left:
            (paths.state / "keys.partial-1" / name).write_text("another set")
    with pytest.raises(ReadError, match=r"owner\.crt, pcr\.key, pcr\.crt missing or empty beside owner\.key"):
        ensure_keys(paths)
    assert read(paths.keys) == {"owner.key": "old", "pcr.key": ""}
    assert left is None or len(read(paths.state / "keys.partial-1")) == len(left)
    assert made == 0
