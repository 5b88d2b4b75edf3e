"""JSON Schema of what `bedplate prove --json` prints, from the dataclasses themselves."""

from __future__ import annotations

import typing
from typing import Any

from bedplate.model.proof import Judgement, Proof
from bedplate.report.json_schema import schema_of

PROOF_SCHEMA_PAGE = "docs/reference/proof.schema.json"


def make_proof_schema(describe: typing.Callable[[type], dict[str, str]] | None = None) -> dict[str, Any]:
    """JSON Schema 2020-12; describe(class) gives the words for each of its fields."""
    definitions: dict[str, Any] = {}
    proof = schema_of(Proof, definitions, describe)
    judgement = schema_of(Judgement, definitions, describe)
    properties = {
        "schema": {"const": 1},
        "judgement": judgement | {"description": "Of all proofs together: harm beside any neighbour reverts."},
        "proofs": {"type": "array", "description": "One for each neighbour.", "items": proof},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What bedplate prove --json prints",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }
