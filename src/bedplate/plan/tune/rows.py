"""All other rows of the catalog: settings that somebody made and nobody needs go back to the kernel's default, and
whatever is left alone says why.

Only what harms or does nothing is taken away, and only what has evidence is set: an experiment waits for its proof.
"""

from __future__ import annotations

from bedplate.model.knob import Grade, Knob, Need, Outcome, Verdict
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.policy import Part
from bedplate.model.tuning import Means, Setting
from bedplate.plan.knobs.judge import Judged, Result, judge
from bedplate.plan.tune.draft import Draft

_TAKEN_BACK = (Verdict.CARGO_CULT, Verdict.HARMFUL, Verdict.REJECT, Verdict.LEAVE, Verdict.DEAD)
_HARDENING = ("pci.iommu-strict",)  # whoever gave a parameter that costs speed for safety meant it
_WANTS_SETTING = (
    "mem.minfree",
    "cargo.min-free",
)  # the kernel computes it: only what a file sets at boot is somebody's choice
_MOST_FILES = 64
_FILES = ("/proc/sys/", "/sys/")
_NOT_FILES = ("/sys/fs/cgroup/", "/sys/kernel/debug/", "/sys/fs/resctrl/")
_PSI = "hk.psi"


def plan_rows(draft: Draft) -> None:
    """Every row of the catalog that no other part has spoken of."""
    told = {one.knob for one in draft.changes} | set(draft.skips) | set(draft.parts)
    for knob in draft.case.knobs.values():
        if knob.id not in told:
            _plan_row(draft, knob)


def _plan_row(draft: Draft, knob: Knob) -> None:
    policy = draft.case.policy
    if knob.id in policy.forbid:
        draft.skip(knob.id, f"policy {policy.id} forbids it: {policy.because}")
        return
    judged = judge(knob, draft.case.facts, draft.case.files)
    if judged.dead or judged.outcome is not Outcome.DOES_NOT_HOLD:
        draft.skip(knob.id, _untouched(knob, judged))
        return
    failed = [one for one in judged.results if one.outcome is Outcome.DOES_NOT_HOLD and one.sample is not None]
    before = len(draft.changes)
    if knob.verdict in _TAKEN_BACK and Part.CLEANUP in policy.parts and knob.id not in _HARDENING:
        for one in failed[:_MOST_FILES]:
            _take_back(draft, knob, one)
    elif knob.verdict is Verdict.ADOPT and knob.id == "pwr.governor" and Part.POWER in policy.parts:
        for one in failed[:_MOST_FILES]:
            _write(draft, knob, one, f"{one.because}: {knob.why}")
    elif knob.id == _PSI:
        setting = Setting(means=Means.CMDLINE, name="psi")
        why = "without pressure figures nobody sees what an engine waits for"
        needs = (Need.ROOT, Need.REBOOT)
        draft.want(setting, "1", old=None, knob=knob.id, because=why, parse=Parse.FLAG, needs=needs)
    if len(draft.changes) == before:
        draft.skip(knob.id, _left(knob, judged))


def _take_back(draft: Draft, knob: Knob, result: Result) -> None:
    if knob.id == "mem.hugetlb":
        _give_back_pages(draft, knob, result)
        return
    if result.check.parameter:
        reading = result.sample.reading if result.sample is not None else None
        if reading is None or reading.value is None:
            return
        setting = Setting(means=Means.CMDLINE, name=result.check.parameter)
        needs = (Need.ROOT, Need.REBOOT)
        because = f"{reading.text}: {knob.why}"
        draft.want(
            setting,
            "",
            old=reading.value,
            knob=knob.id,
            because=because,
            parse=Parse.WORDS,
            compare=Compare.ABSENT,
            needs=needs,
        )
        return
    if knob.id in _WANTS_SETTING and not draft.case.files.set_at_boot(_path(result)):
        return
    _write(draft, knob, result, f"{result.because}: {knob.why}")


def _give_back_pages(draft: Draft, knob: Knob, result: Result) -> None:
    """A pool of which not one page is used; the sample names its directory."""
    for size, total, _ in draft.case.facts.memory.huge_pages:
        if _path(result).endswith(f"hugepages-{size // 1024}kB"):
            path, because = f"{_path(result)}/nr_hugepages", f"{result.because}: {knob.why}"
            draft.file(path, "0", knob=knob.id, because=because, parse=Parse.NUMBER, old=str(total))


def _write(draft: Draft, knob: Knob, result: Result, because: str) -> None:
    path = _path(result)
    if result.check.fact or not result.want or not path.startswith(_FILES) or path.startswith(_NOT_FILES):
        return
    draft.file(path, result.want, knob=knob.id, because=because, parse=result.check.parse)


def _path(result: Result) -> str:
    return result.sample.reading.source if result.sample is not None else ""


def _untouched(knob: Knob, judged: Judged) -> str:
    """Why a row asks for nothing here."""
    if judged.dead:
        return f"{judged.because}: delete the line (bedplate doctor has the command)"
    if knob.verdict is Verdict.EXPERIMENT:
        return f"not shown to pay here: bedplate prove --knob {knob.id}"
    match judged.outcome:
        case Outcome.HOLDS:
            return f"holds already: {judged.because}" if judged.because else "holds already"
        case Outcome.DOES_NOT_APPLY:
            if not knob.check and knob.knob:
                return f"is a form of {knob.knob}, which is judged itself"
            return f"does not apply: {judged.because or knob.applies}"
        case Outcome.UNKNOWN:
            return f"cannot be told: {judged.because}"
        case Outcome.REPORTED:
            return f"nothing is wanted of it: {judged.because}"
        case _:
            return judged.because or "facts cannot decide it"


def _left(knob: Knob, judged: Judged) -> str:
    """Why a row that does not hold is left as it is."""
    unproven = knob.verdict in (Verdict.EXPERIMENT, Verdict.CONDITIONAL) or knob.grade in (Grade.C, Grade.N)
    if unproven and knob.verdict not in (*_TAKEN_BACK, Verdict.AUDIT, Verdict.HARMLESS):
        return f"not shown to pay here: bedplate prove --knob {knob.id} ({judged.because})"
    if knob.verdict is Verdict.HARMLESS:
        return f"nothing to gain: {judged.because}"
    return f"{judged.because}: no plan can change it; bedplate explain {knob.id} says what can be done"
