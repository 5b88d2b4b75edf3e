"""Where a model of the store came from, by the words of whoever pulled it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Stands in the record of a model, beside the model itself."""

    source: str
    """"hf:ORG/NAME", the address without its query, or the path of what was pulled."""
    endpoint: str = ""
    """The hub or mirror that was asked, "https://…"; "" where there is none."""
    revision: str = ""
    """The commit of the hub's repository, in hex, also where a branch was asked for; "" where there is none."""
    stated: bool = False
    """Whether the source had said a digest for each weights file, which the content has."""
