"""The downloader against servers that do what real ones do: it ends with the right bytes, or with an error that says why."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.act.download.exchange import parse_retry_after
from bedplate.act.download.fetch import Downloads, open_downloads
from bedplate.act.download.partial import key_of
from bedplate.errors import BusyError, DownloadError
from bedplate.model.download import Access, Digest, DigestKind, Downloaded, Patience, RemoteFile
from tests.pull.server import QUICK, Fault, Handler, Notes, Served, Server, content, cut_after, hang, remote, status

SIZE = 3_000_001
BODY = content(SIZE)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        made.put("/m.gguf", BODY)
        yield made


def fetch(
    directory: Path,
    file: RemoteFile,
    *,
    access: Access | None = None,
    patience: Patience = QUICK,
    notes: Notes | None = None,
) -> Downloaded:
    with open_downloads(directory, access or Access(), notes or Notes(), patience=patience) as downloads:
        return downloads.fetch(file)


def partial_of(directory: Path, file: RemoteFile) -> Path:
    return directory / f"{key_of(file)}.part"


def check(done: Downloaded, body: bytes = BODY) -> None:
    assert Path(done.path).read_bytes() == body
    assert done.sha256 == hashlib.sha256(body).hexdigest() and done.size_bytes == len(body)


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("size", [True, False])
def test_a_file_comes_whole(server: Server, tmp_path: Path, digest: bool, size: bool) -> None:
    done = fetch(tmp_path, remote(server, "/m.gguf", digest=digest, size=size))
    check(done)
    assert done.stated is digest
    assert server.ranges() == ["bytes=0-"] and server.asked[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize("digest", [True, False])
def test_three_breaks_and_each_byte_is_asked_for_once(server: Server, tmp_path: Path, digest: bool) -> None:
    server.faults = [cut_after(1_000_000), cut_after(700_000), cut_after(300_000)]
    check(fetch(tmp_path, remote(server, "/m.gguf", digest=digest)))
    assert len(server.asked) == 4
    starts = [int(text.removeprefix("bytes=").rstrip("-").partition("-")[0]) for text in server.ranges()]
    assert starts == sorted(starts) and starts[0] == 0 and starts[-1] > 1_000_000
    assert all(headers.get("if-range") == '"v1"' for _, headers in server.asked[1:])


@pytest.mark.parametrize("digest", [True, False])
def test_a_later_run_goes_on(server: Server, tmp_path: Path, digest: bool) -> None:
    file = remote(server, "/m.gguf", digest=digest)
    with open_downloads(tmp_path, Access(), Notes(), patience=QUICK) as downloads:
        assert downloads.fetch_beginning(file, 1_200_000) == SIZE
    assert partial_of(tmp_path, file).read_bytes() == BODY[:1_200_000]
    check(fetch(tmp_path, file))
    assert server.ranges() == ["bytes=0-", "bytes=1200000-"]


def test_a_partial_file_is_never_taken_for_whole(server: Server, tmp_path: Path) -> None:
    """Zeros of the right length, as a crash leaves them, and a note that says they are durable."""
    file = remote(server, "/m.gguf")
    tmp_path.mkdir(exist_ok=True)
    partial_of(tmp_path, file).write_bytes(bytes(SIZE))
    notes = Notes()
    check(fetch(tmp_path, file, notes=notes))
    assert notes.notes == ["m.gguf: what an earlier run had left was damaged: fetched again"]


@pytest.mark.parametrize("there", [b"x" * 10, b"", BODY + b"more"])
def test_without_a_digest_what_no_note_vouches_for_does_not_count(server: Server, tmp_path: Path, there: bytes) -> None:
    file = remote(server, "/m.gguf", digest=False)
    partial_of(tmp_path, file).write_bytes(there)
    check(fetch(tmp_path, file))
    assert server.ranges() == ["bytes=0-"]


def test_a_changed_file_begins_anew(server: Server, tmp_path: Path) -> None:
    file = remote(server, "/m.gguf", digest=False, size=False)
    with open_downloads(tmp_path, Access(), Notes(), patience=QUICK) as downloads:
        downloads.fetch_beginning(file, 1_000_000)
    other = content(SIZE + 5, "b")
    server.put("/m.gguf", other, etag='"v2"')
    check(fetch(tmp_path, file), other)


def test_a_file_that_changes_between_two_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    other = content(SIZE, "b")

    def change(handler: Handler) -> bool:
        server.put("/m.gguf", other, etag='"v2"')
        return False

    server.faults = [cut_after(1_000_000), change]
    check(fetch(tmp_path, remote(server, "/m.gguf", digest=False, size=False)), other)


def test_a_file_that_always_changes_is_given_up(server: Server, tmp_path: Path) -> None:
    count = 0

    def change(handler: Handler) -> bool:
        nonlocal count
        count += 1
        server.put("/m.gguf", content(SIZE, str(count)), etag=f'"v{count}"')
        return cut_after(100_000)(handler)

    server.always = change
    with pytest.raises(DownloadError, match=r"another version of it.*begun 3 times"):
        fetch(tmp_path, remote(server, "/m.gguf", digest=False, size=False))


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.put("/m.gguf", BODY, ranges=False)
    file = remote(server, "/m.gguf")
    check(fetch(tmp_path / "once", file))
    server.faults = [cut_after(1_000_000)]
    check(fetch(tmp_path / "broken", file))
    server.always = cut_after(1_000_000)
    with pytest.raises(DownloadError, match="gives no ranges: begun 3 times"):
        fetch(tmp_path / "always", file)


def test_416_for_a_prefix_that_the_server_does_not_have(server: Server, tmp_path: Path) -> None:
    file = remote(server, "/m.gguf", size=False)
    partial_of(tmp_path, file).write_bytes(bytes(SIZE + 100))
    check(fetch(tmp_path, file))
    assert len(server.asked) == 2


def test_a_whole_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    for digest, size in ((True, True), (True, False), (False, False)):
        file = remote(server, "/m.gguf", digest=digest, size=size)
        check(fetch(tmp_path / f"{digest}{size}", file))
        before = len(server.asked)
        check(fetch(tmp_path / f"{digest}{size}", file))
        assert all(text == f"bytes={SIZE}-" for text in server.ranges()[before:])  # a 416 at most


@pytest.mark.parametrize(
    "fault",
    [
        status(429, Retry_After="0"),
        status(429),
        status(500),
        status(503, Retry_After="Mon, 30 Nov 2026 21:00:00 GMT"),
        status(503, Retry_After="999999"),
        cut_after(0),
        hang,
    ],
    ids=["429-0", "429", "500", "503-date", "503-long", "cut-at-once", "hang"],
)
def test_what_passes_is_waited_for(server: Server, tmp_path: Path, fault: Fault) -> None:
    server.faults = [fault, fault]
    check(
        fetch(
            tmp_path,
            remote(server, "/m.gguf"),
            patience=Patience(silence_s=0.5, attempts=4, first_wait_s=0.01, longest_wait_s=0.05),
        )
    )


def test_retry_after_is_read() -> None:
    assert parse_retry_after("30") == 30.0
    assert parse_retry_after("Mon, 30 Nov 2026 21:00:00 GMT", now_s=1796072340.0) == 60.0
    assert parse_retry_after("soon") is None and parse_retry_after("") is None and parse_retry_after("-1") is None


def _huge_header(handler: Handler) -> bool:
    handler.reply(200, b"", {"X-Bomb": "x" * 100_000})
    handler.close_connection = True
    return True


def _many_headers(handler: Handler) -> bool:
    handler.reply(200, b"", {f"X-{number}": "x" for number in range(5000)})
    handler.close_connection = True
    return True


def _gibberish(handler: Handler) -> bool:
    handler.wfile.write(b"\x00\xffSSH-2.0-OpenSSH_9.2\r\n")
    handler.cut()
    return True


def _drip(handler: Handler) -> bool:
    """A byte of a header now and then, for ever: no read ever times out."""
    handler.wfile.write(b"HTTP/1.1 206 OK\r\nX-A: ")
    for _ in range(600):
        if handler.server.ended.wait(0.1):
            break
        handler.wfile.write(b"a")
    handler.close_connection = True
    return True


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(500), "given up after 4 attempts: .* status 500"),
        (status(429, Retry_After="0"), "given up after 4 attempts: .* status 429"),
        (cut_after(0), "given up after 4 attempts, at byte 0: .* ended before the file did"),
        (hang, "nothing came for too long"),
        (_huge_header, "given up .* no answer"),
        (_many_headers, "given up .* no answer"),
        (_gibberish, "given up .* no answer"),
        (_drip, "given up .* no answer"),
        (status(404), "status 404 "),
        (status(403), "status 403 "),
        (status(302, Location="file:///etc/shadow"), "redirects to where nothing is fetched from.*expected https://"),
        (status(302, Location="http://elsewhere.example/x"), "plain http"),
        (status(302), "does not say where"),
        (status(302, Location="/m.gguf"), "more than 8 redirects"),
        (status(302, Location="http://u:secret@127.0.0.1/x"), "a user or a password"),
    ],
)
def test_what_does_not_pass_ends_with_a_reason(server: Server, tmp_path: Path, fault: Fault, message: str) -> None:
    server.always = fault
    file = remote(server, "/m.gguf")
    patience = Patience(silence_s=0.3, attempts=4, first_wait_s=0.01, longest_wait_s=0.02)
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(tmp_path, file, patience=patience)
    assert time.monotonic() - begun < 60  # bounded; by far less where nothing else runs
    assert "secret" not in str(caught.value)
    server.always = None
    check(fetch(tmp_path, file))  # nothing that came before is in the way


def _serve_with(**headers: str) -> Fault:
    def fault(handler: Handler) -> bool:
        handler.serve(handler.server.files["/m.gguf"], {key.replace("_", "-"): value for key, value in headers.items()})
        handler.close_connection = True
        return True

    return fault


def _endless(handler: Handler) -> bool:
    """No length, and no end."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.ended.is_set():
        handler.wfile.write(b"x" * 65536)
    return True


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_serve_with(Content_Encoding="gzip"), r"answers packed.*\(Content-Encoding: 'gzip'\)"),
        (_serve_with(Content_Type="text/html; charset=utf-8"), "a page in HTML"),
        (_serve_with(Content_Range="bytes 5-9/10"), "Content-Range: got 'bytes 5-9/10'"),
        (_serve_with(Content_Range="bytes 0-9/*"), "Content-Range: got"),
        (_serve_with(Content_Range=f"bytes 0-{SIZE}/{SIZE + 1}"), f"offers {SIZE + 1} bytes, expected {SIZE}"),
        (status(200, Content_Length="12"), f"offers 12 bytes, expected {SIZE}"),
    ],
)
def test_an_answer_that_is_not_the_file(server: Server, tmp_path: Path, fault: Fault, message: str) -> None:
    server.always = fault
    with pytest.raises(DownloadError, match=message):
        fetch(tmp_path, remote(server, "/m.gguf"))


