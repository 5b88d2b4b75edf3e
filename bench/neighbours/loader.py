"""Reads a file with direct I/O, four blocks at a time, as a loader of models does, and prints bytes and seconds.

A program of its own: it runs where the engine runs. `python3 loader.py FILE SECONDS` says "ready", waits for a line, reads
the file again and again for the time, each reading whole, and prints what it read in whole readings.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time

BLOCK = 4 << 20
THREADS = 4


def read_once(path: str) -> int:
    """Bytes read; every byte of the file through O_DIRECT, but for the end that is no whole page."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    size = os.fstat(descriptor).st_size
    total = [0] * THREADS
    failures: list[OSError] = []

    def read(number: int) -> None:
        buffer = mmap.mmap(-1, BLOCK)  # page-aligned, as direct I/O needs
        try:
            for offset in range(number * BLOCK, size, BLOCK * THREADS):
                total[number] += os.preadv(descriptor, [buffer], offset)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
    if failures:
        raise failures[0]
    if sum(total) != size:
        raise OSError(f"{path}: read {sum(total)} of {size} bytes")
    return size


def main() -> int:
    path, seconds = sys.argv[1], float(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.monotonic(), 0
    while True:
        done += read_once(path)
        elapsed_s = time.monotonic() - began
        if elapsed_s >= seconds:
            print(done, elapsed_s, flush=True)
            return 0


if __name__ == "__main__":
    sys.exit(main())
