"""XML that may come from anybody: bounded in depth, elements, attributes and length, without a document type that declares.

A declared entity can make gigabytes of a kilobyte, a declared default attribute is copied into each element; none of the
formats that are read here declares anything. nvidia-smi names its DTD and declares nothing in it: that is allowed, and the
DTD is not fetched. The parser is expat by its own interface: it says what is declared, and how far it has come, since
before expat 2.6 a tag that never ends is read again with each piece of it (CVE-2023-52425).
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from bedplate.errors import ReadError

__all__ = ["Element", "parse_xml"]

TEXT_MOST = 16 << 20  # characters
DEPTH_MOST = 64  # hwloc's deepest topologies have some 25 levels
PARTS_MOST = 250_000  # elements and attributes; nvidia-smi has some 800 a device, hwloc some 40 a core
TAG_MOST = 1 << 18  # bytes of one tag or comment
_CHUNK = 1 << 16


def parse_xml(text: str) -> Element:
    """The root element. Raises ReadError for what is no XML, too deep, too large, or declares something."""
    if len(text) > TEXT_MOST:
        raise ReadError(f"the XML is longer than {TEXT_MOST} characters")
    reader = _Reader()
    try:
        for start in range(0, len(text), _CHUNK):
            reader.feed(text[start : start + _CHUNK])
        return reader.close()
    except (expat.ExpatError, ValueError) as error:
        raise ReadError(f"the XML is malformed: {error}") from error


class _Reader:
    """Builds the tree and counts what it takes."""

    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._depth = 0
        self._parts = 0
        self._fed = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.StartDoctypeDeclHandler = self._doctype
        for name in ("EntityDeclHandler", "AttlistDeclHandler", "ElementDeclHandler", "NotationDeclHandler"):
            setattr(parser, name, self._declared)

    def feed(self, text: str) -> None:
        data = text.encode()
        self._fed += len(data)
        self._parser.Parse(text, False)  # a str, so that its declaration of another encoding counts for nothing
        if self._fed - self._parser.CurrentByteIndex > TAG_MOST + len(data):
            raise ReadError(f"the XML has a tag longer than {TAG_MOST} bytes")

    def close(self) -> Element:
        self._parser.Parse("", True)
        return self._builder.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._parts += 1 + len(attributes)
        if self._depth > DEPTH_MOST or self._parts > PARTS_MOST:
            raise ReadError(f"the XML is deeper than {DEPTH_MOST}, or has more than {PARTS_MOST} elements and attributes")
        self._builder.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(tag)

    def _data(self, text: str) -> None:
        if text.strip() or self._depth == 0:
            self._builder.data(text)

    def _doctype(self, name: str, system: str | None, public: str | None, has_internal_subset: int) -> None:
        if has_internal_subset:
            self._declared()

    def _declared(self, *_: object) -> None:
        raise ReadError("the XML has a document type that declares something")
