"""The forms of apt's source files: lines of sources.list, stanzas of *.sources, as sources.list(5) describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ONE_LINE = re.compile(
    r"deb[ \t]+(?:\[(?P<options>[^\]\n]*)\][ \t]+)?(?P<uri>[^\s\[\]]+)[ \t]+(?P<suite>\S+)(?P<components>.*)"
)
# What a release upgrade of Ubuntu writes behind a line that it takes out.
SWITCHED_OFF = "disabled on upgrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource:
    """An archive of binary packages in the configuration of apt; a deb822 stanza makes one for each of its URIs."""

    uri: str
    suites: tuple[str, ...]
    """A suite that ends with "/" is a directory without components."""
    components: tuple[str, ...]
    signed_by: str
    """Path or text of the key; empty when apt's trusted keys are used."""
    enabled: bool


def parse_one_line(text: str) -> Iterator[AptSource]:
    """Sources of the old format: "deb [signed-by=/k.gpg] http://mirror/debian trixie main" is one.

    A commented line is none, unless an upgrade of the release switched it off: then it is not enabled.
    """
    for raw in text.splitlines():
        line = raw.strip()
        is_off = line.startswith("#") and SWITCHED_OFF in line
        match = _ONE_LINE.fullmatch((line.lstrip("# \t") if is_off else line).split("#", 1)[0].strip())
        if match is not None:
            options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
            yield AptSource(
                uri=match["uri"],
                suites=(match["suite"],),
                components=tuple(match["components"].split()),
                signed_by=options.get("signed-by", ""),
                enabled=not is_off,
            )


def parse_deb822(text: str) -> Iterator[AptSource]:
    """Sources of the deb822 format; `Enabled: no` makes those that are not enabled."""
    for fields in parse_stanzas(text):
        if "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            yield AptSource(
                uri=uri,
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", ""),
                enabled=fields.get("enabled", "yes").lower() not in ("no", "false", "without", "off", "disable", "0"),
            )


def parse_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Stanzas of `Key: value` with continuation lines, as deb822(5) has them; keys in small letters, no comments."""
    fields: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, key = {}, ""
        elif line[:1] in (" ", "\t"):
            if key:
                fields[key] = f"{fields[key]} {line.strip()}".strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            fields[key] = value.strip()
