"""The models that an OpenAI-compatible endpoint lists at /v1/models. Apart from the client, which loads slowly."""

from __future__ import annotations

import json
from dataclasses import dataclass

_EXPECTED = 'expected {"data": [{"id": "NAME"}, ...]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A row of the list; `owner` is the engine by its own word ("vllm", "llamacpp"), "" where it does not say."""

    id: str
    owner: str = ""


def parse_served(body: str | bytes) -> tuple[ServedModel, ...]:
    """The models in the order of the list: '{"data": [{"id": "qwen", "owned_by": "vllm"}]}'; () for an empty one.

    Raises ValueError for another text, and for a row whose id is no text.
    """
    try:
        rows = json.loads(body)["data"]
        found = [(row["id"], row.get("owned_by")) for row in rows]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{_EXPECTED}: {error!r}") from error
    if not all(isinstance(name, str) for name, _ in found):
        raise ValueError(f"{_EXPECTED}: an id is no text")
    return tuple(ServedModel(id=name, owner=owner if isinstance(owner, str) else "") for name, owner in found)
