"""Fetch files into a directory of partial ones: whole or by their beginning, resumed after a kill, their digests checked.

    with open_downloads(directory, access, progress) as downloads:
        size = downloads.fetch_beginning(file, 65536)      # a header is enough to refuse a model
        done = downloads.fetch(file)                       # Downloaded: path, size, SHA-256

Raises DownloadError for what the server or the network did, PreflightError for a full disk, BusyError while another process
fetches the same file. What came stays in each of these cases, but for content with a wrong digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.act.download.exchange import Answer, HttpLink, PassingFailure
from bedplate.act.download.pace import Pace
from bedplate.act.download.partial import Partial, key_of, open_partial, remove_partial
from bedplate.act.download.transfer import (
    ContentChanged,
    Piece,
    Representation,
    Transfer,
    range_headers,
    read_representation,
    wait_after,
)
from bedplate.errors import DownloadError
from bedplate.model.download import Access, Digest, DigestKind, Downloaded, Patience, RemoteFile
from bedplate.model.progress import Progress

_MOST_RESTARTS = 2  # a file that changes more often while it is fetched is not fetched
_DURABLE_BYTES = 256 << 20  # of a file without a digest: how much a power failure may cost
_SHOW_S = 0.2


@dataclass(slots=True, kw_only=True)
class Downloads:
    """The files that are fetched together; each stays locked until all of them are done with."""

    directory: Path
    access: Access
    patience: Patience
    progress: Progress
    _stack: ExitStack
    _open: dict[str, Partial] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    def partial(self, file: RemoteFile) -> Partial:
        """The partial file of a remote one, locked. Raises BusyError where another process fetches it."""
        key = key_of(file)  # two files of a repository may have the same content
        if key not in self._open:
            self._open[key] = self._stack.enter_context(open_partial(self.directory, file))
        return self._open[key]

    def is_open(self, file: RemoteFile) -> bool:
        """Whether anything was asked about this file yet."""
        return key_of(file) in self._open

    def fetch_beginning(self, file: RemoteFile, size_bytes: int) -> int:
        """Have at least the first bytes of a file, or all of a shorter one; gives the size of the whole file."""
        partial = self.partial(file)
        whole = file.size_bytes if file.size_bytes is not None else self._sizes.get(file.url)
        if whole is None or partial.size_bytes < min(size_bytes, whole):
            whole = _Fetch(downloads=self, file=file, partial=partial).run(stop=size_bytes).size_bytes
            self._sizes[file.url] = whole
        return whole

    def fetch(self, file: RemoteFile) -> Downloaded:
        """Have all of a file, with the digest that its source says."""
        return _Fetch(downloads=self, file=file, partial=self.partial(file)).finish()

    def discard(self, file: RemoteFile) -> None:
        """Remove what came of a file: it is somewhere else now, or not wanted any more."""
        remove_partial(self.partial(file).path)


@contextlib.contextmanager
def open_downloads(
    directory: Path, access: Access, progress: Progress, *, patience: Patience | None = None
) -> Iterator[Downloads]:
    """Downloads into a directory, which is made (0700) where it is not there; the locks end with the block."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield Downloads(directory=directory, access=access, patience=patience or Patience(), progress=progress, _stack=stack)


def fetch_text(url: str, access: Access, *, limit_bytes: int, patience: Patience | None = None) -> tuple[bytes, str]:
    """(a small answer as a whole, its Link header): for lists, which have no size and no ranges.

    Raises DownloadError, for one that is longer than the limit, too.
    """
    patience = patience or Patience()
    failures = 0
    while True:
        link = HttpLink(access, silence_s=patience.silence_s)
        watch = threading.Timer(4 * patience.silence_s, link.abort)  # for all of it: one that drips would never be silent
        watch.daemon = True
        watch.start()
        try:
            answer = link.ask(url, {"Accept": "application/json"})
            body = bytearray()
            view = memoryview(bytearray(1 << 16))
            while count := answer.read_into(view):
                body += view[:count]
                if len(body) > limit_bytes:
                    raise DownloadError(f"{answer.host}: a list of more than {limit_bytes} bytes")
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and len(body) < int(length):
                raise PassingFailure(f"{answer.host}: the connection ended before the list did")
            return bytes(body), answer.headers.get("Link", "")
        except PassingFailure as error:
            failures += 1
            if failures >= patience.attempts:
                raise DownloadError(
                    f"given up after {failures} attempts: {error.message}", status=error.status, hint="Try again later."
                ) from error
            time.sleep(wait_after(failures, error.wait_s, patience))
        finally:
            watch.cancel()
            link.close()