def test_a_body_without_length_and_end(server: Server, tmp_path: Path) -> None:
    server.always = _endless
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        fetch(tmp_path / "unknown", remote(server, "/m.gguf", digest=False, size=False))
    with pytest.raises(DownloadError, match=r"the sha256 digest [0-9a-f]{64}, its source says"):
        fetch(tmp_path / "known", remote(server, "/m.gguf"))  # reads as much as the file has, and no more
    assert not list((tmp_path / "known").glob("*.part"))


def test_a_length_that_is_too_long(server: Server, tmp_path: Path) -> None:
    """The connection ends early, each time: it is no whole file, however often it is tried."""
    server.put("/m.gguf", BODY[:1000])
    server.always = _serve_with(Content_Length=str(SIZE), Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}")
    file = RemoteFile(url=server.url("/m.gguf"), name="m.gguf", size_bytes=SIZE)
    with pytest.raises(DownloadError):
        fetch(tmp_path, file)


def test_a_wrong_digest_is_removed(server: Server, tmp_path: Path) -> None:
    file = remote(server, "/m.gguf")
    server.put("/m.gguf", content(SIZE, "evil"))
    with pytest.raises(DownloadError, match=f"its source says {hashlib.sha256(BODY).hexdigest()}"):
        fetch(tmp_path, file)
    assert list(tmp_path.iterdir()) == []


