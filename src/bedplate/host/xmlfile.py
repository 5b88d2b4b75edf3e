"""XML that may come from anybody: bounded in depth and size, without document types that define entities.

The parser of the standard library expands entities, so a kilobyte can become gigabytes; none of the formats that are read
here has any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from bedplate.errors import ReadError

__all__ = ["Element", "parse_xml"]

TEXT_MOST = 16 << 20  # characters
DEPTH_MOST = 64  # hwloc's deepest topologies have some 25 levels
ELEMENTS_MOST = 1_000_000
_CHUNK = 1 << 16


def parse_xml(text: str) -> Element:
    """The root element. Raises ReadError for what is no XML, too deep, too large, or defines entities."""
    if len(text) > TEXT_MOST:
        raise ReadError(f"the XML is longer than {TEXT_MOST} characters")
    if "<!ENTITY" in text:
        raise ReadError("the XML defines entities")
    parser: XMLPullParser[Element] = XMLPullParser(events=("start", "end"))
    depth, seen = 0, 0
    root: Element | None = None
    try:
        for start in range(0, len(text), _CHUNK):
            parser.feed(text[start : start + _CHUNK])
            for event, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
                depth += 1 if event == "start" else -1
                seen += 1
                root = element if root is None else root
                if depth > DEPTH_MOST or seen > 2 * ELEMENTS_MOST:
                    raise ReadError(f"the XML is deeper than {DEPTH_MOST} or has more than {ELEMENTS_MOST} elements")
        parser.close()
    except (ParseError, ValueError) as error:
        raise ReadError(f"the XML is malformed: {error}") from error
    if root is None:
        raise ReadError("the XML has no element")
    return root
