"""A hub on loopback, as Hugging Face's answers: a commit, a list in pages, and files behind redirects to another host."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.pull.server import Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".gguf", ".safetensors")


def put_repository(
    hub: Server,
    name: str,
    files: dict[str, bytes],
    *,
    store: Server | None = None,
    commit: str = COMMIT,
    revision: str = "main",
    rows: list[dict[str, Any]] | None = None,
) -> None:
    """A repository at one commit; weights are in LFS, on `store` where there is one. rows: more of the list."""
    hub.put(f"/api/models/{name}/revision/{revision}", json.dumps({"id": name, "sha": commit}).encode())
    hub.put(f"/api/models/{name}/revision/{commit}", json.dumps({"id": name, "sha": commit}).encode())
    listed: list[dict[str, Any]] = [{"type": "directory", "path": "x", "size": 0, "oid": "0" * 40}, *(rows or [])]
    for path, body in files.items():
        row: dict[str, Any] = {"type": "file", "path": path, "size": len(body)}
        row["oid"] = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        where = f"/{name}/resolve/{commit}/{path}"
        if path.endswith(LARGE):
            digest = hashlib.sha256(body).hexdigest()
            row["lfs"] = {"oid": digest, "size": len(body), "pointerSize": 134}
            headers = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{digest}"'}
            if store is not None:
                store.put(f"/lfs/{digest}", body, etag=f'"{digest[:32]}"')
                hub.put(where, b"", headers=headers, redirect=store.url(f"/lfs/{digest}?X-Signature=s3cret"))
            else:
                hub.put(where, body, headers=headers)
        else:
            hub.put(where, body, headers={"X-Repo-Commit": commit}, etag=f'"{row["oid"]}"')
        listed.append(row)
    half = len(listed) // 2
    tree = f"/api/models/{name}/tree/{commit}"
    hub.put(tree, json.dumps(listed[:half]).encode(), headers={"Link": f'<{hub.url(tree)}/2?cursor=abc>; rel="next"'})
    hub.put(f"{tree}/2", json.dumps(listed[half:]).encode())
