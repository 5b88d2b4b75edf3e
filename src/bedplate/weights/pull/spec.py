"""What a person types to be pulled: hf:ORG/NAME[@REVISION], https://HOST/FILE, file:///PATH, or a path."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from bedplate.errors import UsageError
from bedplate.model.pulling import AddressSource, HubSource, PathSource

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB = re.compile(rf"(?P<repository>{_NAME}(?:/{_NAME})?)(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?", re.ASCII)


def parse_pull_source(text: str) -> HubSource | AddressSource | PathSource:
    """ "hf:org/name@main" -> HubSource. Raises UsageError; the text is not shown where it may hold a secret."""
    if text.startswith("hf:"):
        found = _HUB.fullmatch(text.removeprefix("hf:"))
        if found is None or ".." in text or "--" in found["repository"] or found["repository"].endswith((".git", ".ipynb")):
            raise UsageError(
                f"{text[:120]!r}: expected hf:ORG/NAME or hf:ORG/NAME@REVISION, names of letters, digits and . _ -",
                hint="Copy ORG/NAME from the page of the model.",
            )
        return HubSource(repository=found["repository"], revision=found["revision"] or "")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text)
    if scheme is not None and scheme[1].lower() in ("http", "https"):
        return AddressSource(url=text)
    if text.startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or "\0" in unquote(parts.path):
            raise UsageError(f"{text[:120]!r}: expected file:///PATH of this host")
        return PathSource(path=unquote(parts.path))
    if scheme is not None and text[scheme.end() :].startswith("//"):
        raise UsageError(
            f"{scheme[1]}: nothing is pulled by this scheme", hint="Use hf:ORG/NAME, https://HOST/FILE or a path."
        )
    if not text:
        raise UsageError("'': is nothing to pull", hint="Use hf:ORG/NAME, https://HOST/FILE or a path.")
    return PathSource(path=text)