def test_a_git_blob_has_its_own_digest(server: Server, tmp_path: Path) -> None:
    served: Served = server.put("/config.json", b'{"model_type": "llama"}')
    value = hashlib.sha1(b"blob %d\0" % len(served.body) + served.body).hexdigest()
    file = RemoteFile(
        url=server.url("/config.json"),
        name="config.json",
        size_bytes=len(served.body),
        digest=Digest(kind=DigestKind.GIT_BLOB, value=value),
    )
    check(fetch(tmp_path, file), served.body)


def test_two_at_once_do_not_mix(server: Server, tmp_path: Path) -> None:
    file = remote(server, "/m.gguf")
    with open_downloads(tmp_path, Access(), Notes(), patience=QUICK) as first:
        first.fetch_beginning(file, 100_000)
        with pytest.raises(BusyError, match=r"m\.gguf: another bedplate is fetching this file"):
            fetch(tmp_path, file)
        check(first.fetch(file))


def test_a_whole_file_that_has_a_second_name_is_never_written(server: Server, tmp_path: Path) -> None:
    """The store links what was fetched: a run that begins anew takes another file."""
    file = remote(server, "/m.gguf")
    done = fetch(tmp_path, file)
    kept = tmp_path / "kept"
    os.link(done.path, kept)
    kept.chmod(0o444)
    with open_downloads(tmp_path, Access(), Notes(), patience=QUICK) as downloads:
        downloads.partial(file).restart()
        downloads.fetch_beginning(file, 10)
    assert kept.read_bytes() == BODY