@dataclass(slots=True, kw_only=True)
class _Fetch:
    """One file on its way."""

    downloads: Downloads
    file: RemoteFile
    partial: Partial

    def finish(self) -> Downloaded:
        """Until it is whole; content with a wrong digest is fetched once more if some of it was from an earlier run."""
        went_on = self._usable() > 0
        while True:
            hasher = _Hasher(self.file)
            try:
                found = self.run(stop=None, hasher=hasher)
                digests = hasher.finish()
            finally:
                hasher.close()
            expected = self.file.digest
            if expected is None or digests[expected.kind] == expected.value:
                return Downloaded(
                    path=str(self.partial.path),
                    size_bytes=found.size_bytes,
                    sha256=digests[DigestKind.SHA256],
                    stated=expected is not None,
                )
            self.partial.restart()
            if not went_on:
                raise DownloadError(
                    f"{self.file.name}: its content has the {expected.kind} digest {digests[expected.kind]}, its source says"
                    f" {expected.value}",
                    hint="It was removed. Try again; if that ends alike, somebody on the way changes the file.",
                )
            self.downloads.progress.note(f"{self.file.name}: what an earlier run had left was damaged: fetched again")
            went_on = False

    def run(self, *, stop: int | None, hasher: _Hasher | None = None) -> Representation:
        """Bring the partial file up to `stop`, or to the end; begins anew when the server has another version."""
        for restarts in range(_MOST_RESTARTS + 1):
            try:
                return self._go_on(stop, hasher)
            except ContentChanged as changed:
                if restarts == _MOST_RESTARTS:
                    raise DownloadError(
                        f"{changed.message}: begun {restarts + 1} times", hint="Try again when it stays as it is."
                    ) from changed
                if self.partial.size_bytes:
                    self.downloads.progress.note(f"{changed.message}: begun anew")
                self.partial.restart()
                if hasher is not None:
                    hasher.restart()
        raise AssertionError("unreachable")

    def _usable(self) -> int:
        """How much of the partial file counts."""
        size = self.partial.size_bytes
        if self.file.digest is None:
            validator, durable = self.partial.read_note()
            size = durable if validator else 0
        return 0 if self.file.size_bytes is not None and size > self.file.size_bytes else size

    def _go_on(self, stop: int | None, hasher: _Hasher | None) -> Representation:
        self.partial.cut(self._usable())
        have = self.partial.size_bytes
        validator = self.partial.read_note()[0] if self.file.digest is None else ""
        if hasher is not None:
            for count in hasher.take(self.partial):
                self.downloads.progress.detail(f"{self.file.name}: {count >> 20} MiB of an earlier run checked")
        whole = self.file.size_bytes
        if self.file.digest is not None and whole is not None and have >= whole:
            return Representation(size_bytes=whole, validator="", ranges=True)
        link = HttpLink(self.downloads.access, silence_s=self.downloads.patience.silence_s)
        try:
            answer, found = self._ask(link, have, validator)
            if have and not found.ranges:
                raise ContentChanged(f"{self.file.name}: {answer.host} has another version of it, or gives no ranges")
            if have >= found.size_bytes:  # of a file without a digest: whole already, and still the same version
                return found
            end = found.size_bytes if stop is None else min(stop, found.size_bytes)
            self.partial.check_room(found.size_bytes)
            if have < end:
                self._receive(found, link, answer, have, end, hasher)
            return found
        finally:
            link.close()

    def _ask(self, link: HttpLink, have: int, validator: str) -> tuple[Answer, Representation]:
        patience, failures = self.downloads.patience, 0
        while True:
            watch = threading.Timer(2 * patience.silence_s, link.abort)  # headers that drip never make a read time out
            watch.daemon = True
            watch.start()
            try:
                answer = link.ask(self.file.url, range_headers(have, None, validator))
                if answer.status == 416 and have and answer.headers.get("Content-Range", "").endswith(f"*/{have}"):
                    return answer, self._at_end(answer, have, validator)
                found = read_representation(self.file, answer, have)
                if have and validator and found.validator != validator:
                    raise ContentChanged(f"{self.file.name}: {answer.host} has another version of it than before")
                return answer, found
            except PassingFailure as error:
                failures += 1
                link.close()
                if failures >= patience.attempts:
                    raise DownloadError(
                        f"{self.file.name}: given up after {failures} attempts: {error.message}",
                        status=error.status,
                        hint="What came stays; give the same command again to go on.",
                    ) from error
                wait_s = wait_after(failures, error.wait_s, patience)
                self.downloads.progress.detail(f"{error.message}; asked again in {wait_s:.0f} s")
                time.sleep(wait_s)
            finally:
                watch.cancel()

    def _at_end(self, answer: Answer, have: int, validator: str) -> Representation:
        """The server has exactly as much as is here; that it is the same version, its validator says, or the digest will."""
        if self.file.digest is not None:
            return Representation(size_bytes=have, validator="", ranges=True)
        if not validator or answer.headers.get("ETag", "").strip() != validator:
            raise ContentChanged(f"{self.file.name}: {answer.host} does not say that its version is the one from before")
        return Representation(size_bytes=have, validator=validator, ranges=True)

    def _receive(
        self, found: Representation, link: HttpLink, answer: Answer, start: int, end: int, hasher: _Hasher | None
    ) -> None:
        pace = Pace(total_bytes=found.size_bytes)
        pace.record(time.monotonic(), start)
        done, noted, shown_s = start, start, 0.0
        noting = self.file.digest is None and found.validator

        def tick() -> None:
            nonlocal shown_s
            now_s = time.monotonic()
            if now_s - shown_s >= _SHOW_S:
                shown_s = now_s
                pace.record(now_s, done)
                self.downloads.progress.detail(f"{self.file.name}: {transfer.trouble or pace.describe()}")

        transfer = Transfer(
            self.file,
            found,
            self.downloads.access,
            self.downloads.patience,
            start=start,
            stop=end,
            first=(link, answer),
        )
        try:
            for piece in transfer.pieces(tick):
                self.partial.write(piece.view, piece.offset)
                done += len(piece.view)
                if hasher is not None:
                    hasher.put(piece, transfer)
                else:
                    transfer.give_back(piece)
                if noting and done - noted >= _DURABLE_BYTES:
                    self.partial.write_note(found.validator)
                    noted = done
        finally:
            transfer.close()
            if noting and done > noted:
                with contextlib.suppress(OSError):  # a full disk: the note of before counts
                    self.partial.write_note(found.validator)


