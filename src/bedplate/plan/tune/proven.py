"""What experiments on this very host said to keep: an experiment is adopted by its proof and by nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.errors import UsageError
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob
from bedplate.model.knob_value import Compare
from bedplate.model.proof import Judgement, Proof
from bedplate.model.tuning import Means
from bedplate.plan.tune.draft import Draft
from bedplate.plan.tune.setting import compare_of, knob_of, parse_of, parse_setting


def plan_proven(draft: Draft) -> None:
    """A change for each proof that says keep and is valid here; a reason for each that is not."""
    for proof in draft.case.proofs:
        name, _, value = proof.subject.rpartition("=")
        try:
            setting = parse_setting(name)
        except UsageError:
            continue  # the proof of a whole plan, which is no setting of its own
        knob = knob_of(setting, draft.case.knobs.values())
        id = knob.id if knob is not None else ""
        expired = expires(proof, draft.case.facts)
        if id and expired:
            draft.skip(id, f"the proof of {proof.made[:10]} has expired: {expired}")
        elif id and proof.judgement is not Judgement.KEEP:
            draft.skip(id, f"{proof.judgement} on this host, {proof.made[:10]}: {proof.because}")
        elif knob is not None and proof.judgement is Judgement.KEEP:
            _adopt(draft, proof, knob, name, value)


def _adopt(draft: Draft, proof: Proof, knob: Knob, name: str, value: str) -> None:
    setting = parse_setting(name)
    because = f"proved on this host {proof.made[:10]}: {proof.because}"
    parse = parse_of(setting, value, knob)
    if setting.means is Means.FILE:
        draft.file(setting.name, value, knob=knob.id, because=because, parse=parse, compare=compare_of(value, parse))
    elif setting.means is Means.UNIT:
        draft.unit("/" + setting.name, setting.key, value, knob=knob.id, because=because, compare=Compare.EQUAL)


def find_refuted(proofs: Iterable[Proof], facts: HostFacts) -> dict[str, str]:
    """Settings with their value that an experiment on this host found useless or harmful, and what it said."""
    told = (Judgement.NO_EFFECT, Judgement.REVERT)
    return {
        one.subject: f"{one.judgement} on this host, {one.made[:10]}: {one.because}"
        for one in proofs
        if one.judgement in told and not expires(one, facts)
    }


def expires(proof: Proof, facts: HostFacts) -> str:
    """Why a proof does not count any more; "" when it does. Engines are compared where one runs."""
    kernel = facts.kernel.release.value
    if kernel is None or proof.kernel != kernel:
        return f"it was made under kernel {proof.kernel}, this is {kernel or 'not known'}"
    cpus = len(facts.cpu.online)
    if f", {cpus} CPUs" not in proof.machine:
        return f"it was made on {proof.machine}, this machine has {cpus} CPUs"
    model = facts.cpu.model_name.value
    if model is not None and not proof.machine.startswith(model):
        return f"it was made on {proof.machine}, this is {model}"
    versions = {one.driver_version.value for one in facts.accelerators if one.driver_version.value}
    if versions and not any(version in proof.driver for version in versions):
        return f"it was made with driver {proof.driver or 'none'}, this is {', '.join(sorted(versions))}"
    return ""
