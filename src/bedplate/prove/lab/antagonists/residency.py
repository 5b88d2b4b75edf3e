"""How much of a file lies in the page cache, by mincore(2); and taking it out, verified.

An eviction of the wrong file once gave "no pressure": whoever needs a file cold or hot asks before and after.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from bedplate.errors import ReadError

_PAGE = os.sysconf("SC_PAGE_SIZE")
_WINDOW = 256 << 20  # bytes mapped at a time: 64 KiB of answer


def resident_bytes(path: Path, *, enough_bytes: int | None = None) -> int:
    """Bytes of a file that are in the page cache now; looks no further once it has seen `enough_bytes`.

    Asking for every page of 24 GiB takes a CPU for tenths of a second. Raises ReadError when it cannot be opened or mapped.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    pages = 0
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for offset in range(0, size, _WINDOW):
                if enough_bytes is not None and pages * _PAGE >= enough_bytes:
                    break
                length = min(_WINDOW, size - offset)
                # PROT_WRITE of a private mapping: ctypes takes the address of writable memory only; nothing is touched.
                with mmap.mmap(
                    file.fileno(), length, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE, offset=offset
                ) as window:
                    answer = ctypes.create_string_buffer((length + _PAGE - 1) // _PAGE)
                    view = ctypes.c_char.from_buffer(window)
                    status = libc.mincore(ctypes.addressof(view), length, answer)
                    del view
                    if status != 0:
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                    pages += answer.raw.count(b"\x01")  # bit 0; the others are reserved and zero
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: cannot determine which part of it is in the page cache: {error}") from error
    return min(pages * _PAGE, size)


def evict(path: Path, *, most_left: float = 0.02) -> int:
    """Take a file out of the page cache and return the bytes that stayed. Raises ReadError when more than a share stayed.

    Dirty pages are written first; pages that a process has mapped stay, and so do those of a tmpfs.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(file.fileno()).st_size
    left = resident_bytes(path)
    if left > size * most_left:
        raise ReadError(
            f"{path}: {left >> 20} of {size >> 20} MiB stayed in the page cache",
            hint="A program has mapped it, or it is on a tmpfs.",
        )
    return left
