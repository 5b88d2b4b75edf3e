"""The Hugging Face hub's protocol, which mirrors speak, too: a revision's commit, its list of files, and where each lies.

    GET /api/models/ORG/NAME/revision/REVISION        {"sha": COMMIT, ...}
    GET /api/models/ORG/NAME/tree/COMMIT?recursive=true    [{"type": "file", "path": ..., "size": ..., "oid": ...,
                                                             "lfs": {"oid": SHA-256, "size": ...}}, ...]; Link: next page
    GET /ORG/NAME/resolve/COMMIT/PATH                 the file, mostly behind a redirect to another host

Source: huggingface_hub (hf_api.py, file_download.py). All of it is input from strangers: names that lead anywhere else than
into one directory are left out, and every answer is bounded.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urljoin

from bedplate.act.download.address import check_address, origin_of
from bedplate.act.download.fetch import fetch_text
from bedplate.errors import DownloadError
from bedplate.model.download import Access, Digest, DigestKind, Patience, RemoteFile
from bedplate.model.pulling import HubSource, Repository, RepositoryFile
from bedplate.weights.gguf import printable
from bedplate.weights.index import DIGEST, is_file_name

_LIST_BYTES = 16 << 20  # of one page: 1,000 entries have some 500 KB
_MOST_PAGES = 64
_MOST_FILES = 50_000
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAIN = "main"
_NO_ACCESS = (
    "The name may be wrong. If the model is private or gated, accept its conditions on its page, and give a token of that"
    " account: HF_TOKEN, or --token-file FILE."
)


def read_repository(source: HubSource, endpoint: str, access: Access, *, patience: Patience | None = None) -> Repository:
    """What the hub lists, at the commit that the revision is now. Raises DownloadError."""
    check_address(endpoint, plain_http=access.plain_http)
    base = f"{endpoint}/api/models/{source.repository}"
    revision = quote(source.revision or _MAIN, safe="")
    answer, _ = _ask(source, f"{base}/revision/{revision}", access, patience)
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise DownloadError(f"{source}: {endpoint}: does not say a commit: got {str(commit)[:60]!r}")
    if _COMMIT.fullmatch(source.revision) and commit != source.revision:
        raise DownloadError(f"{source}: {endpoint}: gives commit {commit} for it")
    files: dict[str, RepositoryFile] = {}
    left_out: list[str] = []
    url = f"{base}/tree/{commit}?recursive=true"
    for _ in range(_MOST_PAGES):
        rows, link = _ask(source, url, access, patience)
        if not isinstance(rows, list):
            raise DownloadError(f"{source}: {endpoint}: its list of files is no list")
        for row in rows:
            file = parse_file(row)
            if isinstance(file, str):
                left_out.append(file)
            elif file is not None:
                files[file.path] = file
        if len(files) > _MOST_FILES:
            raise DownloadError(f"{source}: {endpoint}: lists more than {_MOST_FILES} files")
        following = re.search(r'<([^<>]{1,2000})>\s*;\s*rel="?next"?', link)
        if following is None:
            return Repository(
                source=source,
                endpoint=endpoint,
                commit=commit,
                files=tuple(files[path] for path in sorted(files)),
                left_out=tuple(left_out),
            )
        url = urljoin(url, following[1])
        if origin_of(url) != origin_of(endpoint):
            raise DownloadError(f"{source}: {endpoint}: its list goes on at another host, {origin_of(url)}")
    raise DownloadError(f"{source}: {endpoint}: its list has more than {_MOST_PAGES} pages")


def parse_file(row: Any) -> RepositoryFile | str | None:
    """One row of a list: a file; the printable path of one that is no plain name or size; None for a directory."""
    if not isinstance(row, dict) or row.get("type") != "file":
        return None
    path, size, large = row.get("path"), row.get("size"), row.get("lfs")
    if not isinstance(path, str) or not _is_plain(path):
        return printable(str(path), 100)
    digest: Digest | None = None
    if isinstance(large, dict):
        size, value = large.get("size", size), str(large.get("oid", large.get("sha256", ""))).removeprefix("sha256:")
        if DIGEST.fullmatch(value):
            digest = Digest(kind=DigestKind.SHA256, value=value)
    elif _COMMIT.fullmatch(str(row.get("oid", ""))):
        digest = Digest(kind=DigestKind.GIT_BLOB, value=row["oid"])
    if type(size) is not int or not 0 <= size < 2**50:
        return printable(path, 100)
    return RepositoryFile(path=path, size_bytes=size, digest=digest)


def remote_file(repository: Repository, file: RepositoryFile) -> RemoteFile:
    """Where a file of a repository is fetched, at its commit, and what the hub's headers must say of it on the way."""
    headers = [("X-Repo-Commit", repository.commit), ("X-Linked-Size", str(file.size_bytes))]
    if file.digest is not None and file.digest.kind is DigestKind.SHA256:
        headers.append(("X-Linked-ETag", file.digest.value))
    return RemoteFile(
        url=f"{repository.endpoint}/{repository.source.repository}/resolve/{repository.commit}/{quote(file.path)}",
        name=file.name,
        size_bytes=file.size_bytes,
        digest=file.digest,
        expected_headers=tuple(headers),
    )


def _is_plain(path: str) -> bool:
    """Whether each part of a path is a name that stays where it is put."""
    parts = path.split("/")
    return len(path) <= 1000 and "\\" not in path and len(parts) <= 16 and all(part and is_file_name(part) for part in parts)


def _ask(source: HubSource, url: str, access: Access, patience: Patience | None) -> tuple[Any, str]:
    try:
        body, link = fetch_text(url, access, limit_bytes=_LIST_BYTES, patience=patience)
    except DownloadError as error:
        hint = _NO_ACCESS if error.status in (401, 403, 404) else error.hint
        raise DownloadError(f"{source}: {error.message}", status=error.status, hint=hint) from error
    try:
        return json.loads(body), link
    except (ValueError, RecursionError) as error:
        raise DownloadError(
            f"{source}: {origin_of(url)}: answers with no list, but {body[:40]!r}",
            hint="A page to log in of the network may have answered; or HF_ENDPOINT names something else than a hub.",
        ) from error
