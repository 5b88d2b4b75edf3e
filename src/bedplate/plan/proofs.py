"""When the proof of an experiment holds: the one answer, for plans that rest on proofs and for the list of records."""

from __future__ import annotations

from bedplate.model.proof import Conditions, Proof


def why_expired(proof: Proof, now: Conditions) -> str:
    """ "kernel: 6.12.1 then, 6.12.9 now"; "" while it holds. An empty engine now is not known, and expires nothing."""
    compared = (
        ("kernel", proof.kernel, now.kernel),
        ("driver", proof.driver, now.driver),
        ("machine", proof.machine, now.machine),
        ("engine", proof.engine, now.engine or proof.engine),
    )
    for name, then, there in compared:
        if then != there:
            return f"{name}: {then or 'none'} then, {there or 'none'} now"
    return ""
