"""Recordings that come through pipes: read to a bound, and never waited for without an end."""

from __future__ import annotations

import gzip
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.test_foreign import LSPCI
from tests.unit.test_recording import make_tar

from bedplate.errors import ReadError
from bedplate.flows.machine import read_facts_of
from bedplate.host.root import pipe
from bedplate.host.root.pipe import read_pipe
from bedplate.host.root.recording import open_recording


@contextmanager
def written(data: bytes) -> Iterator[Path]:
    """The path of a pipe that a thread writes to, as a shell makes it for <(...)."""
    out, into = os.pipe()

    def write() -> None:
        with open(into, "wb", closefd=True) as file:  # noqa: PTH123 (a descriptor)
            try:
                file.write(data)
            except BrokenPipeError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield Path(f"/dev/fd/{out}")
    finally:
        os.close(out)
        writer.join()


def test_what_a_shell_makes_of_a_command_is_read() -> None:
    with written(gzip.compress(LSPCI.encode() * 5)) as path:
        assert [device.address for device in read_facts_of(path, ()).pci] == ["0000:19:00.0"]


def test_an_archive_through_a_pipe() -> None:
    with written(gzip.compress(make_tar())) as path:
        assert open_recording(path).read("/proc/version").value == "Linux version 6.12"
    with written(make_tar()) as path:
        assert [problem.source for problem in read_facts_of(path, ()).problems] == ["memory"]


def test_a_fifo_that_somebody_writes_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(LSPCI.encode(),))
    writer.start()
    assert read_pipe(tmp_path / "fifo") == LSPCI.encode()
    writer.join()


def test_a_fifo_that_nobody_writes_to_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ReadError, match=r"fifo: is a pipe through which nothing came for 0\.1 s"):
        read_pipe(tmp_path / "fifo", quiet_s=0.1)


def test_a_writer_that_stops_is_refused() -> None:
    out, into = os.pipe()
    os.write(into, b"some")
    with pytest.raises(ReadError, match="only 4 bytes came"):
        read_pipe(Path(f"/dev/fd/{out}"), quiet_s=0.1)
    os.close(out)
    os.close(into)


def test_more_than_a_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "PIPE_MOST", 1 << 20)
    with written(bytes(2 << 20)) as path, pytest.raises(ReadError, match="more than 1 MiB"):
        read_pipe(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(ReadError, match="is a device or a terminal"):
        read_pipe(Path(path))


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(ReadError, match="is a socket"):
            read_pipe(tmp_path / "socket")


def test_files_and_directories_are_read_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert read_pipe(tmp_path) is None
    assert read_pipe(tmp_path / "file") is None
    with pytest.raises(ReadError, match="nothing: cannot read: No such file"):
        read_pipe(tmp_path / "nothing")
