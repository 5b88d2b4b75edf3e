"""Whether a model fits, as one JSON object of schema "bedplate.fit/1", and that schema, made from the same dataclasses."""

from __future__ import annotations

import json
import typing
from typing import Any

from bedplate.model.fit import FitModel, FitReport, FitResult, FitWish
from bedplate.report.json_schema import plain, schema_of

FIT_SCHEMA = "bedplate.fit/1"
FIT_SCHEMA_PAGE = "docs/reference/fit.schema.json"


def render_fit_document(report: FitReport) -> str:
    """One JSON object with a line end; the same bytes for the same report."""
    document = {
        "schema": FIT_SCHEMA,
        "bedplate": report.version,
        "holds": report.holds,
        "model": plain(report.model),
        "wish": plain(report.wish),
        "results": plain(report.results),
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode(errors="backslashreplace").decode() + "\n"


def make_fit_schema(describe: typing.Callable[[type], dict[str, str]] | None = None) -> dict[str, Any]:
    """JSON Schema 2020-12 of that object; describe(class) gives the words for each of its fields."""
    definitions: dict[str, Any] = {}
    properties = {
        "schema": {"const": FIT_SCHEMA},
        "bedplate": {"type": "string", "description": "Version of bedplate that made it."},
        "holds": {"type": "boolean", "description": "Whether one of the results fits."},
        "model": schema_of(FitModel, definitions, describe),
        "wish": schema_of(FitWish, definitions, describe),
        "results": {"type": "array", "items": schema_of(FitResult, definitions, describe)},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{FIT_SCHEMA}: what bedplate fit --json prints",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }
