"""What a parameter of the inference protocol does on an engine: the values of catalog/protocol.toml."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ParameterEffect(StrEnum):
    """What becomes of a parameter; there is no fourth: nothing is ignored in silence."""

    WORKS = "works"
    REFUSED = "refused"
    """The front answers 400 and names the parameter."""
    NONE = "none"
    """It is taken and changes nothing, for a reason that the row gives."""


class JsonKind(StrEnum):
    """A type of JSON; null is allowed everywhere and means that the parameter is not given."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRow:
    """What one parameter does on some paths of one engine, and the request that shows it; fields are the keys of a row."""

    engine: str
    paths: tuple[str, ...]
    name: str
    """As clients write it; "stream_options.include_usage" is a member of an object, "tools[].type" of each element."""
    kinds: tuple[JsonKind, ...]
    effect: ParameterEffect
    because: str = ""
    """Why it is refused, has no effect, or takes some values only; a sentence for the client."""
    values: tuple[str, ...] = ()
    """The values that are taken, as JSON; the others are refused. () takes all."""
    example: str = ""
    """A value as JSON; "" for what every request has."""
    other: str = ""
    """A value, as JSON, that is refused although its type is right."""
    request: str = "{}"
    """Members, as a JSON object, that the request with the example needs beside it."""
    setting: str = ""
    """The setting of the engine's sampler that the example changes."""
    becomes: str = ""
    """What that setting becomes, as JSON, where it is not the example itself; "*" for anything but empty."""
    shows: str = ""
    """A place of the answer, like choices.1.index, that is there with the example; with =JSON, its value."""
    changes: str = ""
    """A place of the answer whose value the example changes, each time to the same other one."""
