"""A text of any length is read in time and memory that grow with it: kernel logs, listings, prose, many small outputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.growth import growth, peak_bytes

from bedplate.errors import ReadError
from bedplate.host.formats.foreign import TEXT_MOST, read_text_files

MIB = 1 << 20
TIMES = 12.0  # of CPU time, for ten times the input
MEMORY_MOST = 200 * MIB

KINDS: dict[str, Callable[[int], str]] = {
    "kernel log": lambda n: (
        f"[{n:9d}.000000] pcieport 0000:40:01.1: AER: Corrected error message received from 0000:43:00.0\n"
    ),
    "prose": lambda n: f"This is line {n} of what somebody wrote, and no program printed it.\n",
    "listing": lambda n: f"{n >> 8 & 255:02x}:{n & 31:02x}.0 Host bridge: Intel Corporation Device 1237\n\tNUMA node: 0\n",
    "prompts": lambda n: f"ops@node7:~$ cat /sys/class/x/{n}\n{n}\n",
    "log of a GPU": lambda n: f"    Title {n % 4000} : value {n}\n",
    "quoted": lambda n: f"> > \x1b[1m    {n}\x1b[0m words\n",
    "outputs": lambda n: f"node {n % 4} size: {n % 1000} MB\nUnknown line {n}\nanother {n}\nand a third {n}\n",
    "json": lambda n: f'{{"a": {n}}}\n',
}
HEADS = {"log of a GPU": "==============NVSMI LOG==============\nGPU 00000000:19:00.0\n"}


def make(kind: str, size: int) -> bytes:
    """A text of about so many bytes."""
    row = KINDS[kind]
    count = size // len(row(1_000_000).encode()) + 1
    return (HEADS.get(kind, "") + "".join(map(row, range(1_000_000, 1_000_000 + count)))).encode()


def read(data: bytes) -> None:
    try:
        read_text_files([("text", data)], "text")
    except ReadError:
        return


@pytest.mark.parametrize("kind", KINDS)
def test_ten_times_the_text_takes_ten_times_as_long(kind: str) -> None:
    small, large = make(kind, MIB // 8), make(kind, 10 * MIB // 8)
    assert growth(lambda: read(small), lambda: read(large), most=TIMES * 2) <= TIMES * 2


@pytest.mark.parametrize("kind", ["kernel log", "prose", "prompts"])
def test_memory_does_not_multiply_the_text(kind: str) -> None:
    data = make(kind, MIB)
    assert peak_bytes(lambda: read(data)) < 12 * len(data)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.touches("spawn", why="the memory of a process of its own is measured")
def test_fifty_megabytes(kind: str, tmp_path: Path) -> None:
    """CPU time at most twelve times that of five, and the memory of the whole process within its bound."""
    took: dict[int, float] = {}
    for size in (5, 50):
        path = tmp_path / f"text-{size}"
        path.write_bytes(make(kind, size * 1_000_000))
        program = (
            "import sys, time\nfrom pathlib import Path\nfrom bedplate.flows.audit import read_report\n"
            "from bedplate.errors import ReadError\n"
            "try:\n    read_report(Path(sys.argv[1]))\nexcept ReadError:\n    pass\n"
            # VmHWM, since the kernel hands the peak of getrusage on from the process that started this one
            "peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
            "print(time.process_time(), int(peak) * 1024)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        seconds, memory = done.stdout.split()
        took[size] = float(seconds)
        assert int(memory) < MEMORY_MOST, f"{int(memory) >> 20} MiB for {size} MB"
    assert took[50] <= TIMES * took[5]


def test_more_than_the_bound_is_refused() -> None:
    data = (b"words that nobody knows " * 400 + b"\n") * (TEXT_MOST // 9600 + 20)
    with pytest.raises(ReadError, match="is longer than 64 MiB"):
        read_text_files([("text", data)], "text")
