"""Which mirror this host's apt configuration gets Debian from, so that images are built from the same one.

Takes only http and https
archives of Debian's own suites with the component main; a source that is disabled, or signed by a key that is not Debian's
own archive key, is a third party's and is left alone. An Ubuntu host names no Debian mirror: both fields are None there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bedplate.host.root.root import Root
from bedplate.host.system.apt_sources import AptSource, parse_deb822, parse_one_line
from bedplate.model.buildhost import Mirror

# Code names and the aliases that stand for them; a suite outside this list is not Debian's.
_SUITES = {
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "oldoldstable",
}


def read_debian_mirror(root: Root) -> Mirror:
    """The first main and the first security archive in apt's own order of files; None where there is none."""
    main = security = None
    for source in read_sources(root):
        if not source.uri.startswith(("http://", "https://")) or "main" not in source.components or not _is_debians(source):
            continue
        for suite in source.suites:
            base, _, pocket = suite.replace("/", "-").partition("-")
            if base not in _SUITES:
                continue
            uri = source.uri.rstrip("/")
            if pocket in ("security", "updates") and uri.endswith("-security"):
                security = security or uri
            elif pocket in ("", "updates", "backports"):
                main = main or uri
    return Mirror(main=main, security=security)


def read_sources(root: Root) -> Iterator[AptSource]:
    """All enabled binary sources of etc/apt, in the order in which apt reads them; a missing file is no source."""
    folder = "/etc/apt/sources.list.d"
    names = [f"{folder}/{name}" for name in root.listdir(folder) if name.endswith((".list", ".sources"))]
    for name in ["/etc/apt/sources.list", *names]:
        text = root.read_text(name) or ""
        sources = parse_deb822(text) if name.endswith(".sources") else parse_one_line(text)
        yield from (source for source in sources if source.enabled)


def _is_debians(source: AptSource) -> bool:
    # A path to Debian's own keyring, or no key at all: then apt.conf's trusted keys vouch, as Debian 11 and 12 install it.
    return not source.signed_by or Path(source.signed_by.split()[0]).name.startswith("debian-archive")
