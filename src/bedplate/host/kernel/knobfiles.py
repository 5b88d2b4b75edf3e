"""Text of the kernel files that the catalog's rows name, by path or by glob: HostFacts.knobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, missing

KNOB_LIMIT = 256 << 10  # bytes of one file; the largest that a row names is a page or two
_MATCHES_LIMIT = 4096  # files of one glob: a policy for each of 1024 CPUs and some room


def read_knob_files(root: Root, paths: Iterable[str]) -> tuple[Reading[str], ...]:
    """One reading a file, by path. A glob without a match stands once under its own text, with the reason."""
    found: dict[str, Reading[str]] = {}
    for path in sorted(set(paths)):
        if "*" not in path:
            found[path] = root.read(path, limit=KNOB_LIMIT)
            continue
        matches = list(_expand(root, path))
        for match in matches[:_MATCHES_LIMIT]:
            reading = root.read(match, limit=KNOB_LIMIT)
            if reading.unknown not in (Unknown.ABSENT, Unknown.NOT_RECORDED):
                found[match] = reading
        if not any(match in found for match in matches):
            found[path] = missing(_why_none(root, path), path)
    return tuple(found[path] for path in sorted(found))


def _expand(root: Root, pattern: str) -> Iterator[str]:
    """Paths that a glob matches; "*" stands for any text within one name, not for a leading dot."""
    before, star, after = pattern.partition("*")
    if not star:
        yield pattern
        return
    directory, _, start = before.rpartition("/")
    rest, slash, below = after.partition("/")
    matches = re.compile(re.escape(start + "*" + rest).replace(r"\*", "[^/]*")).fullmatch
    for name in root.listdir(directory or "/"):
        if matches(name) and not (name.startswith(".") and not start):
            yield from _expand(root, f"{directory}/{name}{slash}{below}")


def _why_none(root: Root, pattern: str) -> Unknown:
    directory = pattern[: pattern.index("*")].rpartition("/")[0]
    return root.names(directory or "/").unknown or Unknown.ABSENT
