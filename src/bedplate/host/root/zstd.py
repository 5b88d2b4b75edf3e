"""Zstandard: Python's own module since 3.14, else the package `zstandard` of the host extra, imported when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from bedplate.errors import ReadError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_WINDOW_LOG = 27  # 128 MiB, what zstd itself takes without being asked for more
_LEVEL = 12  # a recording of some MB packs in a tenth of a second


def open_zstd(file: BinaryIO, chunk_bytes: int) -> Iterator[bytes]:
    """Decompressed chunks. Raises ReadError when neither module is there, ValueError for damaged data."""
    own, package = _import("compression.zstd"), _import("zstandard")
    if own is not None:
        options = {own.DecompressionParameter.window_log_max: _WINDOW_LOG}
        return _chunks(own.ZstdFile(file, options=options), chunk_bytes, own.ZstdError)
    if package is not None:
        machine = package.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG)
        return _chunks(machine.stream_reader(file, read_across_frames=True), chunk_bytes, package.ZstdError)
    raise ReadError(
        "is packed with zstd, which this Python cannot read",
        hint="Install the package zstandard, or unpack it first: zstd -d FILE.",
    )


def pack_zstd(data: bytes) -> bytes | None:
    """The data packed, the same bytes each time; None when neither module is there."""
    own, package = _import("compression.zstd"), _import("zstandard")
    if own is not None:
        return bytes(own.compress(data, level=_LEVEL))
    if package is not None:
        return bytes(package.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data))
    return None


def has_zstd() -> bool:
    """Whether a recording can be packed with zstd here."""
    return _import("compression.zstd") is not None or _import("zstandard") is not None


def _chunks(reader: Any, chunk_bytes: int, error_kind: type[Exception]) -> Iterator[bytes]:
    try:
        while chunk := reader.read(chunk_bytes):
            yield chunk
    except error_kind as error:
        raise ValueError(str(error)) from error


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
