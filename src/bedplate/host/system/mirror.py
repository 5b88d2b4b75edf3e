"""Which mirror this host's apt configuration gets Debian from, so that images are built from the same one.

Reads sources.list (one line each) and *.sources (deb822), as sources.list(5) describes them. Takes only http and https
archives of Debian's own suites with the component main; a source that is disabled, or signed by a key that is not Debian's
own archive key, is a third party's and is left alone. An Ubuntu host names no Debian mirror: both fields are None there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bedplate.host.root.root import Root
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
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource:
    """An enabled archive of binary packages in the configuration of apt; a deb822 stanza makes one for each of its URIs."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str
    """Path or text of the key; empty when apt's trusted keys are used."""


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
        yield from (parse_deb822(text) if name.endswith(".sources") else parse_one_line(text))


def parse_one_line(text: str) -> Iterator[AptSource]:
    """Sources of the old format: "deb [signed-by=/k.gpg] http://mirror/debian trixie main" is one."""
    for raw in text.splitlines():
        match = _ONE_LINE.fullmatch(raw.split("#", 1)[0].strip())
        if match is not None:
            options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
            yield AptSource(
                uri=match["uri"],
                suites=(match["suite"],),
                components=tuple(match["components"].split()),
                signed_by=options.get("signed-by", ""),
            )


def parse_deb822(text: str) -> Iterator[AptSource]:
    """Sources of the deb822 format: stanzas of `Key: value` with continuation lines; `Enabled: no` leaves one out."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and key:
                fields[key] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                key = name.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        for uri in fields.get("uris", "").split():
            yield AptSource(
                uri=uri,
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", ""),
            )


def _is_debians(source: AptSource) -> bool:
    # A path to Debian's own keyring, or no key at all: then apt.conf's trusted keys vouch, as Debian 11 and 12 install it.
    return not source.signed_by or Path(source.signed_by.split()[0]).name.startswith("debian-archive")
