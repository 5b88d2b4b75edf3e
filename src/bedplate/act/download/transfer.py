"""One range of a file, received over one connection or several, and handed out in order from a bounded set of buffers.

The first connection asks for all that is left, and reads on as long as it is alone. As soon as there are several, each asks
for one piece after the other. A buffer is taken before the place of a piece is, so that the piece which is next in order
always has one. The thread that iterates watches the others: a connection on which nothing comes is ended under its thread.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bedplate.act.download.exchange import Answer, HttpLink, PassingFailure
from bedplate.act.download.pace import ConnectionPlan
from bedplate.errors import DownloadError
from bedplate.model.download import Access, Patience, RemoteFile

_ALONE_BYTES = 1 << 20  # a piece of a connection that is alone: small, so that it is still in the cache when it is hashed
_PIECE_BYTES = 8 << 20  # a piece that is asked for by itself: a round trip must be short beside it
_SPARE_BUFFERS = 2  # beyond one a connection: while one is written and one is hashed
_TICK_S = 0.25
_JOIN_S = 2.0
_COUNTS_AS_PROGRESS = 1 << 16  # bytes; a server that gives one byte an attempt must come to an end, too


class ContentChanged(Exception):
    """What the server has is another version than the one that was begun, or it gives no ranges of it after all."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One version of a remote file, by the server's words."""

    size_bytes: int
    validator: str
    """A strong ETag; "" where there is none, and then nothing says that two ranges belong together but a digest."""
    ranges: bool
    """Whether it was answered with the range that was asked for."""


@dataclass(slots=True, kw_only=True)
class Piece:
    """Bytes of the file at a place; `view` is valid until it is given back."""

    offset: int
    view: memoryview
    buffer: bytearray
    filled: int = 0


