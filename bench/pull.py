"""python -m bench.pull: how fast the downloader is beside curl, from a server on loopback, and with three breaks.

Arms, interleaved: curl; curl and then sha256sum, which together do what the downloader does; the downloader; the downloader
with three broken connections. Each is a process, the interpreter's start included; all write into one directory, and nobody
syncs. Ratios are of curl's time in the same round, so 1.00 is as fast as curl, and 0.90 is the goal. The server sends with
sendfile(2) and shares the CPUs with all arms.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bedplate.act.download.fetch import open_downloads
from bedplate.model.download import Access, Digest, DigestKind, RemoteFile
from bedplate.model.units import parse_size, render_size
from bench.doctor import Command, Sample, measure

_BREAKS = 3
_BLOCK_BYTES = 16 << 20
CURL, CURL_AND_DIGEST, OURS, BROKEN = "curl", "curl, then sha256sum", "bedplate", f"bedplate, {_BREAKS} breaks"


class _Quiet:
    """A Progress that says nothing."""

    def phase(self, name: str) -> _Quiet:
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def detail(self, text: str) -> None:
        return None

    def note(self, text: str) -> None:
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file with ranges; below /broken/ it ends the first three connections of each run within the file."""

    protocol_version = "HTTP/1.1"
    wbufsize = 0
    file: Path
    digest: str
    broken: Counter[str] = Counter()  # noqa: RUF012 (one server a process)

    def do_GET(self) -> None:
        size = self.file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), int(asked[2]) + 1 if asked[2] else size) if asked is not None else (0, size)
        self.send_response(200 if asked is None else 206)
        if asked is not None:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{self.digest[:32]}"')
        self.end_headers()
        self.broken[self.path] += 1
        breaks = self.path.startswith("/broken/") and self.broken[self.path] <= _BREAKS
        stop = min(end, start + size // (_BREAKS + 1)) if breaks else end
        try:
            with self.file.open("rb") as source:
                while start < stop:
                    start += os.sendfile(self.connection.fileno(), source.fileno(), start, min(_BLOCK_BYTES, stop - start))
            if breaks:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True  # the client went away

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pull", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=2_000_000_000, help="size of the file (default: 2 GB)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="runs of each arm, interleaved (default: 7)")
    parser.add_argument("--directory", type=Path, help="where all files go (default: a temporary directory)")
    parser.add_argument("--json", action="store_true", help="print all samples")
    parser.add_argument("--fetch", nargs=4, metavar=("URL", "SIZE", "DIGEST", "DIRECTORY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fetch:
        return _fetch(*arguments.fetch)
    if shutil.which("curl") is None:
        print("bench.pull: curl is missing: apt install curl", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="bedplate-bench-pull-", dir=arguments.directory) as directory:
        samples = _measure(Path(directory), arguments.size, arguments.rounds)
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
    else:
        print("\n".join(render(samples, arguments.size)))
    return 0 if all(sample.status == 0 for sample in samples) else 1


def _fetch(url: str, size: str, digest: str, directory: str) -> int:
    """One run of the downloader; its status is 0 only where the digest was right."""
    file = RemoteFile(url=url, name="file", size_bytes=int(size), digest=Digest(kind=DigestKind.SHA256, value=digest))
    with open_downloads(Path(directory), Access(), _Quiet()) as downloads:
        downloads.fetch(file)
    return 0


def _measure(directory: Path, size: int, rounds: int) -> list[Sample]:
    served, target = directory / "served", directory / "target"
    digest = _make_file(served, size)
    _Handler.file, _Handler.digest = served, digest
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    # A process of its own: the server's Python must not share an interpreter with what measures.
    child = os.fork()
    if child == 0:
        thread.run()
        os._exit(0)
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        samples: list[Sample] = []
        for number in range(rounds):
            arms = list(plan_arms(base, size, digest, target, number))
            for arm in arms[number % len(arms) :] + arms[: number % len(arms)]:
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                samples.append(measure(arm, str(directory / "byte-code")))
        return samples
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        server.server_close()


def plan_arms(base: str, size: int, digest: str, target: Path, number: int) -> Sequence[Command]:
    """The arms of one round, which all write below `target`."""
    curl, out = shutil.which("curl") or "curl", str(target / "out")
    both = f'"{curl}" -sS -o "$1" "$0" && sha256sum "$1" | grep -q {digest}'
    ours = (sys.executable, "-m", "bench.pull", "--fetch")
    rest = (str(size), digest, str(target))
    return (
        Command(what=CURL, argv=(curl, "-sS", "-o", out, f"{base}/file")),
        Command(what=CURL_AND_DIGEST, argv=("/bin/sh", "-c", both, f"{base}/file", out)),
        Command(what=OURS, argv=(*ours, f"{base}/file", *rest)),
        Command(what=BROKEN, argv=(*ours, f"{base}/broken/{number}", *rest)),
    )


def _make_file(path: Path, size: int) -> str:
    """Random bytes, a block again and again; their SHA-256."""
    block, digest = os.urandom(_BLOCK_BYTES), hashlib.sha256()
    with path.open("wb") as file:
        left = size
        while left:
            part = block[: min(left, len(block))]
            file.write(part)
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


def render(samples: Sequence[Sample], size: int) -> list[str]:
    """A table: seconds, and curl's time divided by the arm's in the same round, medians with minimum and maximum."""
    curl = [sample.wall_s for sample in samples if sample.what == CURL]
    lines = [
        f"{render_size(size)}, {len(curl)} rounds",
        "",
        "| | s | CPU s | MB/s | of curl's rate | status |",
        "|---|---|---|---|---|---|",
    ]
    for what in (CURL, CURL_AND_DIGEST, OURS, BROKEN):
        those = [sample for sample in samples if sample.what == what]
        wall = [sample.wall_s for sample in those]
        ratios = [other / own for other, own in zip(curl, wall, strict=True)]
        statuses = ", ".join(str(status) for status in sorted({sample.status for sample in those}))
        lines.append(
            f"| {what} | {_spread(wall)} | {_spread([sample.cpu_s for sample in those])}"
            f" | {size / statistics.median(wall) / 1e6:.0f} | {_spread(ratios)} | {statuses} |"
        )
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
