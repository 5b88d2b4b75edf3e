"""The ground of antagonists: one file on the disk that is to be loaded, trees to compile and to pack, removed at the end.

The file is written whole, with bytes that do not compress: reading a sparse or a merely allocated file costs no disk. One
file of the largest size serves all levels and all blocks of an experiment. A directory that a killed process left is removed
by the next one: its name holds the process that made it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bedplate.act.process import read_process
from bedplate.errors import PreflightError, ReadError
from bedplate.model.proof import Antagonist
from bedplate.prove.lab.antagonists.fill import Ground, Scale, file_bytes_of

_NAME = "bedplate-noise-"
_CHUNK = 8 << 20
_SPARE = 0.10  # of the file system stays free
_C_FILES = 64

Talk = Callable[[str], None]


class Scratch:
    """A directory that antagonists may fill; made by `prepared`, which also removes it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file_bytes = 0
        self._runs = 0

    @property
    def file(self) -> Path:
        """Where the one large file lies; it is there after the first `grow`."""
        return self.directory / "data"

    def grow(self, file_bytes: int, *, talk: Talk | None = None) -> int:
        """Make the file at least that large, or as large as the disk allows, and return its size in bytes.

        Raises PreflightError where the disk allows less than was asked for, and less than 64 MiB.
        """
        wanted = min(file_bytes, self._most_bytes())
        if wanted <= self._file_bytes:
            return self._file_bytes
        if wanted < min(file_bytes, 64 << 20):
            raise PreflightError(
                f"{self.directory.parent}: {wanted >> 20} MiB can be used, the antagonist needs {file_bytes >> 20} MiB",
                hint="Use --scratch to name a directory with more space.",
            )
        if talk is not None:
            talk(f"writing {wanted >> 20} MiB to {self.directory.parent}")
        _write_file(self.file, self._file_bytes, wanted)
        self._file_bytes = wanted
        return wanted

    def ground(self, antagonist: Antagonist, level_pct: int, scale: Scale) -> Ground:
        """What one run of a row needs, made now if it is not there."""
        wanted = file_bytes_of(antagonist, level_pct, scale)
        words = " ".join((*antagonist.argv, *antagonist.server))
        size = min(wanted, self.grow(wanted)) if _reads_file(antagonist) else min(wanted, self._most_bytes())
        return Ground(
            file=str(self.file),
            out=str(self.directory / "out"),
            files=str(self.directory),
            file_bytes=size,
            tree=str(self._tree(antagonist.tree)) if antagonist.tree else "",
            port=_free_port() if "{port}" in words else 0,
        )

    def desk(self) -> Path:
        """A new directory for one run's reports and logs."""
        self._runs += 1
        desk = self.directory / f"run{self._runs}"
        desk.mkdir()
        return desk

    def _most_bytes(self) -> int:
        """Half of what the file system can give, so that the file and what is written beside it both fit."""
        room = os.statvfs(self.directory)
        free = room.f_bavail * room.f_frsize - int(room.f_blocks * room.f_frsize * _SPARE)
        return max(0, (free + self._file_bytes) // 2) >> 20 << 20

    def _tree(self, kind: str) -> Path:
        tree = self.directory / f"tree-{kind}"
        if not tree.is_dir():
            {"c": _write_c, "python": _copy_library}[kind](tree)
        return tree


@contextmanager
def prepared(
    directory: Path, antagonists: Sequence[tuple[Antagonist, int]], scale: Scale, *, talk: Talk | None = None
) -> Iterator[Scratch]:
    """A Scratch below a directory for rows at their largest levels; removed when the block ends, however it ends.

    Raises PreflightError when the directory has no room or, for rows that read past the page cache, no direct I/O.
    """
    _remove_left(directory)
    place = _make_directory(directory)
    try:
        scratch = Scratch(place)
        if any("--direct=1" in antagonist.argv for antagonist, _ in antagonists):
            _check_direct(place)
        sizes = [file_bytes_of(antagonist, level, scale) for antagonist, level in antagonists if _reads_file(antagonist)]
        if sizes:
            scratch.grow(max(sizes), talk=talk)
        yield scratch
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _reads_file(antagonist: Antagonist) -> bool:
    """Whether the file must be there before it starts."""
    return any("{file}" in word or "{files}" in word for word in (*antagonist.argv, *antagonist.server))


def _make_directory(directory: Path) -> Path:
    mine = read_process(os.getpid())
    if mine is None:
        raise ReadError(f"/proc/{os.getpid()}/stat: cannot be read", hint="Mount /proc.")
    for number in range(1000):
        place = directory / f"{_NAME}{mine.pid}-{mine.start_ticks}-{number}"
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise PreflightError(
                f"{directory}: no scratch directory can be made in it: {error.strerror}",
                hint="Use --scratch to name another directory.",
            ) from error
        return place
    raise PreflightError(f"{directory}: is full of {_NAME}* directories", hint="Remove them.")


def _remove_left(directory: Path) -> None:
    """Directories of processes that are gone."""
    for place in directory.glob(f"{_NAME}*-*-*"):
        pid, _, rest = place.name.removeprefix(_NAME).partition("-")
        ticks = rest.partition("-")[0]
        if not (pid.isdigit() and ticks.isdigit()) or place.is_symlink():
            continue
        there = read_process(int(pid))
        if there is None or there.start_ticks != int(ticks):
            shutil.rmtree(place, ignore_errors=True)


def _write_file(path: Path, begin: int, end: int) -> None:
    chunk = bytearray(os.urandom(_CHUNK))
    with path.open("ab") as file:
        for offset in range(begin, end, _CHUNK):
            chunk[:8] = offset.to_bytes(8, "little")  # no two chunks are equal, for disks that fold equal blocks
            file.write(memoryview(chunk)[: min(_CHUNK, end - offset)])
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _check_direct(place: Path) -> None:
    probe = place / "direct"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600))
    except OSError as error:
        raise PreflightError(
            f"{place.parent}: has no direct I/O ({error.strerror}), so it is not on a disk",
            hint="Use --scratch to name a directory on the disk that holds the models.",
        ) from error
    probe.unlink(missing_ok=True)


