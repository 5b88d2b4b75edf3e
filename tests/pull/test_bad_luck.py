"""A full disk, a killed process, Ctrl-C, two pulls at once: the store stays whole, and the next pull goes on."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.act.download.fetch import open_downloads
from bedplate.act.download.partial import Partial
from bedplate.catalog.facts import KNOWN_ANSWER_GGUF
from bedplate.cli import main as command
from bedplate.errors import DownloadError, PreflightError
from bedplate.model.download import Access, Patience
from tests.pull.hub import put_repository
from tests.pull.server import QUICK, Fault, Handler, Notes, Server, content, remote

MODEL = KNOWN_ANSWER_GGUF.read_bytes()
HALF = len(MODEL) // 2


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.origin)
        monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process becomes longer: write(2) fails with EFBIG, as where a disk takes no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class FullDisk:
    """A C library whose fallocate(2) says what a full disk, or a quota, says."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fallocate(self, *_: object) -> int:
        ctypes.set_errno(self.number)
        return -1


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded")]
)
def test_a_disk_that_cannot_take_it_is_known_before(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    hub.put("/m.gguf", content(3_000_000))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: FullDisk(number))
    with (
        open_downloads(tmp_path / "d", Access(), Notes(), patience=QUICK) as downloads,
        pytest.raises(PreflightError, match=rf"m\.gguf: needs 2\.9 MiB more.*{says}"),
    ):
        downloads.fetch(remote(hub, "/m.gguf"))
    assert list((tmp_path / "d").iterdir()) == []


def test_a_file_system_that_cannot_reserve_is_written_to(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("/m.gguf", content(100_000))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: FullDisk(errno.EOPNOTSUPP))
    with open_downloads(tmp_path / "d", Access(), Notes(), patience=QUICK) as downloads:
        assert downloads.fetch(remote(hub, "/m.gguf")).size_bytes == 100_000


def test_a_disk_that_becomes_full_keeps_what_came(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = content(3_000_000)
    hub.put("/m.gguf", body)
    file = remote(hub, "/m.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "check_room", lambda partial, size: None)  # others filled the disk after it was asked
        with (
            files_end_at(1_500_000),
            open_downloads(tmp_path / "d", Access(), Notes(), patience=QUICK) as downloads,
            pytest.raises(PreflightError, match=r"m\.gguf: stopped after .* MiB: .*File too large") as caught,
        ):
            downloads.fetch(file)
    assert caught.value.exit_code == 3 and "goes on where it stopped" in str(caught.value.hint)
    (part,) = (tmp_path / "d").glob("*.part")
    assert part.read_bytes() == body[: part.stat().st_size] and part.stat().st_size > 0
    with open_downloads(tmp_path / "d", Access(), Notes(), patience=QUICK) as downloads:
        assert downloads.fetch(file).sha256 == hashlib.sha256(body).hexdigest()


def test_a_model_larger_than_the_disk_is_refused_by_its_list(hub: Server, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"type": "file", "path": "m.gguf", "size": 10, "oid": "0" * 40, "lfs": {"oid": "1" * 64, "size": 2**49}}
    put_repository(hub, "org/known", {}, rows=[row])
    assert command.main(["model", "pull", "hf:org/known"]) == 3
    assert "524288.0 GiB for the model" in capsys.readouterr().err
    assert not [path for path, _ in hub.asked if "/resolve/" in path]


def dripping(size: int, wait_s: float) -> Fault:
    """So many bytes of the body at once, and a wait after each."""

    def fault(handler: Handler) -> bool:
        served = handler.server.files[handler.path.partition("?")[0]]

        def send(body: bytes) -> None:
            for start in range(0, len(body), size):
                handler.wfile.write(body[start : start + size])
                if handler.server.ended.wait(wait_s):
                    break

        handler.serve(served, send=send)
        handler.close_connection = True
        return True

    return fault


def test_a_slow_server_is_waited_for(hub: Server, tmp_path: Path) -> None:
    """All of it takes longer than a silence may; each piece does not."""
    body = content(1_500_000)
    hub.put("/m.gguf", body)
    hub.always = dripping(40_000, 0.05)
    patience = Patience(silence_s=1.0, attempts=6, first_wait_s=0.01)
    with open_downloads(tmp_path / "d", Access(), Notes(), patience=patience) as downloads:
        assert downloads.fetch(remote(hub, "/m.gguf")).sha256 == hashlib.sha256(body).hexdigest()


def test_a_server_that_drips_is_given_up(hub: Server, tmp_path: Path) -> None:
    """A byte now and then: no read ever times out, and it would take a day."""
    hub.put("/m.gguf", content(1_500_000))
    hub.always = dripping(1, 0.05)
    patience = Patience(silence_s=0.3, attempts=3, first_wait_s=0.01)
    with (
        open_downloads(tmp_path / "d", Access(), Notes(), patience=patience) as downloads,
        pytest.raises(DownloadError, match="given up after 3 attempts"),
    ):
        downloads.fetch(remote(hub, "/m.gguf"))


def stop_half_way(handler: Handler) -> bool:
    """Half of the model; then nothing."""
    served = handler.server.files[handler.path.partition("?")[0]]

    def send(body: bytes) -> None:
        handler.wfile.write(body[:HALF])
        handler.server.ended.wait(120)

    handler.serve(served, send=send)
    handler.close_connection = True
    return True


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_pull_that_is_ended_goes_on(
    hub: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: signal.Signals
) -> None:
    put_repository(hub, "org/known", {"m.gguf": MODEL})
    listing = 3  # requests before the file itself: the commit, and two pages of the list; then two for its header
    hub.faults = [lambda handler: False] * listing + [stop_half_way] * 3
    process = subprocess.Popen(
        [sys.executable, "-m", "bedplate.cli.main", "model", "pull", "hf:org/known"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    pulls = tmp_path / "state/models/pulls"
    deadline = time.monotonic() + 120
    # A mebibyte is there as soon as the header is read: what is more is of the fetch itself, which the fault stops.
    while not any(part.stat().st_size > 1 << 20 for part in pulls.glob("*.part")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    # The same pull meanwhile: refused, and nothing is harmed.
    assert command.main(["model", "pull", "hf:org/known"]) == 5
    assert "m.gguf: another bedplate is fetching this file" in capsys.readouterr().err
    process.send_signal(signum)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if signum == signal.SIGKILL else 130), err
    if signum != signal.SIGKILL:
        assert "of it are kept; give the same command again to go on" in err
    (part,) = pulls.glob("*.part")
    there = part.stat().st_size
    assert part.read_bytes() == MODEL[:there] and 1 << 20 <= there < len(MODEL)
    hub.faults.clear()
    hub.asked.clear()
    assert command.main(["model", "pull", "hf:org/known"]) == 0
    assert hub.ranges()[listing] == f"bytes={there}-"
    assert command.main(["model", "verify"]) == 0
    assert capsys.readouterr().out.endswith("m: ok\n")
    assert [path.name for path in pulls.iterdir()] == [".lock"]  # the killed one's tree, too
