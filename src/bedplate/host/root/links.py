"""Paths with their links followed as in a chroot: "..", too, never leads above "/".

Links come from strangers: a chain of forty, each by a long way round, is met again by every file behind it. So each link
is followed once, and what it came to is kept; the files must not change meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

LINKS_LIMIT = 40  # links on the way of one path, as the kernel has it (path_resolution(7))
_KEPT_MOST = 262_144  # directories, and as many links
_LENGTH_MOST = 4096  # PATH_MAX


LinkOf = Callable[[str], str | None]
"""Target of a path that is a link, else None."""


class Links:
    """What is known of the links of one tree."""

    __slots__ = ("_directories", "_ends")

    def __init__(self) -> None:
        self._directories: dict[str, tuple[str, int]] = {}
        """Directory as it was asked for -> (the same without links, links on its way). One lookup a file instead of one
        a name on its path reads 200 CPUs and 400 devices of a recorded /sys three times as fast."""
        self._ends: dict[tuple[str, str], tuple[str | None, int]] = {}
        """Link and target -> (where it leads, links on the way, itself among them); None: there are at least so many."""

    def follow(self, where: str, link_of: LinkOf) -> str:
        """The path without links, "." and ".."; names that are not there stay as they are.

        Raises OSError (ELOOP) after 40 links, and where one leads to a path longer than PATH_MAX.
        """
        directory, _, name = where.rpartition("/")
        if name in ("", ".", ".."):
            return self._walk("", where, 0, link_of)[0] or "/"
        found = self._directories.get(directory)
        if found is None:
            found = self._walk("", directory, 0, link_of)
            if len(self._directories) < _KEPT_MOST:
                self._directories[directory] = found
        return self._walk(found[0], name, found[1], link_of)[0] or "/"

    def _walk(self, at: str, text: str, links: int, link_of: LinkOf) -> tuple[str, int]:
        """(where the names of `text` lead from `at`, "" for the top; links so far). At most 40 calls deep."""
        for name in text.split("/"):
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                continue
            path = f"{at}/{name}"
            target = link_of(path)
            if target is None and not (links and len(path) > _LENGTH_MOST):
                at = path
            elif target is None or len(target) > _LENGTH_MOST:
                raise _endless(path)
            else:
                at, links = self._follow_link(path, target, links, link_of)
        return at, links

    def _follow_link(self, path: str, target: str, links: int, link_of: LinkOf) -> tuple[str, int]:
        end, cost = self._ends.get((path, target), (None, 1))
        if links + cost > LINKS_LIMIT:
            raise _endless(path)
        if end is not None:
            return end, links + cost
        at = "" if target.startswith("/") else path.rpartition("/")[0]
        try:
            end, total = self._walk(at, target, links + 1, link_of)
        except OSError:
            self._keep((path, target), None, LINKS_LIMIT + 1 - links)
            raise
        self._keep((path, target), end, total - links)
        return end, total

    def _keep(self, link: tuple[str, str], end: str | None, cost: int) -> None:
        if len(self._ends) < _KEPT_MOST:
            self._ends[link] = end, cost


def _endless(path: str) -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP), path[:80])