def _free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _write_c(tree: Path) -> None:
    """C files that take a compiler some tenths of a second each, and a Makefile that compiles them for ever.

    Each object prints a 1 when it is done: the antagonist's own work is compiled files.
    """
    tree.mkdir()
    for number in range(_C_FILES):
        body = "\n".join(
            f"static double f{number}_{part}(const double *a, int n)\n{{\n    double s = {part}.5;\n"
            f"    for (int i = 0; i < n; i++) {{ s += a[i] * {part + 1} + (double)(i % {part + 3}); "
            f"if (s > 1e9) s = s / {number + 2}; }}\n    return s;\n}}\n"
            for part in range(40)
        )
        calls = " + ".join(f"f{number}_{part}(a, n)" for part in range(40))
        (tree / f"unit{number}.c").write_text(
            f"{body}\ndouble unit{number}(const double *a, int n)\n{{\n    return {calls};\n}}\n"
        )
    objects = " ".join(f"unit{number}.o" for number in range(_C_FILES))
    (tree / "Makefile").write_text(
        f"OBJECTS = {objects}\n\nforever:\n\t@while $(MAKE) -s again && $(MAKE) -s objects; do :; done\n\n"
        "objects: $(OBJECTS)\n\n%.o: %.c\n\t@gcc -O2 -c $< -o $@ && echo 1\n\nagain:\n\t@rm -f $(OBJECTS)\n\n"
        ".PHONY: forever objects again\n"
    )


def _copy_library(tree: Path) -> None:
    """Python's own sources, a few thousand text files: what a backup packs and a byte compiler compiles."""
    source = Path(sysconfig.get_paths()["stdlib"])
    ignore = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "test", "tests", "*.so", "config-*")
    shutil.copytree(source, tree, ignore=ignore, symlinks=True)