def test_a_whole_file_that_has_a_second_name_is_never_cut(server: Server, tmp_path: Path) -> None:
    """Without a digest only what was noted counts; the rest is not cut off from what the store has meanwhile."""
    file = remote(server, "/m.gguf", digest=False)
    done = fetch(tmp_path, file)
    kept = tmp_path / "kept"
    os.link(done.path, kept)
    note = Path(done.path).with_suffix(".json")
    note.write_text('{"validator": "\\"v1\\"", "durable_bytes": 1000}')
    check(fetch(tmp_path, file))
    assert kept.read_bytes() == BODY


def test_several_connections_give_the_same_bytes(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow link: one connection after the other is added; each asks for pieces of its own, some of which break."""
    monkeypatch.setattr("bedplate.act.download.pace._STARVED", 0.0)
    monkeypatch.setattr("bedplate.act.download.pace._WORTH", 0.0)
    monkeypatch.setattr("bedplate.act.download.pace.ConnectionPlan.update", lambda plan, *_: plan.most)
    monkeypatch.setattr("bedplate.act.download.transfer._PIECE_BYTES", 300_000)
    monkeypatch.setattr("bedplate.act.download.transfer._ALONE_BYTES", 100_000)
    body = content(8_000_003)
    server.put("/m.gguf", body)
    server.faults = [lambda handler: False] + [cut_after(size) for size in (50_000, 0, 120_000, 1)]
    done = fetch(tmp_path, remote(server, "/m.gguf"), access=Access(connections=4))
    check(done, body)
    assert len({text for text in server.ranges() if not text.endswith("-")}) > 10  # pieces that were asked for


def test_progress_says_rate_and_time_left(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bedplate.act.download.fetch._SHOW_S", 0.0)
    notes = Notes()
    fetch(tmp_path, remote(server, "/m.gguf"), notes=notes)
    assert any(" of 2.9 MiB, " in text and "/s, " in text and text.endswith(" left") for text in notes.details), (
        notes.details
    )


def test_the_locks_end_with_the_block(server: Server, tmp_path: Path) -> None:
    file = remote(server, "/m.gguf")
    downloads: Downloads
    for _ in range(2):
        with open_downloads(tmp_path, Access(), Notes(), patience=QUICK) as downloads:
            downloads.fetch_beginning(file, 10)