class _Hasher:
    """The digests of a file, computed by a thread of its own while the next piece is received and written."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._queue: queue.SimpleQueue[tuple[Piece, Transfer] | None] = queue.SimpleQueue()
        self._make()
        self._thread = threading.Thread(target=self._work, name="download-digest", daemon=True)
        self._thread.start()

    def take(self, partial: Partial) -> Iterator[int]:
        """Begin with what is there; the number of bytes, now and then."""
        self._make()
        done = 0
        for number, block in enumerate(partial.read()):
            self._update(block)
            done += len(block)
            if number % 64 == 0:
                yield done

    def put(self, piece: Piece, transfer: Transfer) -> None:
        """The next piece, which goes back to its transfer when it is in the digest."""
        self._queue.put((piece, transfer))

    def restart(self) -> None:
        """Forget everything, once what is on its way is through."""
        self.close()
        self._make()
        self._thread = threading.Thread(target=self._work, name="download-digest", daemon=True)
        self._thread.start()

    def finish(self) -> dict[DigestKind, str]:
        """Digests of all that was put."""
        self.close()
        return {kind: state.hexdigest() for kind, state in self._states.items()}

    def close(self) -> None:
        """End the thread when it is through."""
        self._queue.put(None)
        self._thread.join()

    def _make(self) -> None:
        self._states = {DigestKind.SHA256: hashlib.sha256()}
        expected: Digest | None = self._file.digest
        if expected is not None and expected.kind is DigestKind.GIT_BLOB:
            state = hashlib.sha1(usedforsecurity=False)
            state.update(f"blob {self._file.size_bytes}\0".encode())
            self._states[DigestKind.GIT_BLOB] = state

    def _update(self, block: bytes | memoryview) -> None:
        for state in self._states.values():
            state.update(block)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            piece, transfer = item
            self._update(piece.view)
            transfer.give_back(piece)
