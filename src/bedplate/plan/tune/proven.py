"""What experiments on this very host said to keep: an experiment is adopted by its proof and by nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.errors import UsageError
from bedplate.model.knob import Knob
from bedplate.model.knob_value import Compare
from bedplate.model.proof import Conditions, Judgement, Proof
from bedplate.model.tuning import Means
from bedplate.plan.proofs import why_expired
from bedplate.plan.tune.builder import PlanBuilder
from bedplate.plan.tune.setting import compare_of, knob_of, parse_of, parse_setting


def plan_proven(builder: PlanBuilder) -> None:
    """A change for each proof that says keep and is valid here; a reason for each that is not."""
    for proof in builder.inputs.proofs:
        name, _, value = proof.subject.rpartition("=")
        try:
            setting = parse_setting(name)
        except UsageError:
            continue  # the proof of a whole plan, which is no setting of its own
        knob = knob_of(setting, builder.inputs.knobs.values())
        id = knob.id if knob is not None else ""
        expired = _why_expired(proof, builder.inputs.now)
        if id and expired:
            builder.skip(id, f"the proof of {proof.made[:10]} has expired: {expired}")
        elif id and proof.judgement is not Judgement.KEEP:
            builder.skip(id, f"{proof.judgement} on this host, {proof.made[:10]}: {proof.because}")
        elif knob is not None and proof.judgement is Judgement.KEEP:
            _adopt(builder, proof, knob, name, value)


def _adopt(builder: PlanBuilder, proof: Proof, knob: Knob, name: str, value: str) -> None:
    setting = parse_setting(name)
    because = f"proved on this host {proof.made[:10]}: {proof.because}"
    parse = parse_of(setting, value, knob)
    if setting.means is Means.FILE:
        builder.file(setting.name, value, knob=knob.id, because=because, parse=parse, compare=compare_of(value, parse))
    elif setting.means is Means.UNIT:
        builder.unit("/" + setting.name, setting.key, value, knob=knob.id, because=because, compare=Compare.EQUAL)


def find_refuted(proofs: Iterable[Proof], now: Conditions | None) -> dict[str, str]:
    """Settings with their value that an experiment on this host found useless or harmful, and what it said."""
    told = (Judgement.NO_EFFECT, Judgement.REVERT)
    return {
        proof.subject: f"{proof.judgement} on this host, {proof.made[:10]}: {proof.because}"
        for proof in proofs
        if proof.judgement in told and not _why_expired(proof, now)
    }


def _why_expired(proof: Proof, now: Conditions | None) -> str:
    return why_expired(proof, now) if now is not None else "this machine's kernel, driver and hardware are not known"
