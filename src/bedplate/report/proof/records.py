"""Saved verdicts, and what a victim is sensitive to, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from bedplate.model.proof import Proof


def proof_object(proof: Proof, file: str, expired: str) -> dict[str, Any]:
    """A saved proof without its samples, for JSON; `expired` is "" for one that holds."""
    row = asdict(proof)
    del row["samples"]
    return {"file": file, "expired": expired, **row}


def render_record(proof: Proof, file: str, expired: str) -> str:
    """Three lines of a saved proof: what was judged, why, and its file with the reason why it has expired; "" for one that
    holds."""
    beside = ", ".join(proof.antagonists) or "no neighbour"
    return (
        f"{proof.made}  {proof.judgement:<9}  {proof.subject}, beside {beside}, {proof.victim}\n"
        f"    {proof.because}\n"
        f"    {file}{f' (expired: {expired})' if expired else ''}\n"
    )


def render_sensitivities(rows: Iterable[Mapping[str, Any]]) -> str:
    """A heading and a line for each row of `sensitivities` in the JSON of `bedplate prove --sensitivity`."""
    lines = [f"{'neighbour':<22}{'median latency':>28}{'p99':>9}{'work lost':>11}{'pairs':>7}   % for each % of noise"]
    for row in rows:
        middle = f"{row['latency_slope']:+.2f} ({row['latency_low']:+.2f} to {row['latency_high']:+.2f})"
        slopes = f"{row['tail_slope']:>+9.2f}{row['rate_slope']:>+11.2f}"
        lines.append(f"{row['antagonist']:<22}{middle:>28}{slopes}{row['pairs']:>7}")
    return "\n".join(lines) + "\n"