class Transfer:
    """Receives bytes [start, stop) of a file; its pieces are iterated once, by one thread, and given back by any."""

    def __init__(
        self,
        file: RemoteFile,
        representation: Representation,
        access: Access,
        patience: Patience,
        *,
        start: int,
        stop: int,
        first: tuple[HttpLink, Answer],
    ) -> None:
        self._file, self._representation, self._access, self._patience = file, representation, access, patience
        self._next, self._stop, self._start = start, stop, start
        self._plan = ConnectionPlan(most=max(1, access.connections) if representation.ranges else 1)
        self._lock = threading.Condition()
        self._ready: dict[int, Piece] = {}
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._buffers: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(1 + _SPARE_BUFFERS):
            self._buffers.put(bytearray(min(_PIECE_BYTES, max(1, stop - start))))
        self._links: list[HttpLink] = []
        self._threads: list[threading.Thread] = []
        self._direct_url = first[1].url
        self.starved_s = 0.0
        """How long the iterating thread has waited for bytes."""
        self.trouble = ""
        """What a connection waits for to pass, as a phrase; "" while all goes well."""
        self._begin(_Stream(link=first[0], answer=first[1], position=start))

    def pieces(self, tick: Callable[[], None]) -> Iterator[Piece]:
        """The pieces in order; each goes back with `give_back`. tick is called some times a second.

        Raises DownloadError when patience ends, ContentChanged when the server has another version.
        """
        offset = self._start
        while offset < self._stop:
            piece = self._await(offset, tick)
            offset += len(piece.view)
            yield piece
            wanted = self._plan.update(time.monotonic(), offset, self.starved_s)
            while len(self._threads) < wanted and self._next < self._stop:
                self._buffers.put(bytearray(_PIECE_BYTES))
                self._begin(_Stream(link=HttpLink(self._access, silence_s=self._patience.silence_s)))

    def give_back(self, piece: Piece) -> None:
        """Say that a piece is written and hashed: its buffer is filled again."""
        self._buffers.put(piece.buffer)

    def close(self) -> None:
        """End all connections and wait for their threads."""
        self._ended.set()
        for _ in self._threads:
            self._buffers.put(bytearray(0))  # wakes those that wait for one
        for link in self._links:
            link.abort()
        for thread in self._threads:
            thread.join(_JOIN_S)  # one that is connecting still writes into its own buffer alone

    def _begin(self, stream: _Stream) -> None:
        self._links.append(stream.link)
        thread = threading.Thread(target=self._work, args=(stream,), name=f"download-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _await(self, offset: int, tick: Callable[[], None]) -> Piece:
        begun_s = time.monotonic()
        with self._lock:
            while (piece := self._ready.pop(offset, None)) is None:
                if self._error is not None:
                    raise self._error
                self._lock.wait(_TICK_S)
                now_s = time.monotonic()
                for link in self._links:
                    since_s = link.waiting_since
                    if since_s is not None and now_s - since_s > 1.5 * self._patience.silence_s:
                        link.waiting_since = now_s
                        link.abort()
                tick()
        self.starved_s += time.monotonic() - begun_s
        tick()
        return piece

    def _work(self, stream: _Stream) -> None:
        try:
            while (piece := self._take()) is not None:
                self._fill(piece, stream)
                with self._lock:
                    self._ready[piece.offset] = piece
                    self._lock.notify_all()
        except BaseException as error:  # goes to the thread that iterates, and is raised there
            with self._lock:
                self._error = self._error or error
                self._lock.notify_all()
        finally:
            stream.link.close()

    def _take(self) -> Piece | None:
        """The next place that nobody has, with a buffer for it; None when there is none left."""
        if self._next >= self._stop:
            return None
        buffer = self._buffers.get()
        with self._lock:
            offset = self._next
            if self._ended.is_set() or offset >= self._stop or not buffer:
                self._buffers.put(buffer)
                return None
            most = _ALONE_BYTES if len(self._threads) == 1 else _PIECE_BYTES
            size = min(most, len(buffer), self._stop - offset)
            self._next = offset + size
        return Piece(offset=offset, view=memoryview(buffer)[:size], buffer=buffer)

    def _fill(self, piece: Piece, stream: _Stream) -> None:
        failures, since = 0, 0
        while piece.filled < len(piece.view):
            try:
                answer = self._answer_at(piece, stream)
                stream.link.waiting_since = time.monotonic()
                count = answer.read_into(piece.view[piece.filled :])
                if count == 0:
                    raise PassingFailure(f"{answer.host}: the connection ended before the file did")
            except PassingFailure as error:
                stream.drop()
                if self._ended.is_set():
                    return
                failures = failures + 1 if since < _COUNTS_AS_PROGRESS else 1
                since = 0
                self._rest(failures, error, piece.offset + piece.filled)
                continue
            piece.filled += count
            self.trouble = ""
            stream.position += count
            since += count
            if self._ended.is_set():
                return
        stream.link.waiting_since = None

    def _rest(self, failures: int, error: PassingFailure, offset: int) -> None:
        if failures >= self._patience.attempts:
            raise DownloadError(
                f"{self._file.name}: given up after {failures} attempts, at byte {offset}: {error.message}",
                status=error.status,
                hint="What came stays; give the same command again to go on.",
            ) from error
        if failures > 1:
            self._direct_url = self._file.url  # where the redirect led may be what is broken
        wait_s = wait_after(failures, error.wait_s, self._patience)
        self.trouble = f"{error.message}; asked again in {wait_s:.0f} s"
        self._ended.wait(wait_s)

    def _answer_at(self, piece: Piece, stream: _Stream) -> Answer:
        """A body whose next byte is the one that is missing: the open one, or that of a new request."""
        wanted = piece.offset + piece.filled
        if stream.answer is not None and stream.position == wanted:
            return stream.answer
        if stream.answer is not None and not stream.answer.response.isclosed():
            stream.link.close()  # the rest of its body belongs to others now
        stream.drop(keep=True)
        alone = len(self._threads) == 1
        end = self._stop if alone else piece.offset + len(piece.view)
        headers = range_headers(wanted, end, self._representation.validator)
        stream.link.waiting_since = time.monotonic()
        try:
            answer = stream.link.ask(self._direct_url, headers)
        except DownloadError:
            if self._direct_url == self._file.url:
                raise
            self._direct_url = self._file.url  # a signed address of a redirect has expired: asked for another
            answer = stream.link.ask(self._direct_url, headers)
        self._direct_url = answer.url
        found = read_representation(self._file, answer, wanted)
        if (found.size_bytes, found.validator, found.ranges) != (
            self._representation.size_bytes,
            self._representation.validator,
            True,
        ):
            is_same = (found.size_bytes, found.validator) == (
                self._representation.size_bytes,
                self._representation.validator,
            )
            what = "gives no ranges" if is_same else "has another version of it than before"
            raise ContentChanged(f"{self._file.name}: {answer.host} {what}")
        stream.answer, stream.position = answer, wanted
        return answer


@dataclass(slots=True, kw_only=True)
class _Stream:
    """A connection with the body that is open on it, and where in the file its next byte belongs."""

    link: HttpLink
    answer: Answer | None = None
    position: int = 0

    def drop(self, *, keep: bool = False) -> None:
        """Forget the body; keep: the connection may serve another request."""
        self.answer = None
        self.link.waiting_since = None
        if not keep:
            self.link.close()


def wait_after(failures: int, asked_s: float | None, patience: Patience) -> float:
    """How long to wait before the next attempt: as long as the server asks, else doubling, within the bound."""
    wait_s = patience.first_wait_s * 2 ** (failures - 1) if asked_s is None else asked_s
    return min(patience.longest_wait_s, wait_s)


def range_headers(start: int, stop: int | None, validator: str) -> dict[str, str]:
    """Headers that ask for bytes [start, stop), of this version alone; stop None: to the end."""
    headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
    return headers | ({"If-Range": validator} if validator else {})


def read_representation(file: RemoteFile, answer: Answer, start: int) -> Representation:
    """Which version an answer is of, and that its body begins where it was asked to.

    Raises DownloadError for an answer that is not this file, ContentChanged for status 416: there is nothing behind `start`.
    """
    where = f"{file.name}: {answer.host}"
    _check_kind(file, answer)
    for header, expected in file.expected_headers:
        for hop in answer.hops:
            got = hop.get(header)
            if got is not None and got.strip().removeprefix("W/").strip('"') != expected:
                raise DownloadError(f"{where}: {header}: got {answer.hide(got)[:80]!r}, expected {expected!r}")
    etag = answer.headers.get("ETag", "").strip()
    validator = etag if re.fullmatch(r'"[\x21\x23-\x7e]{1,500}"', etag, re.ASCII) else ""
    if answer.status == 416:
        raise ContentChanged(f"{where}: has nothing from byte {start} on (status 416)")
    if answer.status == 206:
        got = answer.headers.get("Content-Range")
        if got is None:  # or the connection ended within the headers, which http.client does not tell
            raise PassingFailure(f"{where}: status 206 without Content-Range", status=206)
        found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", got.strip(), re.ASCII)
        if found is None or int(found[1]) != start or not start <= int(found[2]) < int(found[3]):
            raise DownloadError(f"{where}: Content-Range: got {answer.hide(got)[:80]!r}, expected bytes {start}-END/SIZE")
        size = int(found[3])
    else:
        length = answer.headers.get("Content-Length", "")
        chunked = answer.headers.get("Transfer-Encoding") is not None
        if file.size_bytes is None and (chunked or not re.fullmatch(r"\d{1,18}", length, re.ASCII)):
            raise DownloadError(f"{where}: does not say how long the file is, so nothing bounds it")
        size = int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) and not chunked else file.size_bytes or 0
    if file.size_bytes is not None and size != file.size_bytes:
        raise DownloadError(
            f"{where}: offers {size} bytes, expected {file.size_bytes}",
            hint="The server is not the one that listed the file, or the file has changed; try again later.",
        )
    return Representation(size_bytes=size, validator=validator, ranges=answer.status == 206)


def _check_kind(file: RemoteFile, answer: Answer) -> None:
    """Raise DownloadError for a body that is packed, or a page for people where a file was asked for."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity") and answer.status != 416:
        raise DownloadError(
            f"{file.name}: {answer.host}: answers packed, which was not asked for"
            f" (Content-Encoding: {answer.hide(encoding)[:40]!r})",
            hint="Ask whoever runs the server or the proxy to leave files of models alone.",
        )
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and not file.name.lower().endswith((".html", ".htm")):
        raise DownloadError(
            f"{file.name}: {answer.host}: answers with a page in HTML, as one to log in, and not with the file",
            hint="Open the address in a browser to see what it wants; a token is given with HF_TOKEN or --token-file FILE.",
        )
